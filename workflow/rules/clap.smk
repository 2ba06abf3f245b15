# The CLAP of a model with `text.kind: clap`; if `clap.train` is set, a small one is trained on mixtures and their labels.
# It embeds the training windows, and the diffusion model then sees only the mixtures and these embeddings.


use rule train as train_clap with:
    input:
        train=windows(part("train")),
        validation=windows(part("validation")),
        initial=initial_files("clap"),
    output:
        model=multiext("<results>/clap/model/", "model.safetensors", "config.json"),
        losses="<results>/clap/losses.csv",
    log:
        "<results>/logs/train_clap.log",
    benchmark:
        "<results>/benchmarks/train_clap.tsv"
    threads: THREADS * STUDY.devices("clap")
    resources:
        gpu=STUDY.devices("clap"),
    params:
        model=STUDY.model_config("clap"),
        training=STUDY.training("clap"),
        description="A small CLAP, trained by the workflow, rule train_clap.",
        seed=config["seed"],
        code=code("train.py"),
        work=WORK.training("clap"),


rule embed_windows:
    input:
        windows=lambda wildcards: windows(wildcards.part),
        clap=clap_files(),
    output:
        directory("<results>/clap/embeddings/{part}"),
    log:
        "<results>/logs/embed_windows/{part}.log",
    benchmark:
        "<results>/benchmarks/embed_windows/{part}.tsv"
    priority: 30
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        text=STUDY.model_config("gmsdi")["text"],
        hop=config["clap"]["hop"],
        code=code("embed_windows.py"),
        work=lambda wildcards: WORK.embedded_windows(wildcards.part),
    script:
        "../scripts/embed_windows.py"


# The same by the package laion-clap, if text.kind is laion_clap. The embeddings of the labels are stored as well, so that
# trainings do not need the package.
rule embed_windows_by_laion_clap:
    input:
        windows=lambda wildcards: windows(wildcards.part),
        clap=clap_files(),
    output:
        directory("<results>/laion_clap/embeddings/{part}"),
    log:
        "<results>/logs/embed_windows_by_laion_clap/{part}.log",
    benchmark:
        "<results>/benchmarks/embed_windows_by_laion_clap/{part}.tsv"
    priority: 30
    conda:
        "../../envs/clap.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        text=STUDY.model_config("gmsdi")["text"],
        labels=STUDY.labels,
        hop=config["clap"]["hop"],
        code=code("embed_windows.py"),
        work=lambda wildcards: WORK.embedded_windows(wildcards.part),
    script:
        "../scripts/embed_windows.py"
