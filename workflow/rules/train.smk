# Training: the model of the results, if model.train is set, and the demo's short training, which no result uses.
# Checkpoints are stored beside the outputs, not among them, so that a job that was killed continues where it stopped.


rule train:
    input:
        train=windows(STUDY.learned("train")),
        validation=windows(STUDY.learned("validation")),
        train_embeddings=embedded_windows(STUDY.learned("train")),
        validation_embeddings=embedded_windows(STUDY.learned("validation")),
        codec=codec_files(),
        initial=initial_files("gmsdi"),
    output:
        model=multiext("<results>/model/", "model.safetensors", "config.json"),
        losses="<results>/training/losses.csv",
    log:
        "<results>/logs/train.log",
    benchmark:
        "<results>/benchmarks/train.tsv"
    priority: 30
    conda:
        "../../envs/core.yaml"
    threads: THREADS * STUDY.devices("gmsdi")
    resources:
        gpu=STUDY.devices("gmsdi"),
    params:
        model=STUDY.model_config("gmsdi"),
        training=STUDY.training("gmsdi"),
        description="Trained by the workflow, rule train.",
        seed=config["seed"],
        code=code("train.py"),
        work=WORK.training("gmsdi"),
    script:
        "../scripts/train.py"


SHORT = config["demo_training"]


use rule train as train_short with:
    input:
        train=windows(part("train", SHORT["tracks"])),
        validation=windows(part("validation", SHORT["validation_tracks"])),
        train_embeddings=embedded_windows(part("train", SHORT["tracks"])),
        validation_embeddings=embedded_windows(part("validation", SHORT["validation_tracks"])),
        codec=codec_files(),
        initial=initial_files("demo"),
    output:
        model=multiext("<results>/demo_training/model/", "model.safetensors", "config.json"),
        losses="<results>/demo_training/losses.csv",
    log:
        "<results>/logs/train_short.log",
    benchmark:
        "<results>/benchmarks/train_short.tsv"
    threads: THREADS * STUDY.devices("demo")
    resources:
        gpu=STUDY.devices("demo"),
    params:
        model=STUDY.model_config("gmsdi"),
        training=STUDY.training("demo"),
        description="A short training of the demo; not used for any result.",
        seed=config["seed"],
        code=code("train.py"),
        work=WORK.training("demo"),


# The paper's other systems, trained on separated stems.
use rule train as train_baseline with:
    input:
        train=[f"<data>/{part('train')}/windows_with_stems/{file}" for file in [*WINDOW_FILES, "stems.npy"]],
        validation=windows(part("validation")),
        initial=lambda wildcards: initial_files(wildcards.baseline),
    output:
        model=multiext("<results>/baselines/{baseline}/", "model.safetensors", "config.json"),
        losses="<results>/training/{baseline}/losses.csv",
    log:
        "<results>/logs/train_{baseline}.log",
    benchmark:
        "<results>/benchmarks/train_{baseline}.tsv"
    threads: lambda wildcards: THREADS * STUDY.devices(wildcards.baseline)
    resources:
        gpu=lambda wildcards: STUDY.devices(wildcards.baseline),
    params:
        model=lambda wildcards: STUDY.model_config(wildcards.baseline),
        training=lambda wildcards: STUDY.training(wildcards.baseline),
        description="Trained by the workflow, rule train_baseline.",
        seed=config["seed"],
        code=code("train.py"),
        work=lambda wildcards: WORK.training(wildcards.baseline),
