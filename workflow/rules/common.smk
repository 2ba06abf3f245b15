# What all parts of the workflow share: the checked configuration, the study that it describes, and paths of files.

import functools
import os
import shlex
import sys
from pathlib import Path

REPO = Path(f"{workflow.current_basedir}").resolve().parents[1]
LOCAL = (REPO / "workflow").is_dir()
if LOCAL:
    sys.path.insert(0, str(REPO))

import gmsdi
from gmsdi.study.config.files import HOME, model_folder as folder_of_model, read

if not LOCAL:  # a module that Snakemake reads from a repository elsewhere: the installed package has the same files
    REPO = HOME

from snakemake.settings.types import DeploymentMethod

from gmsdi.study.config import over_base, retyped, validate, writable
from gmsdi.data.multitracks import find_tracks
from gmsdi.data.versions import JAMENDO_TRACKS, VERSIONS
from gmsdi.errors import UserError
from gmsdi.study import data_kinds, midi, pretrained
from gmsdi.study.config.engines import require_engines
from gmsdi.study.methods import without_steps
from gmsdi.study.names import digest
from gmsdi.study.search import choices
from gmsdi.study.sources import Sources, digest_of_files, state_of_files
from gmsdi.study.study import Study
from gmsdi.study.tasks import Task
from gmsdi.study.work import DATA, DISTANCES, FIGURE2, FIGURE3, FIGURE4, TABLE1, TABLE2, TRAIN, TUNING, Work, Works

try:
    for file in map(Path, workflow.configfiles):
        if file.suffix in (".yaml", ".yml") and file.is_file():
            read(file)  # which refuses keys that are there twice; Snakemake takes the last
    # Settings of --configfile and --config, or of a workflow that uses this one as a module, overlay the base they name.
    given = retyped(config, workflow.config_settings.config_args or [])
    config.update(validate(over_base(given, REPO / "config")))
    writable(Path("results") / config["run"])
    # Rows, tasks, systems and models, and the settings of jobs.
    STUDY = Study(config)
    # For each script, the code that its jobs depend on.
    SOURCES = Sources(REPO / "workflow" / "scripts", cache=".snakemake/gmsdi-sources.json").digests()
except UserError as error:
    sys.exit(str(error))

if workflow.is_main_process:
    for line in STUDY.warnings():
        print(f"warning: config: {line}", file=sys.stderr)

part = STUDY.part

# The work of jobs, for `gmsdi cost`.
WORK = Works(STUDY)

# Other people's packages must be installed before the first job, unless Snakemake creates environments with them.
if workflow.is_main_process and not WORK.to_come:
    if DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method:
        try:
            require_engines(config)
        except UserError as error:
            sys.exit(str(error))

# Scripts find the package even if it is not installed, as in a conda environment.
PATHS = [str(REPO), *([] if LOCAL else [str(REPO / "workflow" / "scripts")]), os.environ.get("PYTHONPATH")]
PYTHONPATH = os.pathsep.join(filter(None, PATHS))
QUOTED = shlex.quote(PYTHONPATH).replace("{", "{{").replace("}", "}}")  # Snakemake formats the prefix
shell.prefix(f"set -euo pipefail; export PYTHONPATH={QUOTED}; ")

WINDOW_FILES = ["windows.csv", "tracks.csv", "activity.csv", "info.json", "mix.npy"]
TABLES = ["table1_grid", "table2_separation", "table2_differences"]
TABLES += ["negative_prompts"] if config["generation"]["negatives"] else []
TABLES += ["codecs"] if STUDY.codecs else []
TABLES += ["engines"] if config["fad"]["compare_engines"] else []
TABLES += ["table2_bss_eval"] if config["separation"]["bss_eval"] else []
FIGURES = ["figure2_fad_stems", "figure3_fad_mixtures", *(["figure4_costs"] if config["costs"]["steps"] else [])]
THREADS = config["jobs"]["threads"]  # long jobs have priority, so that none runs alone at the end


pathvars:
    results=f"results/{config['run']}",
    data=f"results/data/{STUDY.dataset_id()}",
    jamendo=f"results/data/{STUDY.jamendo_id()}",


wildcard_constraints:
    method="[a-z_A-Z0-9]+",
    part="(train|validation|test)-([0-9]+(-[0-9]+)?|all)",
    shard="[0-9]+",
    shards="[0-9]+",
    split="train|test|validation",
    search="[a-z0-9_]+",
    task="(single|total|partial)[a-z0-9_]*",
    baseline="[a-z_A-Z0-9]+",
    codec="[a-z0-9_]+",


