# Table 1: every value of w for the Extractor and for the Separator with each constrained stem; the same on validation
# chunks, for settings chosen without the test split; and MSDM with each constrained stem.


rule grid:
    input:
        model=lambda wildcards: model_inputs(row_folders(wildcards.method)),
        windows=lambda wildcards: windows(part(wildcards.split)),
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
        cells=lambda wildcards: [row.bare().model_dump() for row in STUDY.grid_cells(wildcards.method, wildcards.split)],
        chunks=lambda wildcards: STUDY.grid_chunks(wildcards.split),
        seed=config["seed"],
        bundled=lambda wildcards: bundled(row_folders(wildcards.method)),
        precision=config["jobs"]["precision"],
        code=code("grid.py"),
        work=lambda wildcards: WORK.grid(wildcards.method, wildcards.split),
    script:
        "../scripts/grid.py"


rule table1:
    input:
        scores=expand("<results>/grid/test/{method}.csv", method=list(STUDY.grid_rows)),
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
        code=code("table1.py", "resources/paper_table1.csv"),
        work=Work(TABLE1),
    script:
        "../scripts/table1.py"


rule select:
    input:
        test=decisive("test"),
        validation=decisive("validation"),
    output:
        "<results>/selection.json",
    log:
        "<results>/logs/select.log",
    conda:
        "../../envs/core.yaml"
    params:
        rows={name: row.model_dump() for name, row in STUDY.rows.items()},
        by=config["grid"]["select_by"],
        code=code("choose_settings.py"),
        work=Work(TABLE2),
    script:
        "../scripts/choose_settings.py"
