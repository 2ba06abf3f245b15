# What all parts of the workflow share: the checked configuration, paths, and what a job is told about its work.

import os
import sys
from pathlib import Path

REPO = Path(workflow.basedir).resolve().parent
sys.path.insert(0, str(REPO))

from gmsdi.config import digest, slug, validate, writable
from gmsdi.errors import UserError

try:
    config.update(validate(config, REPO / "workflow" / "schemas" / "config.schema.yaml"))
    writable(Path("results") / config["run"])
except UserError as error:
    sys.exit(str(error))

# Scripts find the package also where it is not installed, as in a conda environment.
PYTHONPATH = os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH")]))
shell.prefix(f"set -euo pipefail; export PYTHONPATH='{PYTHONPATH}'; ")

WINDOW_FILES = ["windows.csv", "tracks.csv", "activity.csv", "info.json", "mix.npy"]
TABLES = ["table1_grid", "table2_separation"]
FIGURES = ["figure2_fad_stems", "figure3_fad_mixtures", *(["figure4_costs"] if config["costs"]["steps"] else [])]
LABELS = list(config["data"]["classes"])
THREADS = config["jobs"]["threads"]  # long jobs have a priority, so that none of them is left alone at the end

# Table 1's rows, and Table 2's: the Separator once for each stem that can be the constrained one.
SEPARATORS = {f"separator_{slug(label)}": label for label in LABELS}
GRID_METHODS = ["extractor", *SEPARATORS]
EXTRAS = config["separation"]["extras"]
VALIDATION = config["grid"]["validation_chunks"] is not None
VALIDATED = [f"{name}_validated" for name in ["separator", "extractor"]] if VALIDATION else []
METHODS = ["separator", "extractor", *EXTRAS, *VALIDATED]
COSTED = ["separator", "extractor", *EXTRAS]
TASKS = ["single", *(["single_negative"] if config["generation"]["negatives"] else []), "total", "partial"]


def dataset_id():
    """Folder name of the dataset: the same for all runs whose chunks are the same."""
    data = {key: value for key, value in config["data"].items() if key != "mini"}
    mini = {key: value for key, value in config["data"]["mini"].items() if key != "tracks"}
    return f"{data['kind']}-{digest([data, mini])}"


pathvars:
    results=f"results/{config['run']}",
    data=f"results/data/{dataset_id()}",


wildcard_constraints:
    method="[a-z_A-Z0-9]+",
    part="(train|validation|test)-([0-9]+|all)",
    shard="[0-9]+",
    shards="[0-9]+",
    split="test|validation",
    task="single|single_negative|total|partial",


def sources(*names):
    """The package's files that a job's result depends on: an edit of one of them makes the job run again."""
    found = []
    for name in names:
        path = REPO / "gmsdi" / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [str(path) for path in found]


MODEL_SOURCES = sources("models", "sampling", "inference.py", "pipeline.py")
EMBEDDING_SOURCES = sources(
    *(
        f"metrics/{name}.py"
        for name in ("embeddings", "features", "musicnn", "tf_checkpoint", "vggish", "clap", "weights")
    )
)


def part(split, tracks=None):
    """Name of a dataset part; the mini dataset composes only as many tracks of a split as are asked for."""
    if config["data"]["kind"] == "mini":
        return f"{split}-{tracks or config['data']['mini']['tracks'][split]}"
    return f"{split}-all"


def windows(name):
    """The files of a windows folder, by role."""
    stems = [] if name.startswith("train-") else ["stems.npy"]
    return [f"<data>/{name}/windows/{file}" for file in [*WINDOW_FILES, *stems]]


TEST = windows(part("test"))


def model_folder():
    if config["model"]["train"]:
        return "<results>/model"
    return config["model"]["folder"] or str(REPO / "gmsdi" / "models" / "mini")


def model_files():
    """Weights and configuration of the model that the results are computed with."""
    files = [f"{model_folder()}/{name}" for name in ["model.safetensors", "config.json"]]
    missing = [file for file in files if not config["model"]["train"] and not Path(file).is_file()]
    if missing:
        sys.exit(f"config: model.folder: no {missing[0]}; set it to a model's folder, or model.train to true")
    return files


def shards(kind, pattern):
    """The files of all shards; `pattern` has the wildcards shard and shards."""
    count = config["jobs"][kind]
    return expand(pattern, shard=range(1, count + 1), shards=count, allow_missing=True)


def slakh_root(wildcards):
    """The folder in the layout of Slakh2100 that a part is cut from."""
    if config["data"]["kind"] == "mini":
        return f"<data>/{wildcards.part}/slakh"
    return config["data"]["root"]


def model_config():
    """What gmsdi.models.checkpoint.build_model takes."""
    data = {key: config["data"][key] for key in ["sample_rate", "window"]}
    return {**config["model"]["config"], **data, "labels": LABELS}


def method_settings(method):
    """All settings of a separation method, see gmsdi.experiments.separate; null is chosen from the grid over w."""
    own = EXTRAS.get(method, {})
    name = own.get("of", method.split("_")[0])
    base = config["separation"][name]
    settings = {
        "name": name,
        "w": own.get("w") if own else base["w"],
        "negatives": base["negatives"],
        "solver": {**config["separation"]["solver"], **base["solver"], **own.get("solver", {})},
        "chosen_on": "validation" if VALIDATION and method not in ["separator", "extractor"] else "test",
    }
    if name == "separator" and not own.get("projected"):
        settings["constrained"] = SEPARATORS.get(method, base["constrained"])
    settings |= {key: own[key] for key in ["title", "consistent", "projected", "samples"] if key in own}
    if method in VALIDATED:
        settings["title"] = f"GMSDI {name.capitalize()}, chosen on validation chunks"
    return settings


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
