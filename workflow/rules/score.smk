# Scores, as tidy tables, and Table 2. Tables and figures read these and nothing else.


rule score_separation:
    input:
        audio=shards("separation", "<results>/separation/{method}/{shard}-of-{shards}.npy"),
        tables=shards("separation", "<results>/separation/{method}/{shard}-of-{shards}.csv"),
        windows=TEST,
        sources=sources("metrics/si_sdr.py", "data/windows.py", "experiments.py"),
    output:
        "<results>/scores/separation_{method}.csv",
    log:
        "<results>/logs/score/{method}.log",
    conda:
        "../../envs/core.yaml"
    script:
        "../scripts/score_separation.py"


rule table2:
    input:
        scores=expand("<results>/scores/separation_{method}.csv", method=METHODS),
        chunks=shards("separation", "<results>/separation/extractor/{shard}-of-{shards}.csv"),
        selection="<results>/selection.json",
        validation=expand("<results>/grid/validation/{method}.csv", method=GRID_METHODS) if VALIDATION else [],
        paper=f"{REPO}/workflow/resources/paper_table2.csv",
        sources=sources("metrics/si_sdr.py", "tables.py"),
    output:
        report(
            "<results>/tables/table2_separation.csv",
            caption="../report/table2.rst",
            category="Tables",
            labels={"table": "2: source separation"},
        ),
        multiext("<results>/tables/table2_separation", ".md", ".tex"),
    log:
        "<results>/logs/table2.log",
    conda:
        "../../envs/core.yaml"
    params:
        bootstrap=config["bootstrap"],
        methods=METHODS,
        seed=config["seed"],
    script:
        "../scripts/table2.py"


rule embed_generated:
    input:
        audio=shards("generation", "<results>/generation/{task}/{shard}-of-{shards}.npy"),
        tables=shards("generation", "<results>/generation/{task}/{shard}-of-{shards}.csv"),
        windows=f"<data>/{part('test')}/windows/info.json",
        sources=EMBEDDING_SOURCES + sources("experiments.py"),
    output:
        "<results>/embeddings/{task}.npz",
    log:
        "<results>/logs/embed/{task}.log",
    benchmark:
        "<results>/benchmarks/embed/{task}.tsv"
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    params:
        embedding=config["fad"]["embedding"],
    script:
        "../scripts/embed_generated.py"


rule embed_references:
    input:
        windows=TEST,
        sources=EMBEDDING_SOURCES + sources("data/windows.py", "experiments.py"),
    output:
        "<results>/embeddings/references.npz",
    log:
        "<results>/logs/embed/references.log",
    benchmark:
        "<results>/benchmarks/embed/references.tsv"
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    params:
        fad=config["fad"],
        clips=config["generation"]["clips"],
        seed=config["seed"],
    script:
        "../scripts/embed_references.py"


rule fad:
    input:
        generated=expand("<results>/embeddings/{task}.npz", task=TASKS),
        references="<results>/embeddings/references.npz",
        sources=sources("metrics/frechet.py", "experiments.py"),
    output:
        stems="<results>/scores/fad_stems.csv",
        mixtures="<results>/scores/fad_mixtures.csv",
    log:
        "<results>/logs/fad.log",
    conda:
        "../../envs/core.yaml"
    params:
        labels=LABELS,
        embedding=config["fad"]["embedding"],
        seed=config["seed"],
    script:
        "../scripts/fad.py"
