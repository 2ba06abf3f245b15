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
TABLES = ["table1_grid", "table2_separation", *(["table2_bss_eval"] if config["separation"]["bss_eval"] else [])]
FIGURES = ["figure2_fad_stems", "figure3_fad_mixtures", *(["figure4_costs"] if config["costs"]["steps"] else [])]
LABELS = list(config["data"]["classes"])
THREADS = config["jobs"]["threads"]  # long jobs have a priority, so that none of them is left alone at the end

# Table 1's rows, and Table 2's: the Separator once for each stem that can be the constrained one.
SEPARATORS = {f"separator_{slug(label)}": label for label in LABELS}
GRID_METHODS = ["extractor", *SEPARATORS]
# The paper's other systems, and the models that each of them needs.
BASELINES = {name: config["baselines"][name] for name in config["baselines"]["enabled"]}
WEAK = {f"weak_msdm_{slug(label)}": label for label in LABELS}
BASELINE_MODELS = [name for name in BASELINES if name != "weak_msdm"] + (list(WEAK) if "weak_msdm" in BASELINES else [])
EXTRAS = config["separation"]["extras"]
VALIDATION = config["grid"]["validation"]["chunks"] is not None
VALIDATED = [f"{name}_validated" for name in ["separator", "extractor"]] if VALIDATION else []
# The joint MSDM has a second separator, of Gaussian likelihood.
OTHERS = [*BASELINES, *(["msdm_gaussian"] if "msdm" in BASELINES else [])]
METHODS = ["separator", "extractor", *OTHERS, *EXTRAS, *VALIDATED]
# Without the Gaussian separator, which is unstable in the few steps that the figure asks for.
COSTED = ["separator", "extractor", *BASELINES, *EXTRAS]
GMSDI_TASKS = ["single", *(["single_negative"] if config["generation"]["negatives"] else []), "total", "partial"]
TASKS = [
    *GMSDI_TASKS,
    *(["single_weak_msdm"] if "weak_msdm" in BASELINES else []),
    *(["total_msdm", "partial_msdm"] if "msdm" in BASELINES else []),
]


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
    task="(single|total|partial)[a-z_]*",
    baseline="[a-z_A-Z0-9]+",


def sources(*names):
    """The package's files that a job's result depends on: an edit of one of them makes the job run again."""
    found = []
    for name in names:
        path = REPO / "gmsdi" / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [str(path) for path in found]


MODEL_SOURCES = sources("models", "sampling", "inference.py", "pipeline.py", "baselines")
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
    """All settings of a separation method, see gmsdi.experiments.separate; null is chosen from the grid."""
    if system_of(method) != "gmsdi":
        return baseline_settings(method)
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


def baseline_settings(method):
    """The same of the paper's other systems; their titles are those of the paper's Table 2."""
    name = system_of(method)
    own = BASELINES[name]["separation"]
    titles = {"msdm": "MSDM", "weak_msdm": "Weakly Supervised MSDM", "demucs_gibbs": "Demucs + Gibbs (512 steps)"}
    settings = {"name": name, "title": titles[name], "chosen_on": "test"}
    if name == "demucs_gibbs":
        return settings | own
    settings["solver"] = {**config["separation"]["solver"], **own["solver"]}
    if method == "msdm_gaussian":
        return settings | {"title": "MSDM, Gaussian likelihood", "gaussian": True}
    return settings | {"constrained": own["constrained"]}


def grid_settings(split):
    """Chunks and values of w of the grid on a split."""
    grid = config["grid"]
    own = grid if split == "test" else grid["validation"]
    return {"chunks": own["chunks"], "w": own["w"] or grid["w"]}


def grid_cells(method, split):
    """The settings of every cell of a method's part of the grid: the values of w, or the constrained stems of MSDM."""
    settings = method_settings(method)
    if system_of(method) == "gmsdi":
        solver = {**settings["solver"], **config["grid"]["solver"]}
        return [{**settings, "w": w, "solver": solver} for w in grid_settings(split)["w"]]
    return [{**settings, "constrained": label} for label in LABELS]


def system_of(name):
    """What runs a method of Table 2 or a task of the figures: "gmsdi", "msdm", "weak_msdm" or "demucs_gibbs"."""
    if "weak_msdm" in name:
        return "weak_msdm"
    if "msdm" in name.split("_"):
        return "msdm"
    return name if name == "demucs_gibbs" else "gmsdi"


def baseline_folder(name):
    if config["baselines"]["train"]:
        return f"<results>/baselines/{name}"
    return f"{config['baselines']['folder'] or REPO / 'gmsdi' / 'baselines' / 'weights'}/{name}"


def system_targets(name):
    """The targets of the models that a system consists of, see gmsdi.experiments.load_system."""
    return {"gmsdi": ["mixture"], "weak_msdm": LABELS}.get(system_of(name), ["stems"])


def system_files(name):
    """Weights and configurations of a system's models, in the order of system_targets."""
    system = system_of(name)
    if system == "gmsdi":
        return model_files()
    folders = [baseline_folder(model) for model in (WEAK if system == "weak_msdm" else [system])]
    files = [f"{folder}/{file}" for folder in folders for file in ["model.safetensors", "config.json"]]
    missing = [file for file in files if not config["baselines"]["train"] and not Path(file).is_file()]
    if missing:
        sys.exit(
            f"config: baselines: no {missing[0]}; set baselines.train to true, name a baselines.folder, or leave the system "
            "out of baselines.enabled"
        )
    return files


def baseline_model(name):
    """What gmsdi.models.checkpoint.build_model takes to make a baseline's model."""
    own = BASELINES["weak_msdm" if name in WEAK else name]["model"]
    shared = {**{key: config["data"][key] for key in ["sample_rate", "window"]}, "labels": LABELS}
    if name == "demucs_gibbs":
        return {"kind": "gibbs", "target": "stems", **own, **shared}
    target, channels = (WEAK[name], 1) if name in WEAK else ("stems", len(LABELS))
    unet = {**config["model"]["config"]["unet"], **own["unet"], "in_channels": channels}
    return {**own, "unet": unet, "text": {"kind": "none"}, "target": target, **shared}


def baseline_training(name):
    return {**config["training"], "initial": None, **BASELINES["weak_msdm" if name in WEAK else name]["training"]}


def decisive(split):
    """The grid's files on a split that a method needs which leaves something open."""
    needed = []
    for settings in map(method_settings, METHODS):
        if settings["chosen_on"] == split and None in settings.values():
            needed += [settings["name"]] if settings["name"] in BASELINES else GRID_METHODS
    return expand("<results>/grid/{split}/{method}.csv", split=split, method=dict.fromkeys(needed))


def task_settings(wildcards):
    """The task's system, solver, guidance and likelihood widths, see gmsdi.experiments.generate."""
    generation, system = config["generation"], system_of(wildcards.task)
    task = wildcards.task.split("_")[0]
    own = generation[task]
    settings = {
        "system": system,
        "task": task,
        "solver": {**generation["solver"], "steps": own["steps"] or generation["solver"]["steps"]},
    }
    if system != "gmsdi":
        baseline = BASELINES[system]["generation"]
        settings["solver"] |= baseline["solver"]
        return settings | {key: baseline[key] for key in ["best_of"] if key in baseline}
    wanted = wildcards.task == "single_negative" or own.get("negatives", False)
    return {
        **settings,
        "guidance": {**generation["guidance"], "w": generation["w"] if own.get("w") is None else own["w"]},
        "negatives": generation["negatives"] if wanted else {},
        "likelihood": {key: own[key] for key in ["gamma_x", "gamma_y", "alpha", "beta"] if key in own},
    }
