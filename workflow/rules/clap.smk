# The CLAP of a model with `text.kind: clap`: a small one is trained from mixtures and their labels, if `clap.train` asks
# for it, and embeds the training windows. The diffusion model then sees the mixtures and these embeddings alone.


CLAP = config["model"]["config"]["text"]


def clap_files():
    """Weights and configuration of the CLAP; nothing where LAION's is downloaded."""
    if config["clap"]["train"]:
        return rules.train_clap.output.model
    if not CLAP["checkpoint"]:
        return []
    given = Path(CLAP["checkpoint"]).expanduser()
    files = [given / "model.safetensors", given / "config.json"] if given.is_dir() else [given]
    missing = [file for file in files if not file.is_file()]
    if missing:
        sys.exit(f"config: model.config.text.checkpoint: no {missing[0]}; set it to a CLAP, or to null")
    return [str(file) for file in files]


use rule train as train_clap with:
    input:
        train=windows(part("train")),
        validation=windows(part("validation")),
        sources=sources("training.py", "models", "data/windows.py"),
    output:
        model=multiext("<results>/clap/model/", "model.safetensors", "config.json"),
        losses="<results>/clap/losses.csv",
    log:
        "<results>/logs/train_clap.log",
    benchmark:
        "<results>/benchmarks/train_clap.tsv"
    params:
        model=STUDY.model_config("clap"),
        training=STUDY.training("clap"),
        description="A small CLAP, trained by the workflow, rule train_clap.",
        seed=config["seed"],


rule embed_windows:
    input:
        windows=lambda wildcards: windows(wildcards.part),
        clap=clap_files() if STUDY.clap else [],
        sources=sources("models/clap.py", "models/clap_training.py", "models/clap_windows.py", "data/windows.py"),
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
    script:
        "../scripts/embed_windows.py"
