# Table 1: every value of w for the Extractor and for the Separator with each constrained stem.


rule grid:
    input:
        model=model_files(),
        windows=TEST,
        sources=MODEL_SOURCES + sources("metrics/si_sdr.py", "experiments.py"),
    output:
        "<results>/grid/{method}.csv",
    log:
        "<results>/logs/grid/{method}.log",
    benchmark:
        "<results>/benchmarks/grid/{method}.tsv"
    priority: 20
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        method=lambda wildcards: method_settings(wildcards.method),
        w=config["grid"]["w"],
        chunks=config["grid"]["chunks"],
        solver=config["separation"]["solver"],
        guidance=config["separation"]["guidance"],
        seed=config["seed"],
    script:
        "../scripts/grid.py"


rule table1:
    input:
        scores=expand("<results>/grid/{method}.csv", method=GRID_METHODS),
        paper=f"{REPO}/workflow/resources/paper_table1.csv",
        sources=sources("metrics/si_sdr.py", "tables.py"),
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
        bootstrap=config["bootstrap"],
        convention=config["separation"]["guidance"]["convention"],
        seed=config["seed"],
    script:
        "../scripts/table1.py"


PINNED = {method: config["separation"][method] for method in METHODS}
DECIDED = None not in (PINNED["extractor"]["w"], PINNED["separator"]["w"], PINNED["separator"]["constrained"])


rule select:
    input:
        scores=[] if DECIDED else expand("<results>/grid/{method}.csv", method=GRID_METHODS),
        sources=sources("metrics/si_sdr.py", "experiments.py"),
    output:
        "<results>/selection.json",
    log:
        "<results>/logs/select.log",
    conda:
        "../../envs/core.yaml"
    params:
        pinned=PINNED,
        by=config["grid"]["select_by"],
    script:
        "../scripts/choose_settings.py"
