# The separations of Table 2, each method with the settings chosen on the grid.


rule separate:
    input:
        model=lambda wildcards: model_inputs(row_folders(wildcards.method)),
        windows=TEST,
        test=decisive_of_row("test"),
        validation=decisive_of_row("validation"),
        # If the validation chunks lead to the same settings as Table 1, the stems are the same, too.
        twin=lambda wildcards: (
            f"<results>/separation/{STUDY.rows[wildcards.method].twin}/{wildcards.shard}-of-{wildcards.shards}.npy"
            if STUDY.rows[wildcards.method].twin
            else []
        ),
    output:
        audio="<results>/separation/{method}/{shard}-of-{shards}.npy",
        table="<results>/separation/{method}/{shard}-of-{shards}.csv",
    log:
        "<results>/logs/separate/{method}-{shard}-of-{shards}.log",
    benchmark:
        "<results>/benchmarks/separate/{method}-{shard}-of-{shards}.tsv"
    wildcard_constraints:
        method="|".join(STUDY.rows),
    priority: 20
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        rows=rows_of_job,
        by=chosen_by,
        chunks=config["separation"]["chunks"],
        seed=config["seed"],
        bundled=lambda wildcards: bundled(row_folders(wildcards.method)),
        precision=config["jobs"]["precision"],
        code=code("separate.py"),
        work=lambda wildcards: WORK.separation(wildcards.method, int(wildcards.shard), int(wildcards.shards)),
    script:
        "../scripts/separate.py"


# Rows whose stems are the means of other rows' stems.
if STUDY.averages:

    rule average:
        input:
            audio=averaged("npy"),
            tables=averaged("csv"),
            windows=TEST,
        output:
            audio="<results>/separation/{method}/{shard}-of-{shards}.npy",
            table="<results>/separation/{method}/{shard}-of-{shards}.csv",
        log:
            "<results>/logs/average/{method}-{shard}-of-{shards}.log",
        wildcard_constraints:
            method="|".join(STUDY.averages),
        conda:
            "../../envs/core.yaml"
        params:
            row=lambda wildcards: STUDY.averages[wildcards.method].bare().model_dump(),
            code=code("average.py"),
            work=lambda wildcards: WORK.averaging(int(wildcards.shard), int(wildcards.shards)),
        script:
            "../scripts/average.py"
