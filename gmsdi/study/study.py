"""What a configuration asks for: its methods, tasks, systems and models as objects, and its data by name.

The workflow takes the parameters of its jobs from here, and `gmsdi.study.work` what it counts. Nothing is computed and
no heavy library is imported, so that building the workflow's graph takes no time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gmsdi.data.versions import VERSIONS, numbers_of
from gmsdi.sampling.solver import changed
from gmsdi.study.config import Config, digest, slug
from gmsdi.study.methods import Extractor, Row
from gmsdi.study.pretrained import is_pretrained
from gmsdi.study.rows import GMSDI, Rows
from gmsdi.study.search import Search
from gmsdi.study.setups import Setup
from gmsdi.study.tasks import (
    Alone,
    Conditioned,
    Extracted,
    Groups,
    Partial,
    PartialMsdm,
    Sequential,
    Single,
    SingleWeakMsdm,
    Task,
    Total,
    TotalMsdm,
)

CLAP, CODEC, DEMO = "clap", "codec", "demo"
"""Names of trainings beside those of the systems' models: the small CLAP, a model that separates nothing and whose
embeddings condition another; the codecs, of whose latents it may be; and the text-conditioned model in the demo's short
training."""
CLAP_KEYS = ("checkpoint", "sha256", "tokenizer")
"""Keys of a text encoder that no other kind has."""


class Study:
    """The methods, tasks, systems and models of a configuration.

    A row separates (Table 2), a task generates (Figures 2 and 3), and a system runs them. A model is one of the
    networks that a system consists of.

    Args:
        config: with every default filled in, see `gmsdi.study.config.validate`.

    Attributes:
        config: as given.
        labels: the K stem labels, in the order of every table.
        systems: those that run, by name; the text-conditioned model is the first.
        rows: those of Table 2 that separate, by name, in its order.
        grid_rows: those of Table 1 by name.
        ensembles: the rows of Table 2 that are made of others' scores, by name.
        tasks: all tasks by name.
        searches: those of `make tune` by name.
        validation: whether the grid is also computed on validation chunks.
        jamendo: whether the text-conditioned model is trained on MTG-Jamendo.
        clap: whether it is trained on embeddings by a CLAP.
        latent: whether it is trained on the latents of a codec.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.labels: list[str] = list(config["data"]["classes"])
        self.clap = config["model"]["config"]["text"]["kind"] == CLAP
        self.latent = config["model"]["config"]["kind"] == "latent"
        self.jamendo: bool = config["model"]["train"] and config["training_data"]["kind"] == "jamendo"
        self.validation = config["grid"]["validation"]["chunks"] is not None
        self._rows = Rows(config)
        self.systems, self.grid_rows, self.rows = self._rows.systems, self._rows.grid, self._rows.table
        self.ensembles = self._rows.ensembles
        self.tasks = {task.name: task for task in self._tasks()}
        self.searches = {name: Search.of(name, self, own) for name, own in config["tuning"]["searches"].items()}

    # --- Separation ---------------------------------------------------------------------------------------------------

    def row(self, name: str) -> Row:
        """A row of Table 2 or Table 1."""
        return self.rows.get(name) or self.grid_rows[name]

    def grid_chunks(self, split: str) -> int | None:
        """Number of chunks of the grid on a split; None is all."""
        grid = self.config["grid"]
        chunks: int | None = grid["chunks"] if split == "test" else grid["validation"]["chunks"]
        return chunks

    def grid_cells(self, name: str, split: str) -> list[Row]:
        """A row with every setting of its part of the grid on a split."""
        return self._rows.cells(self.row(name), split)

    def grid_steps(self) -> dict[str, int]:
        """Solver steps of Table 1's methods, by what the grid calls them."""
        return {row.GRID: self.grid_cells(name, "test")[0].step_count() for name, row in self.grid_rows.items()}

    def deciding(self, split: str) -> list[str]:
        """The rows whose grid on a split settles what a row of Table 2 leaves open."""
        needed: list[str] = []
        for row in self.rows.values():
            if row.chosen_on == split and row.is_open:
                needed += list(self.grid_rows) if row.SHARED else [row.name]
        return list(dict.fromkeys(needed))

    # --- Generation ---------------------------------------------------------------------------------------------------

    def _tasks(self) -> Iterator[Task]:
        generation = self.config["generation"]
        negatives = generation["negatives"]

        def shared(key: str, system: str = GMSDI) -> dict[str, Any]:
            """What all tasks have."""
            solver = changed(generation["solver"], generation[key]["solver"])
            return {"system": self.systems[system], "solver": solver, "clips": generation["clips"]}

        def mixed(key: str) -> dict[str, Any]:
            """What the tasks of several stems of the text-conditioned model have."""
            own = dict(generation[key])
            w = own.pop("w", None)
            said = negatives if own.pop("negatives", False) else {}
            guidance = {**generation["guidance"], "w": generation["w"] if w is None else w}
            return {**own, **shared(key), "guidance": guidance, "negatives": said}

        for curve, values in (
            (False, generation["single"]["w"] or [generation["w"]]),
            (True, generation["single"]["w_curve"]),
        ):
            for number, w in enumerate(values):
                for negative in (False, True) if negatives else (False,):
                    first = number == 0 and not curve
                    ending = "" if first else f"_w{slug(f'{w:g}')}"
                    name = f"single{'_negative' * negative}{'_curve' * curve}{ending}"
                    own = {**shared("single"), "guidance": {**generation["guidance"], "w": float(w)}}
                    if curve:
                        own["clips"] = generation["single"]["curve_clips"]
                    said: dict[str, Any] = {"negative": negative, "curve": curve, "shown": first}
                    yield Single(**own, **said, name=name, negatives=negatives if negative else {})
        yield Total(**mixed("total"), name="total")
        if generation["sequential"]:
            yield Sequential(**mixed("sequential"), name="total_sequential")
        if generation["extracted"]:
            own = mixed("extracted")
            base = self.rows[Extractor.GRID].model_dump()
            given = {**own.pop("extraction"), "name": "extraction", "consistent": True, "published": False}
            extraction = Extractor(**{**base, **given, "solver": changed(base["solver"], given["solver"])})
            yield Extracted(**own, extraction=extraction, name="total_extracted")
        if generation["groups"]:
            yield Groups(**mixed("total"), groups=generation["groups"], name="total_groups")
        yield Partial(**mixed("partial"), name="partial")
        if generation["conditioned"]:
            yield Conditioned(**mixed("conditioned"), name="partial_conditioned")
        yield from self._baseline_tasks(shared)

    def _baseline_tasks(self, shared: Any) -> Iterator[Task]:
        """The tasks of the paper's other systems."""
        if "weak_msdm" in self.systems:
            own = self._changed(shared("single", "weak_msdm"), "weak_msdm", "single")
            yield SingleWeakMsdm(**own, name="single_weak_msdm")
        if "msdm" in self.systems:
            own = self._changed(shared("total", "msdm"), "msdm", "total")
            yield TotalMsdm(**own, name="total_msdm")
            own = self._changed(shared("partial", "msdm"), "msdm", "partial")
            best = self.config["baselines"]["msdm"]["generation"]["best_of"]
            yield PartialMsdm(**own, best_of=best, name="partial_msdm")

    def _changed(self, own: dict[str, Any], system: str, key: str) -> dict[str, Any]:
        """A task's settings with the solver of a system that is not the text-conditioned model."""
        given = self.config["baselines"][system]["generation"]
        solver = changed(own["solver"], given["solver"], given.get(key, {}).get("solver", {}))
        return {**own, "solver": solver, "shown": False}

    def figure2(self) -> list[Alone]:
        """The tasks of single stems, in the order of Figure 2."""
        return [task for task in self.tasks.values() if isinstance(task, Alone)]

    def figure3(self) -> list[Task]:
        """The tasks of several stems, in the order of Figure 3."""
        return sorted((task for task in self.tasks.values() if task.mixed), key=lambda task: task.PLACE)

    # --- Models -------------------------------------------------------------------------------------------------------

    @property
    def models(self) -> dict[str, Setup]:
        """All models by name, each with its system."""
        return {model: system for system in self.systems.values() for model in system.models}

    @property
    def baseline_models(self) -> list[str]:
        """The models of the paper's other systems."""
        return [model for model in self.models if model != GMSDI]

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
            own = {**config["model"]["config"], "text": text, **shared}
            if self.latent:
                return {**own, "codec": self.codec_config(config["codec"]["use"])["codec"]}
            return {key: value for key, value in own.items() if key not in ("kind", "additive")}
        system = self.models[model]
        own = config["baselines"][system.kind]["model"]
        return {**system.network(model, own, config["model"]["config"]["unet"]), **shared}

    @property
    def codecs(self) -> list[str]:
        """The codecs that are trained and compared, if the model is trained on latents."""
        return list(self.config["codec"]["variants"]) if self.latent and self.config["model"]["train"] else []

    def codec_config(self, variant: str) -> dict[str, Any]:
        """What `gmsdi.models.checkpoint.build_model` takes to make one of the codecs."""
        own, data = self.config["codec"], self.config["data"]
        changes = {key: value for key, value in own["variants"][variant].items() if value is not None}
        shared = {key: data[key] for key in ("sample_rate", "window")}
        return {"kind": "codec", "codec": {**own["config"], **changes}, **shared, "labels": self.labels}

    @property
    def pretrained(self) -> bool:
        """Whether the text-conditioned model is a pretrained pipeline; those that take prompts are of latents."""
        model = self.config["model"]
        return not model["train"] and bool(model["folder"]) and is_pretrained(model["folder"])

    @property
    def coded(self) -> bool:
        """Whether the text-conditioned model is of latents that do not add up: its runs encode and decode."""
        if not self.config["model"]["train"]:
            return self.pretrained
        additive = self.config["model"]["config"]["additive"]
        if not self.latent or additive is not None:
            return self.latent and not additive
        codec = self.codec_config(self.config["codec"]["use"])["codec"]
        return bool(codec["blocks"]) and not codec["additive"]

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
        if model == DEMO:
            return {**training, **self.config["demo_training"]["training"]}
        if model == CLAP:  # every window has its text
            return {**training, "initial": None, **self.config["clap"]["training"], "p_drop": 0.0}
        if model == CODEC:
            return {**training, "initial": None, **self.config["codec"]["training"]}
        return {**training, "initial": None, **self.config["baselines"][self.models[model].kind]["training"]}

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
        shared |= {"channels": data["channels"]} if data["channels"] > 1 else {}
        return f"{kind}-{digest([shared, own])}"

    def midi(self, split: str) -> dict[str, Any]:
        """What `gmsdi.data.midi_dataset.MidiConfig` takes for a split."""
        data = self.config["data"]
        settings = {key: value for key, value in data["midi"].items() if key != "songs"}
        settings["soundfonts"] = settings["soundfonts"][split]
        return {**settings, "sample_rate": data["sample_rate"], "classes": data["classes"]}

    def song_sources(self) -> dict[str, dict[str, Any]]:
        """The sources of composed songs by the names of their folders, such as "arranged-1", each with its `seed`.

        The first of a kind has that of the data; a further one has another, or it would have the same songs again.
        """
        found: dict[str, dict[str, Any]] = {}
        kinds: list[str] = []
        for number, source in enumerate(self.config["data"]["midi"]["songs"], 1):
            if (kind := source["kind"]) != "files":
                seed = self.config["data"]["seed"]
                if again := kinds.count(kind):
                    seed = int(digest([seed, kind, again]), 16)
                kinds.append(kind)
                found[f"{kind}-{number}"] = {**source, "seed": seed}
        return found

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
        return [
            *(["train"] if training else []),
            *(["validation"] if training or self.validation or self.searches else []),
            "test",
        ]

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
        """Shards of the MTG-Jamendo parts used for training, such as those of "train-0-97" and "validation-98-99"."""
        if not self.jamendo:
            return {}
        splits = self.config["training_data"]["shards"]
        return {f"{split}-{first}-{last}": range(first, last + 1) for split, (first, last) in splits.items()}
