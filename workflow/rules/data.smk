# The dataset: composed and rendered here (mini) or found in a folder (slakh), then cut into windows.


rule compose:
    input:
        sources("data"),
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
    script:
        "../scripts/compose.py"


rule chunk:
    input:
        root=slakh_root,
        sources=sources("data"),
    output:
        multiext("<data>/{part}/windows/", *WINDOW_FILES),
    log:
        "<data>/{part}/chunk.log",
    wildcard_constraints:
        part="train-.*",
    conda:
        "../../envs/core.yaml"
    params:
        data={key: config["data"][key] for key in ["sample_rate", "window", "classes", "min_active"]},
    script:
        "../scripts/chunk.py"


# Evaluation needs the stems, and so do the baselines' trainings; the text-conditioned model's must not see them.
use rule chunk as chunk_with_stems with:
    output:
        multiext("<data>/{part}/windows/", *WINDOW_FILES, "stems.npy"),
    wildcard_constraints:
        part="(validation|test)-.*",


use rule chunk as chunk_for_baselines with:
    output:
        multiext("<data>/{part}/windows_with_stems/", *WINDOW_FILES, "stems.npy"),
    log:
        "<data>/{part}/chunk_for_baselines.log",
    wildcard_constraints:
        part="train-.*",