def code(script, *files):
    """A digest of the code that a job's result depends on; if it changes, the job runs again.

    It covers the script with everything that it uses of the package (see gmsdi.study.sources), and files of the
    workflow's folder. Neither comments nor the location of the repository change it.
    """
    return SOURCES[script] + (digest_of_files(REPO / "workflow", *files) if files else "")


def windows(name):
    """The files of a part's windows folder, by role."""
    if name in STUDY.jamendo_parts():
        return [f"<jamendo>/{name}/windows/{file}" for file in WINDOW_FILES]
    stems = [] if name.startswith("train-") else ["stems.npy"]
    return [f"<data>/{name}/windows/{file}" for file in [*WINDOW_FILES, *stems]]


TEST = windows(part("test"))


# MTG-Jamendo: its tracks, and the receipts of unpacked shards.
JAMENDO = config["training_data"]
JAMENDO_ROOT = JAMENDO["root"] or f"{JAMENDO['download']['folder']}/mtg_jamendo"
JAMENDO_RECEIPT = f"{JAMENDO['download']['folder']}/mtg_jamendo-{{shard}}-{JAMENDO['tracks'] or 'all'}.json"
if STUDY.jamendo and JAMENDO["root"] and not Path(JAMENDO_ROOT).is_dir():
    sys.exit(
        f"config: training_data.root: no folder {JAMENDO_ROOT}; set it to the folder of MTG-Jamendo, or to null to "
        "download it"
    )


def jamendo_tracks(wildcards):
    """The files that show that the tracks of a part of MTG-Jamendo are there."""
    if JAMENDO["root"]:
        return []
    return expand(JAMENDO_RECEIPT, shard=[f"{shard:02d}" for shard in STUDY.jamendo_parts()[wildcards.part]])


# Slakh2100: its archive, and the receipt of unpacked tracks.
VERSION = VERSIONS[config["data"]["source"]]
DOWNLOAD = config["data"]["download"]
SLAKH = data_kinds.SLAKH.folder(config["data"])
UNPACKED = f"{DOWNLOAD['folder']}/{VERSION.folder}-{digest(STUDY.selection())}.json"
if config["data"]["kind"] == "slakh" and config["data"]["root"] and not Path(SLAKH).is_dir():
    sys.exit(f"config: data.root: no folder {SLAKH}; set it to the folder of the data set, or to null to download it")


@functools.cache
def tracks_of_user():
    """The multi-tracks of each split; their folder is looked through once."""
    return find_tracks(config["data"], STUDY.splits())


def state_of_tracks(wildcards):
    """A digest of the state of the user's files of a part."""
    tracks = tracks_of_user()[split_of(wildcards)]
    return state_of_files(
        config["data"]["root"], [file for track in tracks for own in track.stems.values() for file in own]
    )


# A parameter of jobs that read the user's own tracks: Snakemake itself would only look at the time of the folder, which
# does not tell that a file below it was changed.
STATE = {"state": state_of_tracks} if config["data"]["kind"] == "stems" and not WORK.to_come else {}


# Your own tracks: errors are reported before anything else is done, once per run.
if data_kinds.KINDS[config["data"]["kind"]].MADE is None and config["data"]["kind"] != "slakh":
    if not config["data"]["root"]:
        sys.exit(f"config: data.root is not set; data.kind {config['data']['kind']} needs the folder of your tracks")
if config["data"]["kind"] == "stems":
    if workflow.is_main_process and not WORK.to_come:
        try:
            tracks_of_user()
        except UserError as error:
            sys.exit(str(error))


# MIDI songs: the folders that the configuration names, and those that are composed here.
SONG_FOLDERS = midi.folders(config["data"]) if config["data"]["kind"] == "midi" else []
for folder in SONG_FOLDERS:
    if not Path(folder).expanduser().exists():
        sys.exit(f"config: data.midi.songs: no folder {folder}; set root to a folder of MIDI files")
if config["data"]["kind"] == "midi" and not config["data"]["midi"]["songs"]:
    sys.exit("config: data.midi.songs: names no source; give at least one, such as {kind: files, root: FOLDER}")


@functools.cache
def state_of_songs():
    """A digest of the state of the user's MIDI files."""
    from gmsdi.data.midi import song_files

    return [state_of_files(Path(folder).expanduser(), song_files(folder)) for folder in SONG_FOLDERS]


