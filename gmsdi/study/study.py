"""What a configuration asks for: its methods, tasks and models, and the settings of each.

The workflow takes the parameters of its jobs from here, and `gmsdi.study.work` what it counts. Nothing is computed and
no heavy library is imported, so that building the workflow's graph takes no time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gmsdi.data.versions import VERSIONS, numbers_of
from gmsdi.study.config import Config, digest, slug

VALIDATED = {"separator_validated": "separator", "extractor_validated": "extractor"}
"""Rows of Table 2 whose settings were chosen on validation chunks, each with the same method as chosen in Table 1."""

GMSDI, MSDM, WEAK_MSDM, DEMUCS_GIBBS = "gmsdi", "msdm", "weak_msdm", "demucs_gibbs"
CLAP = "clap"
"""The small CLAP, a model that separates nothing; its embeddings condition another."""
CLAP_KEYS = ("checkpoint", "sha256", "tokenizer")
"""Keys of a text encoder that no other kind has."""
UNSUPERVISED = ", unsupervised (CLAP)"
"""Ends the titles of rows whose model has seen no labels: the paper's word, though LAION's CLAP has seen captions."""
LABELLED_CLAP = ", by a CLAP that has seen labels"
"""Ends the titles of rows whose model has seen no labels, but embeddings by a CLAP that was trained on them."""
WEAKLY = ", weakly supervised"
"""Ends the titles of rows of a model of labels beside them, which the paper's GMSDI of Table 2 is."""
SEQUENTIAL, EXTRACTED, GROUPS = TOTALS = ("sequential", "extracted", "groups")
"""Tasks of total generation that have keys of their own below `generation`; the last is Eq. 11."""
TITLES = {MSDM: "MSDM", WEAK_MSDM: "Weakly Supervised MSDM", DEMUCS_GIBBS: "Demucs + Gibbs, {steps} steps"}
"""Rows of Table 2 with the paper's other systems; see `titled`."""
PUBLISHED = {DEMUCS_GIBBS: "Demucs + Gibbs (512 steps)"}
"""What the paper's Table 2 calls the methods that are called otherwise here."""


@dataclass(frozen=True)
class Single:
    """A task that samples single stems from their labels.

    Attributes:
        series: what tables and Figure 2 call it.
        w: its guidance.
        negative: whether it has negative prompts.
        curve: whether it belongs to the curve over w, which has fewer clips, and not to Figure 2.
    """

    series: str
    w: float
    negative: bool
    curve: bool


