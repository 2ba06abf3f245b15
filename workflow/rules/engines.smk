# The Fréchet audio distances by the package frechet-audio-distance, if fad.engine or fad.compare_engines asks for it.

# The arguments of gmsdi.metrics.fad_library.LibraryEmbedding.
LIBRARY = engine_folder("frechet_audio_distance")
LIBRARY_EMBEDDING = {"name": config["fad"]["embedding"], **{key: config["fad"][key] for key in ["folder", "sha256"]}}


rule embed_generated_by_library:
    input:
        audio=shards("generation", "<results>/generation/{task}/{shard}-of-{shards}.npy"),
        tables=shards("generation", "<results>/generation/{task}/{shard}-of-{shards}.csv"),
        windows=f"<data>/{part('test')}/windows/info.json",
    output:
        f"{LIBRARY}/embeddings/{{task}}.npz",
    log:
        "<results>/logs/embed_by_library/{task}.log",
    benchmark:
        "<results>/benchmarks/embed_by_library/{task}.tsv"
    conda:
        "../../envs/fad.yaml"
    threads: THREADS
    params:
        library=LIBRARY_EMBEDDING,
        clips=config["generation"]["clips"],
        rows=lambda wildcards: stems_of(STUDY.tasks[wildcards.task]),
        code=code("embed_generated.py"),
        work=lambda wildcards: WORK.embedding(wildcards.task),
    script:
        "../scripts/embed_generated.py"


rule embed_references_by_library:
    input:
        windows=TEST,
    output:
        f"{LIBRARY}/embeddings/references.npz",
    log:
        "<results>/logs/embed_by_library/references.log",
    benchmark:
        "<results>/benchmarks/embed_by_library/references.tsv"
    conda:
        "../../envs/fad.yaml"
    threads: THREADS
    params:
        library=LIBRARY_EMBEDDING,
        limit=config["fad"]["reference_clips"],
        mixtures=config["fad"]["mixtures"],
        clips=config["generation"]["clips"],
        seed=config["seed"],
        groups=config["generation"]["groups"],
        code=code("embed_references.py"),
        work=WORK.embedding(None),
    script:
        "../scripts/embed_references.py"


rule fad_by_library:
    input:
        generated=expand(f"{LIBRARY}/embeddings/{{task}}.npz", task=list(STUDY.tasks)),
        references=f"{LIBRARY}/embeddings/references.npz",
    output:
        stems=f"{LIBRARY}/scores/fad_stems.csv",
        mixtures=f"{LIBRARY}/scores/fad_mixtures.csv",
        curve=f"{LIBRARY}/scores/fad_curve.csv",
    log:
        "<results>/logs/fad_by_library.log",
    conda:
        "../../envs/fad.yaml"
    params:
        labels=STUDY.labels,
        embedding=f"{config['fad']['embedding']} by frechet-audio-distance",
        library=True,
        intervals=config["intervals"],
        seed=config["seed"],
        singles={task.name: task.point() for task in STUDY.figure2()},
        mixtures={task.name: task.series for task in STUDY.figure3()},
        code=code("fad.py"),
        work=Work(DISTANCES),
    script:
        "../scripts/fad.py"


# Both engines on the same clips, side by side.
rule compare_engines:
    input:
        ours=[f"{OURS}/scores/fad_{part}.csv" for part in ["stems", "mixtures"]],
        library=[f"{LIBRARY}/scores/fad_{part}.csv" for part in ["stems", "mixtures"]],
    output:
        report(
            "<results>/tables/engines.csv",
            caption="../report/engines.rst",
            category="Tables",
            labels={"table": "distances by two engines"},
        ),
        multiext("<results>/tables/engines", ".md", ".tex"),
    log:
        "<results>/logs/compare_engines.log",
    conda:
        "../../envs/core.yaml"
    params:
        code=code("compare_engines.py"),
        work=Work(DISTANCES),
    script:
        "../scripts/compare_engines.py"
