# The data set: composed and rendered by gmsdi (mini), MIDI songs (midi), Slakh2100, downloaded or from a folder (slakh), or any
# folder of multi-tracks (stems); then cut into windows. Also MTG-Jamendo, if the model is trained on it.


rule compose:
    output:
        directory("<data>/{part}/slakh"),
    log:
        "<data>/{part}/compose.log",
    conda:
        "../../envs/core.yaml"
    threads: 8
    params:
        mini={key: value for key, value in config["data"]["mini"].items() if key != "tracks"},
        sample_rate=config["data"]["sample_rate"],
        seed=config["data"]["seed"],
        code=code("compose.py"),
        work=lambda wildcards: WORK.cut(wildcards.part, stems=True),
    script:
        "../scripts/compose.py"


# MIDI songs. Composed songs are first written as MIDI files, like those that users bring.


rule compose_songs:
    output:
        directory("<data>/songs/{source}-{number}/{split}"),
    log:
        "<data>/songs/{source}-{number}/{split}.log",
    wildcard_constraints:
        source="arranged|composed|drawn",
        number="[0-9]+",
    conda:
        "../../envs/core.yaml"
    threads: 8
    params:
        tracks=lambda wildcards: composed_source(wildcards)["tracks"][wildcards.split],
        seed=lambda wildcards: composed_source(wildcards)["seed"],
        code=code("compose_songs.py"),
        work=Work(DATA),
    script:
        "../scripts/compose_songs.py"


rule list_songs:
    input:
        folders=SONG_FOLDERS,
    output:
        "<data>/songs/files.csv",
    log:
        "<data>/songs/files.log",
    conda:
        "../../envs/core.yaml"
    threads: 8
    params:
        midi=midi.settings(config["data"], "train"),
        split=None,
        seed=config["data"]["seed"],
        state=lambda wildcards: state_of_songs(),
        code=code("list_songs.py"),
        work=Work(DATA),
    script:
        "../scripts/list_songs.py"


use rule list_songs as list_composed_songs with:
    input:
        folders=lambda wildcards: composed_songs(wildcards.split),
    output:
        "<data>/songs/composed-{split}.csv",
    log:
        "<data>/songs/composed-{split}.log",
    params:
        midi=midi.settings(config["data"], "train"),
        split=lambda wildcards: wildcards.split,
        seed=config["data"]["seed"],
        code=code("list_songs.py"),
        work=Work(DATA),


rule render:
    input:
        songs=lambda wildcards: song_lists(split_of(wildcards)),
        soundfonts=lambda wildcards: [
            file for file in midi.settings(config["data"], split_of(wildcards))["soundfonts"] if file != "TimGM6mb"
        ],
    output:
        directory("<data>/{part}/tracks"),
    log:
        "<data>/{part}/render.log",
    conda:
        "../../envs/core.yaml"
    threads: 8
    params:
        midi=lambda wildcards: midi.settings(config["data"], split_of(wildcards)),
        first=lambda wildcards: config["data"]["tracks"][split_of(wildcards)],
        seed=config["data"]["seed"],
        code=code("render.py"),
        work=lambda wildcards: WORK.cut(wildcards.part, stems=True),
    script:
        "../scripts/render.py"


# Archive and tracks are stored beside the outputs, not among them, since Snakemake would delete them before it reruns a
# job. The outputs show that they are there; a job that is rerun checks them, and downloads and unpacks only what is
# missing. Mirrors and the like are not parameters, because the bytes do not depend on them.
localrules:  # because a cluster's nodes may not reach the internet
    download,
    list_jamendo,
    download_jamendo,


rule download:
    output:
        f"{DOWNLOAD['folder']}/{VERSION.archive}.json",
    log:
        f"{DOWNLOAD['folder']}/logs/{VERSION.archive}.log",
    conda:
        "../../envs/core.yaml"
    params:
        archive=VERSION.archive,
        work=WORK.archive(),
    script:
        "../scripts/download.py"


