# Figure 4, beyond the paper: the SI-SDR improvement of every method against the network evaluations that it takes.


rule cost:
    input:
        model=lambda wildcards: model_inputs(wildcards.method),
        windows=TEST,
        selection="<results>/selection.json",
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
        targets=lambda wildcards: STUDY.targets(wildcards.method),
        steps=config["costs"]["steps"],
        chunks=config["costs"]["chunks"],
        guidance=config["separation"]["guidance"],
        intervals=config["intervals"],
        seed=config["seed"],
        bundled=lambda wildcards: bundled(wildcards.method),
        code=code("cost.py"),
        work=lambda wildcards: WORK.costs(wildcards.method),
    script:
        "../scripts/cost.py"


rule costs:
    input:
        expand("<results>/costs/{method}.csv", method=STUDY.costed),
    output:
        "<results>/scores/costs.csv",
    log:
        "<results>/logs/costs.log",
    conda:
        "../../envs/core.yaml"
    params:
        code=code("costs.py"),
        work=Work(FIGURE4),
    script:
        "../scripts/costs.py"
