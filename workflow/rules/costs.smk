# Figure 4, beyond the paper: the SI-SDR improvement of every method against the network evaluations that it takes.


rule cost:
    input:
        model=lambda wildcards: row_files(wildcards.method),
        windows=TEST,
        selection="<results>/selection.json",
        sources=MODEL_SOURCES + ROW_SOURCES + sources("metrics/si_sdr.py", "study/scoring.py"),
    output:
        "<results>/costs/{method}.csv",
    log:
        "<results>/logs/cost/{method}.log",
    benchmark:
        "<results>/benchmarks/cost/{method}.tsv"
    priority: 15
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        steps=config["costs"]["steps"],
        chunks=config["costs"]["chunks"],
        intervals=config["intervals"],
        seed=config["seed"],
    script:
        "../scripts/cost.py"


rule costs:
    input:
        expand("<results>/costs/{method}.csv", method=[row.name for row in STUDY.rows.values() if row.costed]),
    output:
        "<results>/scores/costs.csv",
    log:
        "<results>/logs/costs.log",
    conda:
        "../../envs/core.yaml"
    script:
        "../scripts/costs.py"
