# Figure 4, beyond the paper: the SI-SDR improvement of every method against the network evaluations that it takes.


rule cost:
    input:
        model=lambda wildcards: model_inputs(row_folders(wildcards.method)),
        windows=TEST,
        test=decisive_of_row("test"),
        validation=decisive_of_row("validation"),
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
        rows=rows_of_job,
        by=chosen_by,
        steps=config["costs"]["steps"],
        chunks=config["costs"]["chunks"],
        intervals=config["intervals"],
        seed=config["seed"],
        bundled=lambda wildcards: bundled(row_folders(wildcards.method)),
        precision=config["jobs"]["precision"],
        code=code("cost.py"),
        work=lambda wildcards: WORK.costs(wildcards.method),
    script:
        "../scripts/cost.py"


COSTED = [row.name for row in STUDY.rows.values() if row.costed]
TITLES = without_steps(STUDY.rows.values())


rule costs:
    input:
        expand("<results>/costs/{method}.csv", method=COSTED),
    output:
        "<results>/scores/costs.csv",
    log:
        "<results>/logs/costs.log",
    conda:
        "../../envs/core.yaml"
    params:
        titles=[TITLES[name] for name in COSTED],
        code=code("costs.py"),
        work=Work(FIGURE4),
    script:
        "../scripts/costs.py"