class Study:
    """The methods, tasks and models of a configuration.

    A method separates (Table 2), a task generates (Figures 2 and 3), and a system runs them: "gmsdi", "msdm",
    "weak_msdm" or "demucs_gibbs", see `system_of`. A model is one of the networks that a system consists of: "gmsdi",
    "msdm", "demucs_gibbs", or one for each label of "weak_msdm".

    Args:
        config: with every default filled in, see `gmsdi.study.config.validate`.

    Attributes:
        config: as given.
        labels: the K stem labels, in the order of every table.
        separators: Table 1's Separators by name, each with its constrained stem.
        grid_methods: methods of Table 1.
        baselines: settings of the paper's other systems that run, by name.
        weak: the models of "weak_msdm" by name, each with its label.
        baseline_models: all models of the baselines.
        extras: settings of Table 2's rows beyond the paper, by name.
        unsupervised: how the titles end of rows of a model that the run trains on CLAP embeddings, without labels of
            its own; empty if it does not.
        validation: whether the grid is also computed on validation chunks.
        validated: as `VALIDATED`, those that run.
        jamendo: whether the text-conditioned model is trained on MTG-Jamendo.
        methods: of Table 2, in its order.
        costed: methods of the figure of costs: without the Gaussian separator, which is unstable in the few steps that
            the figure asks for.
        singles: the tasks of single stems: with and without negative prompts at every w of Figure 2 and of the curve.
        shown: tasks of the text-conditioned model that the gallery has examples of.
        gmsdi_tasks: tasks of the text-conditioned model.
        tasks: all tasks.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.labels: list[str] = list(config["data"]["classes"])
        self.separators = {f"separator_{slug(label)}": label for label in self.labels}
        self.grid_methods = ["extractor", *self.separators]

        self.baselines: dict[str, Any] = {name: config["baselines"][name] for name in config["baselines"]["enabled"]}
        self.weak = {f"weak_msdm_{slug(label)}": label for label in self.labels}
        self.baseline_models = [model for name in self.baselines for model in self.models(name)]

        self.extras: dict[str, Any] = config["separation"]["extras"]
        self.clap = config["model"]["config"]["text"]["kind"] == CLAP
        self.unsupervised = ""
        if config["model"]["train"] and self.clap:
            self.unsupervised = LABELLED_CLAP if config["clap"]["train"] else UNSUPERVISED
        self.validation = config["grid"]["validation"]["chunks"] is not None
        self.validated = VALIDATED if self.validation else {}
        gaussian = ["msdm_gaussian"] if MSDM in self.baselines else []
        self.methods = ["separator", "extractor", *self.baselines, *gaussian, *self.extras, *self.validated]
        self.costed = ["separator", "extractor", *self.baselines, *self.extras]

        self.jamendo: bool = config["model"]["train"] and config["training_data"]["kind"] == "jamendo"

        self.singles = self._singles()
        beyond = [f"total_{way}" for way in TOTALS if config["generation"][way]]
        conditioned = ["partial_conditioned"] if config["generation"]["conditioned"] else []
        self.gmsdi_tasks = [*self.singles, "total", *beyond, "partial", *conditioned]
        self.shown = [task for task in self.gmsdi_tasks if task not in self.singles or not re.search(r"_w[\d_]", task)]
        self.tasks = [
            *self.gmsdi_tasks,
            *(["single_weak_msdm"] if WEAK_MSDM in self.baselines else []),
            *(["total_msdm", "partial_msdm"] if MSDM in self.baselines else []),
        ]

    # --- Separation ---------------------------------------------------------------------------------------------------

    def method_settings(self, method: str) -> dict[str, Any]:
        """All settings of a method.

        Returns:
            What `gmsdi.study.experiments.choose_settings` takes: the settings of `separate`, of which None is chosen
            from the grid on the split `chosen_on`, and maybe a `title`.
        """
        separation = self.config["separation"]
        if system_of(method) != GMSDI:
            return self._baseline_settings(method)
        own = self.extras.get(method, {})
        name = own.get("of", VALIDATED.get(method, method.split("_")[0]))
        base = separation[name]
        settings = {
            "name": name,
            "w": own.get("w") if own else base["w"],
            "negatives": base["negatives"],
            "solver": {**separation["solver"], **base["solver"], **own.get("solver", {})},
            "chosen_on": "validation" if self.validation and method not in ("separator", "extractor") else "test",
        }
        if name == "separator" and not own.get("projected"):
            settings["constrained"] = self.separators.get(method, own.get("constrained", base["constrained"]))
        options = ("title", "consistent", "by_power", "projected", "samples", "inverted", "wiener")
        settings |= {key: own[key] for key in options if key in own}
        if method in self.validated:
            settings["title"] = f"GMSDI {name.capitalize()}{self.unsupervised}, chosen on validation chunks"
        elif not own and self.unsupervised:
            settings["title"] = f"GMSDI {name.capitalize()}{self.unsupervised}"
        return titled(settings)

    def _baseline_settings(self, method: str) -> dict[str, Any]:
        """`method_settings` of the paper's other systems."""
        system = system_of(method)
        own = self.baselines[system]["separation"]
        settings: dict[str, Any] = {"name": system, "title": TITLES[system], "chosen_on": "test"}
        if system == DEMUCS_GIBBS:
            return titled(settings | own)
        settings["solver"] = {**self.config["separation"]["solver"], **own["solver"]}
        settings |= self._clamp(system)
        if method == "msdm_gaussian":
            return settings | {"title": "MSDM, Gaussian likelihood", "gaussian": True}
        return settings | {"constrained": own["constrained"]}

    def grid_chunks(self, split: str) -> int | None:
        """Number of chunks of the grid on a split; None is all."""
        grid = self.config["grid"]
        chunks: int | None = grid["chunks"] if split == "test" else grid["validation"]["chunks"]
        return chunks

    def grid_cells(self, method: str, split: str) -> list[dict[str, Any]]:
        """The settings of every cell of a method's part of the grid: each w, or each constrained stem of MSDM."""
        settings, grid = self.method_settings(method), self.config["grid"]
        if system_of(method) != GMSDI:
            return [{**settings, "constrained": label} for label in self.labels]
        values = grid["w"] if split == "test" else grid["validation"]["w"] or grid["w"]
        solver = {**settings["solver"], **grid["solver"]}
        return [{**settings, "w": w, "solver": solver} for w in values]

    def grid_steps(self) -> dict[str, int]:
        """Solver steps of Table 1's Extractor and Separator."""
        first = {"extractor": "extractor", "separator": next(iter(self.separators))}
        return {name: self.grid_cells(method, "test")[0]["solver"]["steps"] for name, method in first.items()}

    def deciding(self, split: str) -> list[str]:
        """The methods whose grid on a split settles what a method of Table 2 leaves open."""
        needed: list[str] = []
        for settings in map(self.method_settings, self.methods):
            if settings["chosen_on"] == split and None in settings.values():
                needed += [settings["name"]] if settings["name"] in self.baselines else self.grid_methods
        return list(dict.fromkeys(needed))

    # --- Generation ---------------------------------------------------------------------------------------------------

    def _singles(self) -> dict[str, Single]:
        generation = self.config["generation"]
        own, found = generation["single"], {}
        for curve, values in ((False, own["w"] or [generation["w"]]), (True, own["w_curve"])):
            for number, w in enumerate(values):
                for negative in (False, True) if generation["negatives"] else (False,):
                    task = f"single{'_negative' * negative}{'_curve' * curve}"
                    task += "" if number == 0 and not curve else f"_w{slug(f'{w:g}')}"
                    series = f"{'with' if negative else 'without'} negative prompts, w = {w:g}"
                    found[task] = Single(f"curve, {series}" if curve else series, float(w), negative, curve)
        return found

    def clips(self, task: str) -> int:
        """Clips of each bar of a task."""
        generation = self.config["generation"]
        few = task in self.singles and self.singles[task].curve
        return int(generation["single"]["curve_clips"] if few else generation["clips"])

    def task_settings(self, task: str) -> dict[str, Any]:
        """What `gmsdi.study.experiments.generate` takes: the task's system, solver, guidance and likelihood widths."""
        generation, system, kind = self.config["generation"], system_of(task), task.split("_")[0]
        way = task.split("_")[1] if task.startswith("total_") and system == GMSDI else None
        own = generation["conditioned" if task == "partial_conditioned" else kind]
        if way in (SEQUENTIAL, EXTRACTED):
            own = generation[way]
        settings: dict[str, Any] = {
            "system": system,
            "task": kind,
            "solver": {**generation["solver"], **own["solver"]},
        }
        if system != GMSDI:
            baseline = self.baselines[system]["generation"]
            settings["solver"] |= baseline["solver"] | baseline.get(kind, {}).get("solver", {})
            return settings | self._clamp(system) | {key: baseline[key] for key in ("best_of",) if key in baseline}
        if way == GROUPS:
            settings["groups"] = generation["groups"]
        elif way is not None:
            settings["way"] = way
        if way == SEQUENTIAL:
            settings["order"] = own["order"]
        if way == EXTRACTED:
            separation, extraction = self.config["separation"], own["extraction"]
            solver = {**separation["solver"], **separation["extractor"]["solver"], **extraction["solver"]}
            settings["extraction"] = {
                **extraction,
                "name": "extractor",
                "solver": solver,
                "guidance": separation["guidance"],
            }
        single = self.singles.get(task)
        negative = single.negative if single else own.get("negatives", False)
        w = single.w if single else own.get("w")
        return {
            **settings,
            "guidance": {**generation["guidance"], "w": generation["w"] if w is None else w},
            "negatives": generation["negatives"] if negative else {},
            "likelihood": {
                key: own[key]
                for key in (
                    "gamma_x",
                    "gamma_y",
                    "noise",
                    "consistent",
                    "alpha",
                    "beta",
                    "given_noise",
                    "share",
                    "lags",
                )
                if key in own
            },
        }

    def rows(self, task: str) -> list[str]:
        """What the stems of a task of mixtures are called, in the order of its audio."""
        groups = self.config["generation"]["groups"] if task == f"total_{GROUPS}" else None
        return self.labels if groups is None else [", ".join(group) for group in groups]

    def _clamp(self, system: str) -> dict[str, Any]:
        """The limit of a baseline's denoised signal, if it has one."""
        clamp = self.baselines[system]["clamp"]
        return {} if clamp is None else {"clamp": clamp}

    # --- Models -------------------------------------------------------------------------------------------------------

    def systems(self) -> list[str]:
        """The systems that run."""
        return [GMSDI, *self.baselines]

    def models(self, name: str) -> list[str]:
        """The models of the system that runs a method or a task, in the order of `targets`."""
        system = system_of(name)
        return list(self.weak) if system == WEAK_MSDM else [system]

    def targets(self, name: str) -> list[str]:
        """What each of these models denoises, see `gmsdi.study.experiments.load_system`."""
        return {GMSDI: ["mixture"], WEAK_MSDM: self.labels}.get(system_of(name), ["stems"])

    def model_of(self, name: str) -> str | None:
        """The model of its own that a method has: a folder, or "bundled"; None is that of its system."""
        return self.extras.get(name, {}).get("model")

    def trained(self) -> list[str]:
        """The models that are trained for the results."""
        own = [GMSDI] if self.config["model"]["train"] else []
        return own + (self.baseline_models if self.config["baselines"]["train"] else [])

    def model_config(self, model: str) -> dict[str, Any]:
        """What `gmsdi.models.checkpoint.build_model` takes to make a model."""
        config = self.config
        shared = {**{key: config["data"][key] for key in ("sample_rate", "window")}, "labels": self.labels}
        if model == CLAP:
            features = config["model"]["config"]["text"]["features"]
            return {"kind": "clap", "features": features, **config["clap"]["config"], **shared}
        if model == GMSDI:
            text = dict(config["model"]["config"]["text"])
            if self.clap and config["clap"]["train"]:
                text["checkpoint"] = f"results/{config['run']}/clap/model"
            elif not self.clap:
                text = {key: value for key, value in text.items() if key not in CLAP_KEYS}
            return {**config["model"]["config"], "text": text, **shared}
        own = self.baselines[system_of(model)]["model"]
        if model == DEMUCS_GIBBS:
            return {"kind": "gibbs", "target": "stems", **own, **shared}
        target, channels = (self.weak[model], 1) if model in self.weak else ("stems", len(self.labels))
        unet = {**config["model"]["config"]["unet"], **own["unet"], "in_channels": channels}
        return {**own, "unet": unet, "text": {"kind": "none"}, "target": target, **shared}

    def training(self, model: str) -> dict[str, Any]:
        """The given settings of training of a model (`TrainingConfig`), or of "demo", the demo's short training.

        Without `devices`, on which the result does not depend.
        """
        return {key: value for key, value in self._training(model).items() if key != "devices"}

    def devices(self, model: str) -> int:
        """Over how many devices a training shares its batches."""
        return int(self._training(model).get("devices", 1))

    def _training(self, model: str) -> dict[str, Any]:
        training: dict[str, Any] = self.config["training"]
        if model == GMSDI:
            return training
        if model == "demo":
            return {**training, **self.config["demo_training"]["training"]}
        if model == CLAP:  # every window has its text
            return {**training, "initial": None, **self.config["clap"]["training"], "p_drop": 0.0}
        return {**training, "initial": None, **self.baselines[system_of(model)]["training"]}

    # --- Data ---------------------------------------------------------------------------------------------------------

    def dataset_id(self) -> str:
        """Folder name of the dataset: the same for all runs whose chunks are the same."""
        data, kind = self.config["data"], self.config["data"]["kind"]
        used = {
            "mini": ("seed", "root", "mini"),
            "midi": ("seed", "tracks", "midi"),
            "slakh": ("root", "source", "tracks"),
            "stems": ("seed", "root", "tracks", "stems"),
        }
        own = {key: data[key] for key in used.get(kind, ())}
        if kind == "mini":
            own["mini"] = {key: value for key, value in data["mini"].items() if key != "tracks"}
        if kind == "midi":
            own["midi"] = {key: value for key, value in data["midi"].items() if key != "time_limit"}
        shared = {key: data[key] for key in ("kind", "sample_rate", "window", "min_active", "classes")}
        return f"{kind}-{digest([shared, own])}"

    def midi(self, split: str) -> dict[str, Any]:
        """What `gmsdi.data.midi_dataset.MidiConfig` takes for a split."""
        data = self.config["data"]
        settings = {key: value for key, value in data["midi"].items() if key != "songs"}
        settings["soundfonts"] = settings["soundfonts"][split]
        return {**settings, "sample_rate": data["sample_rate"], "classes": data["classes"]}

    def song_sources(self) -> dict[str, dict[str, Any]]:
        """The sources of composed songs by the names of their folders, such as "arranged-1"."""
        songs = enumerate(self.config["data"]["midi"]["songs"], 1)
        return {f"{source['kind']}-{number}": source for number, source in songs if source["kind"] != "files"}

    def song_folders(self) -> list[str]:
        """The folders of songs in files."""
        return [source["root"] for source in self.config["data"]["midi"]["songs"] if source["kind"] == "files"]

    @property
    def learns_from_data(self) -> bool:
        """Whether the text-conditioned model, or the CLAP of its training, is trained on `data`."""
        config = self.config
        return config["model"]["train"] and (not self.jamendo or (self.clap and config["clap"]["train"]))

    def splits(self) -> list[str]:
        """The splits of `data` that are needed."""
        config = self.config
        training = self.learns_from_data or config["demo_training"]["enabled"]
        training = training or (bool(self.baseline_models) and config["baselines"]["train"])
        return [*(["train"] if training else []), *(["validation"] if training or self.validation else []), "test"]

    def selection(self) -> dict[str, Any]:
        """What is unpacked of Slakh2100, as `download_slakh` takes it; tracks as [first, last + 1]."""
        data, version = self.config["data"], VERSIONS[self.config["data"]["source"]]
        found = {split: numbers_of(data["source"], split, data["tracks"][split]) for split in self.splits()}
        tracks = [[numbers.start, numbers.stop] for numbers in found.values()]
        everything = tracks == [[numbers.start, numbers.stop] for numbers in version.numbers.values()]
        limited = any(data["tracks"][split] for split in found)
        return {
            "splits": list(found) if version.folders else None,
            "tracks": None if everything or (version.folders and not limited) else tracks,
            "classes": sorted({member for members in data["classes"].values() for member in members}),
        }

    def part(self, split: str, tracks: int | None = None) -> str:
        """Name of a dataset part; the mini dataset composes only as many tracks of a split as are asked for."""
        if self.config["data"]["kind"] == "mini":
            return f"{split}-{tracks or self.config['data']['mini']['tracks'][split]}"
        return f"{split}-all"

    def jamendo_id(self) -> str:
        """Folder name of MTG-Jamendo's chunks: the same for all runs whose chunks are the same."""
        data, training = self.config["data"], self.config["training_data"]
        settings = [*(data[key] for key in ("sample_rate", "window")), *(training[key] for key in ("root", "tracks"))]
        return f"jamendo-{digest(settings)}"

    def learned(self, split: str) -> str:
        """Name of the part that the text-conditioned model is trained on ("train"), or validated on."""
        return next((name for name in self.jamendo_parts() if name.startswith(f"{split}-")), self.part(split))

    def jamendo_parts(self) -> dict[str, range]:
        """Of MTG-Jamendo's parts that are learned from, such as "train-0-97" and "validation-98-99", the shards."""
        if not self.jamendo:
            return {}
        splits = self.config["training_data"]["shards"]
        return {f"{split}-{first}-{last}": range(first, last + 1) for split, (first, last) in splits.items()}


