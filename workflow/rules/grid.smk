# Table 1: every value of w for the Extractor and for the Separator with each constrained stem; the same on validation
# chunks for settings that the test split has not seen; and MSDM with each constrained stem.


rule grid:
    input:
        model=lambda wildcards: row_files(wildcards.method),
        windows=lambda wildcards: windows(part(wildcards.split)),
        sources=MODEL_SOURCES + ROW_SOURCES + sources("metrics/si_sdr.py", "study/scoring.py"),
    output:
        "<results>/grid/{split}/{method}.csv",
    log:
        "<results>/logs/grid/{split}/{method}.log",
    benchmark:
        "<results>/benchmarks/grid/{split}-{method}.tsv"
    priority: 20
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        cells=lambda wildcards: [row.model_dump() for row in STUDY.grid_cells(wildcards.method, wildcards.split)],
        chunks=lambda wildcards: STUDY.grid_chunks(wildcards.split),
        seed=config["seed"],
    script:
        "../scripts/grid.py"


rule table1:
    input:
        scores=expand("<results>/grid/test/{method}.csv", method=list(STUDY.grid_rows)),
        paper=f"{REPO}/workflow/resources/paper_table1.csv",
        sources=sources("metrics/si_sdr.py", "study/tables.py"),
    output:
        report(
            "<results>/tables/table1_grid.csv",
            caption="../report/table1.rst",
            category="Tables",
            labels={"table": "1: guidance strength"},
        ),
        multiext("<results>/tables/table1_grid", ".md", ".tex"),
    log:
        "<results>/logs/table1.log",
    conda:
        "../../envs/core.yaml"
    params:
        intervals=config["intervals"],
        convention=config["separation"]["guidance"]["convention"],
        steps=STUDY.grid_steps(),
    script:
        "../scripts/table1.py"


rule select:
    input:
        test=decisive("test"),
        validation=decisive("validation"),
        sources=sources("metrics/si_sdr.py", "study/methods.py", "study/selection.py"),
    output:
        "<results>/selection.json",
    log:
        "<results>/logs/select.log",
    conda:
        "../../envs/core.yaml"
    params:
        rows={name: row.model_dump() for name, row in STUDY.rows.items()},
        by=config["grid"]["select_by"],
    script:
        "../scripts/choose_settings.py"