def split_of(wildcards):
    """The split of a part."""
    return wildcards.part.split("-")[0]


def composed_source(wildcards):
    """The source of composed songs that a folder is of."""
    return midi.composed(config["data"])[f"{wildcards.source}-{wildcards.number}"]


def composed_songs(split):
    """The folders of the composed songs of a split."""
    return [
        f"<data>/songs/{name}/{split}"
        for name, source in midi.composed(config["data"]).items()
        if source.get("tracks", {}).get(split)
    ]


def song_lists(split):
    """The tables of the songs of a split."""
    found = ["<data>/songs/files.csv"] if SONG_FOLDERS else []
    return found + ([f"<data>/songs/composed-{split}.csv"] if composed_songs(split) else [])


def dataset(wildcards):
    """The file or folder that shows that the data set of a part is there."""
    if made := data_kinds.KINDS[config["data"]["kind"]].MADE:
        return f"<data>/{wildcards.part}/{made}"
    return config["data"]["root"] or UNPACKED  # only Slakh2100 is downloaded; for others a root is required above


def chunking(wildcards):
    """Settings of gmsdi.data.windows.build_windows, or of build_multitrack_windows."""
    data = config["data"]
    settings = {key: data[key] for key in ["sample_rate", "window", "channels", "classes", "min_active"]}
    return {**settings, **data_kinds.KINDS[data["kind"]].cutting(data, split_of(wildcards))}


# Models that come with the package are parameters, not inputs: by name and digest, wherever the package is.
WEIGHTS = Path(gmsdi.__file__).resolve().parent / "weights"
MODEL_FILES = ["model.safetensors", "config.json"]


@functools.cache
def digest_of_model(folder):
    return digest_of_files(folder, *MODEL_FILES)


# Pretrained models are parameters, too: the name that jobs open, with a digest.
try:
    PRETRAINED = {where: found for key, where in pretrained.named(config) if (found := pretrained.find(key, where))}
    if workflow.is_main_process:
        for found in PRETRAINED.values():
            pretrained.refuse_opening(found, config)
except UserError as error:
    sys.exit(str(error))


def model_folder():
    if config["model"]["train"]:
        return "<results>/model"
    return str(folder_of_model(config["model"]["folder"]))


def embedded_windows(name):
    """The CLAP embeddings of a part's windows, if the model is trained on them."""
    if not STUDY.clap:
        return []
    folder = "laion_clap" if config["model"]["config"]["text"]["kind"] == "laion_clap" else "clap"
    return f"<results>/{folder}/embeddings/{name}"


def codec_files():
    """Weights and configuration of the codec whose latents the model is trained on, if there is one."""
    return [f"<results>/codecs/{config['codec']['use']}/{file}" for file in MODEL_FILES] if STUDY.latent else []


def initial_files(model):
    """Weights and configuration of the model that a training starts from, unless it comes with the package."""
    folder = STUDY.training(model)["initial"]
    if folder is None or Path(folder).resolve().is_relative_to(WEIGHTS):
        return []
    return [f"{folder}/{file}" for file in MODEL_FILES]


def clap_files():
    """Weights and configuration of the CLAP, if there is one; empty if LAION's is downloaded."""
    given = config["model"]["config"]["text"]["checkpoint"]
    if not STUDY.clap or not (given or config["clap"]["train"]):
        return []
    if config["clap"]["train"]:
        return [f"<results>/clap/model/{name}" for name in MODEL_FILES]
    path = Path(given).expanduser()
    files = [path / name for name in MODEL_FILES] if path.is_dir() else [path]
    missing = [file for file in files if not file.is_file()]
    if missing:
        sys.exit(f"config: model.config.text.checkpoint: no {missing[0]}; set it to a CLAP, or to null")
    return [str(file) for file in files]


def shards(kind, pattern):
    """The files of all shards; `pattern` has the wildcards shard and shards."""
    count = config["jobs"][kind]
    return expand(pattern, shard=range(1, count + 1), shards=count, allow_missing=True)


def averaged(ending):
    """The files of the rows that a row averages."""

    def files(wildcards):
        names = STUDY.averages[wildcards.method].of
        return [f"<results>/separation/{name}/{wildcards.shard}-of-{wildcards.shards}.{ending}" for name in names]

    return files


def baseline_folder(name):
    if config["baselines"]["train"]:
        return f"<results>/baselines/{name}"
    return f"{config['baselines']['folder'] or WEIGHTS / 'baselines'}/{name}"