def with_steps(method: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """A method with another number of steps, of its solver (with as much churn in each) or of its Gibbs chain."""
    if "solver" in method:
        solver = method["solver"]
        churn = solver["s_churn"] * steps / solver["steps"]
        return {**method, "solver": {**solver, "steps": steps, "s_churn": churn}}
    return {**method, "steps": steps}


def titled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A method with the numbers that its title leaves to its settings: `{steps}` and `{samples}`."""
    if "title" not in settings:
        return dict(settings)
    steps = settings["solver"]["steps"] if "solver" in settings else settings.get("steps")
    return {**settings, "title": settings["title"].format(steps=steps, samples=settings.get("samples", 1))}


def without_steps(titles: Mapping[str, str]) -> dict[str, str]:
    """The titles of methods where their numbers of steps vary: without them, unless two would be the same."""
    short = {method: re.sub(r",? \(?\d+ steps\)?", "", title) for method, title in titles.items()}
    again = [title for title in short.values() if list(short.values()).count(title) > 1]
    return {method: titles[method] if title in again else title for method, title in short.items()}


def system_of(name: str) -> str:
    """What runs a method or a task, or consists of a model: "gmsdi", "msdm", "weak_msdm" or "demucs_gibbs"."""
    if WEAK_MSDM in name:
        return WEAK_MSDM
    if MSDM in name.split("_"):
        return MSDM
    return name if name == DEMUCS_GIBBS else GMSDI
