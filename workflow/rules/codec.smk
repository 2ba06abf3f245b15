# The codecs of a model with `kind: latent`: small autoencoders trained on the training mixtures. All variants are
# compared in a table; the model is trained on the latents of one.


use rule train as train_codec with:
    input:
        train=windows(STUDY.learned("train")),
        validation=windows(STUDY.learned("validation")),
        initial=initial_files("codec"),
    output:
        model=multiext("<results>/codecs/{codec}/", "model.safetensors", "config.json"),
        losses="<results>/training/codec_{codec}/losses.csv",
    log:
        "<results>/logs/train_codec/{codec}.log",
    benchmark:
        "<results>/benchmarks/train_codec/{codec}.tsv"
    threads: THREADS * STUDY.devices("codec")
    resources:
        gpu=STUDY.devices("codec"),
    params:
        model=lambda wildcards: STUDY.codec_config(wildcards.codec),
        training=STUDY.training("codec"),
        description="A codec, trained by the workflow, rule train_codec.",
        seed=config["seed"],
        code=code("train.py"),
        work=WORK.training("codec"),


rule score_codec:
    input:
        model=multiext("<results>/codecs/{codec}/", "model.safetensors", "config.json"),
        windows=TEST,
    output:
        "<results>/scores/codec_{codec}.csv",
    log:
        "<results>/logs/score_codec/{codec}.log",
    conda:
        "../../envs/core.yaml"
    params:
        code=code("score_codec.py"),
        work=Work(TRAIN),
    script:
        "../scripts/score_codec.py"


rule table_codecs:
    input:
        scores=expand("<results>/scores/codec_{codec}.csv", codec=STUDY.codecs),
    output:
        report(
            "<results>/tables/codecs.csv",
            caption="../report/codecs.rst",
            category="Tables",
            labels={"table": "codecs of latents"},
        ),
        multiext("<results>/tables/codecs", ".md", ".tex"),
    log:
        "<results>/logs/table_codecs.log",
    conda:
        "../../envs/core.yaml"
    params:
        configs={codec: STUDY.codec_config(codec) for codec in STUDY.codecs},
        code=code("table_codecs.py"),
        work=Work(TRAIN),
    script:
        "../scripts/table_codecs.py"