def system_folders(system):
    """The folders of a system's models, in order."""
    if system.kind == "gmsdi":
        folders, trained = [model_folder()], config["model"]["train"]
        key, mend = "model.folder", "set it to the folder of a model, or set model.train to true"
    else:
        folders, trained = [baseline_folder(model) for model in system.models], config["baselines"]["train"]
        key, mend = "baselines", (
            "set baselines.train to true, name a baselines.folder, or leave out the system's rows of separation.rows, by null"
        )
    files = [f"{folder}/{file}" for folder in folders for file in MODEL_FILES]
    known = trained or folders[0] in PRETRAINED
    missing = [] if known else [file for file in files if not Path(file).is_file()]
    if missing:
        if Path(missing[0]).is_relative_to(WEIGHTS / "baselines"):
            mend = f"their weights are a package of their own, install the wheel gmsdi-baselines; or {mend}"
        sys.exit(f"config: {key}: no {missing[0]}; {mend}")
    return folders


def row_folders(*names):
    """The folders of the models that rows run on."""
    return [folder for row in map(STUDY.row, names) for folder in folders_of(row)]


def folders_of(item):
    """The folders of the models that a row or a task runs on."""
    if getattr(item, "model", None) is None:
        return system_folders(item.system)
    folder = str(folder_of_model(item.model))
    files = [] if folder in PRETRAINED else MODEL_FILES
    missing = [file for file in files if not Path(folder, file).is_file()]
    if missing:
        key = f"generation.models, for {item.name}" if isinstance(item, Task) else f"separation.rows.{item.name}.model"
        sys.exit(
            f"config: {key}: no {folder}/{missing[0]}; set it to a model's folder, or to "
            "the name of one that is installed, mini or, with gmsdi-general, general"
        )
    return [folder]


def task_folders(*names):
    """The folders of the models that tasks run on."""
    return [folder for name in names for folder in folders_of(STUDY.tasks[name])]


def engine_folder(name):
    """The folder of an engine's distances: the chosen engine's are where figures and tables read them."""
    return "<results>" if name == config["fad"]["engine"] else f"<results>/engines/{name}"


def stems_of(task):
    """The stems of a task's mixtures."""
    return task.rows if task.mixed else []


def search_folders(*names):
    """The folders of the models that searches run on."""
    variants = [variant for name in names for variant in STUDY.searches[name].variants]
    return [folder for variant in variants for folder in folders_of(variant)]


def model_inputs(folders):
    """Weights and configurations of models, except those that are parameters, see `bundled`."""
    return [
        f"{folder}/{file}"
        for folder in dict.fromkeys(folders)
        if not Path(folder).is_relative_to(WEIGHTS) and folder not in PRETRAINED
        for file in MODEL_FILES
    ]


def bundled(folders):
    """The models that are parameters, each with its digest.

    Those that come with the package by their folders in gmsdi/weights, and pretrained ones by "pretrained:" and name.
    """
    named = [PRETRAINED[folder] for folder in dict.fromkeys(folders) if folder in PRETRAINED]
    return {f"pretrained:{found.opened}": found.digest for found in named} | {
        Path(folder).relative_to(WEIGHTS).as_posix(): digest_of_model(Path(folder))
        for folder in dict.fromkeys(folders)
        if Path(folder).is_relative_to(WEIGHTS)
    }


def bundled_embedding(name):
    """A digest of the weights of an embedding that come with the package; empty for weights from elsewhere."""
    if not name.startswith("musicnn"):
        return ""
    return digest_of_files(
        WEIGHTS, *sorted(f"musicnn/{file.name}" for file in (WEIGHTS / "musicnn").glob("*.safetensors"))
    )


def decisive(split, names=None):
    """The grid's files on a split that decide the open settings of rows, by default of all."""
    return expand("<results>/grid/{split}/{method}.csv", split=split, method=STUDY.deciding(split, names))


# A job of a row chooses the row's open settings itself. If it read them from selection.json, which has every row, an edit
# of one row would make all rows run again.
def decisive_of_row(split):
    """The same for the row of a job."""
    return lambda wildcards: decisive(split, STUDY.separated(wildcards.method))


def rows_of_job(wildcards):
    """The row of a job, and its twin."""
    return {name: row.model_dump() for name, row in STUDY.separated(wildcards.method).items()}


def chosen_by(wildcards):
    """What decides among the grid's settings, if the row of a job has open ones."""
    rows = STUDY.separated(wildcards.method).values()
    return config["grid"]["select_by"] if any(row.is_open for row in rows) else None
