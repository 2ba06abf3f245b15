# Generation: single stems with and without negative prompts, all stems together, and accompaniments to given stems.
# A job makes one shard: clips of every bar of its task.


rule generate:
    input:
        model=lambda wildcards: model_inputs(task_folders(wildcards.task)),
        windows=lambda wildcards: TEST if STUDY.tasks[wildcards.task].given else [],
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
        task=lambda wildcards: STUDY.tasks[wildcards.task].model_dump(),
        seed=config["seed"],
        bundled=lambda wildcards: bundled(task_folders(wildcards.task)),
        precision=config["jobs"]["precision"],
        code=code("generate.py"),
        work=lambda wildcards: WORK.generation(wildcards.task, int(wildcards.shard), int(wildcards.shards)),
    script:
        "../scripts/generate.py"
