# Generation: single stems with and without negative prompts, all stems together, and accompaniments to given stems.
# A job makes its share of the clips of every bar of its task.


def task_settings(wildcards):
    """The task's solver, guidance and likelihood widths."""
    generation = config["generation"]
    own = generation[wildcards.task.split("_")[0]]
    wanted = wildcards.task == "single_negative" or own.get("negatives", False)
    return {
        "task": wildcards.task.split("_")[0],
        "solver": {**generation["solver"], "steps": own["steps"] or generation["solver"]["steps"]},
        "guidance": {**generation["guidance"], "w": generation["w"] if own.get("w") is None else own["w"]},
        "negatives": generation["negatives"] if wanted else {},
        "likelihood": {key: own[key] for key in ["gamma_x", "gamma_y", "alpha", "beta"] if key in own},
    }


rule generate:
    input:
        model=model_files(),
        windows=lambda wildcards: TEST if wildcards.task == "partial" else [],
        sources=MODEL_SOURCES + sources("experiments.py"),
    output:
        audio="<results>/generation/{task}/{shard}-of-{shards}.npy",
        table="<results>/generation/{task}/{shard}-of-{shards}.csv",
    log:
        "<results>/logs/generate/{task}-{shard}-of-{shards}.log",
    benchmark:
        "<results>/benchmarks/generate/{task}-{shard}-of-{shards}.tsv"
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        settings=task_settings,
        clips=config["generation"]["clips"],
        labels=LABELS,
        seed=config["seed"],
    script:
        "../scripts/generate.py"
