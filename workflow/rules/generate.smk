# Generation: single stems with and without negative prompts, all stems together, and accompaniments to given stems.
# A job makes its share of the clips of every bar of its task.


rule generate:
    input:
        model=lambda wildcards: model_inputs(wildcards.task),
        windows=lambda wildcards: TEST if wildcards.task.startswith("partial") else [],
    output:
        audio="<results>/generation/{task}/{shard}-of-{shards}.npy",
        table="<results>/generation/{task}/{shard}-of-{shards}.csv",
    log:
        "<results>/logs/generate/{task}-{shard}-of-{shards}.log",
    benchmark:
        "<results>/benchmarks/generate/{task}-{shard}-of-{shards}.tsv"
    priority: 10
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        settings=lambda wildcards: STUDY.task_settings(wildcards.task),
        targets=lambda wildcards: STUDY.targets(wildcards.task),
        clips=lambda wildcards: STUDY.clips(wildcards.task),
        labels=STUDY.labels,
        seed=config["seed"],
        bundled=lambda wildcards: bundled(wildcards.task),
        code=code("generate.py"),
        work=lambda wildcards: WORK.generation(wildcards.task, int(wildcards.shard), int(wildcards.shards)),
    script:
        "../scripts/generate.py"