rule unpack:
    input:
        [] if DOWNLOAD["archive"] == "stream" else rules.download.output,
    output:
        UNPACKED,
    log:
        f"{DOWNLOAD['folder']}/logs/{Path(UNPACKED).stem}.log",
    conda:
        "../../envs/core.yaml"
    params:
        variant=VERSION.variant,
        archive=VERSION.archive,
        folder=VERSION.folder,
        selection=STUDY.selection(),
        work=WORK.unpacked(),
    script:
        "../scripts/unpack.py"


# 8 tracks at a time: 8 GB suffice if no track is longer than 25 minutes.
rule chunk:
    input:
        dataset=dataset,
    output:
        multiext("<data>/{part}/windows/", *WINDOW_FILES),
    log:
        "<data>/{part}/chunk.log",
    wildcard_constraints:
        part="train-.*",
    conda:
        "../../envs/core.yaml"
    threads: 8
    resources:
        mem_mb=8000,
    params:
        **STATE,
        data=chunking,
        code=code("chunk.py"),
        work=lambda wildcards: WORK.cut(wildcards.part, stems=False),
    script:
        "../scripts/chunk.py"


# Evaluation and the training of baselines need the stems; the training of the text-conditioned model must not see them.
use rule chunk as chunk_with_stems with:
    output:
        multiext("<data>/{part}/windows/", *WINDOW_FILES, "stems.npy"),
    wildcard_constraints:
        part="(validation|test)-.*",
    params:
        **STATE,
        data=chunking,
        code=code("chunk.py"),
        work=lambda wildcards: WORK.cut(wildcards.part, stems=True),


use rule chunk as chunk_for_baselines with:
    output:
        multiext("<data>/{part}/windows_with_stems/", *WINDOW_FILES, "stems.npy"),
    log:
        "<data>/{part}/chunk_for_baselines.log",
    wildcard_constraints:
        part="train-.*",
    params:
        **STATE,
        data=chunking,
        code=code("chunk.py"),
        work=lambda wildcards: WORK.cut(wildcards.part, stems=True),


rule list_jamendo:
    output:
        f"{JAMENDO_ROOT}/{JAMENDO_TRACKS}",
    log:
        f"{JAMENDO['download']['folder']}/logs/{JAMENDO_TRACKS}.log",
    conda:
        "../../envs/core.yaml"
    params:
        work=Work(DATA),
    script:
        "../scripts/list_jamendo.py"


rule download_jamendo:
    input:
        rules.list_jamendo.output,
    output:
        JAMENDO_RECEIPT,
    log:
        f"{JAMENDO['download']['folder']}/logs/{Path(JAMENDO_RECEIPT).stem}.log",
    conda:
        "../../envs/core.yaml"
    params:
        tracks=JAMENDO["tracks"],
        work=WORK.jamendo(),
    script:
        "../scripts/download_jamendo.py"


# 8 tracks at a time: 8 GB suffice if no track is longer than 6 hours.
rule chunk_jamendo:
    input:
        tracks=jamendo_tracks,
    output:
        multiext("<jamendo>/{part}/windows/", *WINDOW_FILES),
    log:
        "<jamendo>/{part}/chunk.log",
    wildcard_constraints:
        part="(train|validation)-[0-9]+-[0-9]+",
    conda:
        "../../envs/core.yaml"
    threads: 8
    resources:
        mem_mb=8000,
    params:
        data=lambda wildcards: {
            "root": JAMENDO_ROOT,
            "shards": list(STUDY.jamendo_parts()[wildcards.part]),
            "limit": JAMENDO["tracks"],
            **{key: config["data"][key] for key in ("sample_rate", "window")},
        },
        code=code("chunk_jamendo.py"),
        work=lambda wildcards: WORK.cut(wildcards.part, stems=False),
    script:
        "../scripts/chunk_jamendo.py"
