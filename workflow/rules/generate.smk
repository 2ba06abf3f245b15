# Generation: single stems with and without negative prompts, all stems together, and accompaniments to given stems.
# A job makes its share of the clips of every bar of its task.


rule generate:
    input:
        model=lambda wildcards: system_files(STUDY.tasks[wildcards.task].system),
        windows=lambda wildcards: TEST if STUDY.tasks[wildcards.task].given else [],
        sources=MODEL_SOURCES + sources("study/chunks.py", "study/generation.py", "study/tasks.py"),
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
    script:
        "../scripts/generate.py"
