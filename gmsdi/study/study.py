"""What a configuration asks for: its rows, tasks, systems and models as objects, and the names of its data.

The workflow takes the parameters of its jobs from here, and `gmsdi.study.work` the work that it counts. Nothing is
computed and no heavy library is imported, so that the workflow's graph is built quickly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gmsdi.data.versions import VERSIONS, numbers_of
from gmsdi.models.clap import CLAPS
from gmsdi.study.data_kinds import KINDS
from gmsdi.study.figure_tasks import Tasks
from gmsdi.study.methods import Extractor, Row, Solved
from gmsdi.study.names import Config, digest
from gmsdi.study.pretrained import is_pretrained
from gmsdi.study.search import Search
from gmsdi.study.setups import GMSDI, Setup
from gmsdi.study.table_rows import Rows
from gmsdi.study.tasks import Alone, Task

CLAP, CODEC, DEMO = "clap", "codec", "demo"
"""Names of trainings other than those of the systems' models: the small CLAP, whose embeddings condition the
text-conditioned model; the codecs, whose latents that model may be trained on; and the demo's short training."""
CLAP_KEYS = ("checkpoint", "sha256", "tokenizer")
"""Keys of a text encoder that only a CLAP has."""


def network_of(item: Row | Task) -> str:
    """The network that a row or a task runs: that of its system, named like it, or a further model's."""
    further: str | None = getattr(item, "model", None)
    return further or item.system.kind


class Study:
    """The rows, tasks, systems and models of a configuration.

    A row separates (Table 2), a task generates (Figures 2 and 3), and a system runs them. A model is one of the
    networks that a system consists of.

    Args:
        config: with every default filled in (see `gmsdi.study.config.validate`).

    Attributes:
        config: the configuration.
        labels: the K stem labels, in the order used in tables.
        systems: the systems that run, by name; the text-conditioned model comes first.
        rows: the rows of Table 2 that separate, by name, in order.
        grid_rows: the rows of Table 1, by name.
        averages: the rows of Table 2 whose stems are the means of others' stems, by name.
        ensembles: the rows of Table 2 that are made from scores of others, by name.
        tasks: all tasks by name.
        searches: the searches of `make tune`, by name.
        validation: whether the grid is also computed on validation chunks.
        jamendo: whether the text-conditioned model is trained on MTG-Jamendo.
        clap: whether it is trained on embeddings by a CLAP.
        latent: whether it is trained on the latents of a codec.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.labels: list[str] = list(config["data"]["classes"])
        self.clap = config["model"]["config"]["text"]["kind"] in CLAPS
        self.latent = config["model"]["config"]["kind"] == "latent"
        self.jamendo: bool = config["model"]["train"] and config["training_data"]["kind"] == "jamendo"
        self.validation = config["grid"]["validation"]["chunks"] is not None
        self._rows = Rows(config)
        self.systems, self.grid_rows, self.rows = self._rows.systems, self._rows.grid, self._rows.table
        self.averages, self.ensembles = self._rows.averages, self._rows.ensembles
        self.tasks = Tasks(config, self.systems, self.rows[Extractor.GRID]).named
        self.searches = {name: Search.of(name, self, own) for name, own in config["tuning"]["searches"].items()}

    # --- Separation ---------------------------------------------------------------------------------------------------

    def row(self, name: str) -> Row:
        """A row of Table 2 or Table 1."""
        return self.rows.get(name) or self.grid_rows[name]

    def separations(self) -> list[str]:
        """The names of the rows of Table 2 that have stems of their own: those that separate, then averages."""
        return [*self.rows, *self.averages]

    def warnings(self) -> list[str]:
        """What is allowed, and spoils the stems of a row or of the grid, with its key and what to do.

        Models whose level is not in the configuration are left out.
        """
        model = self.config["model"]
        if model["folder"] and not model["train"]:
            return []
        sigma_data = model["config"]["sigma_data"]
        rows = {f"separation.rows.{name}": row for name, row in self.rows.items() if not row.model}
        cells = {f"grid.solver of {name}": self.grid_cells(name, "test")[0] for name in self.grid_rows}
        solved = {key: row for key, row in {**cells, **rows}.items() if isinstance(row, Solved)}
        return [f"{key}: {why}" for key, row in solved.items() if (why := row.warning(sigma_data))]

    def grid_chunks(self, split: str) -> int | None:
        """Number of chunks in the grid on a split; None means all."""
        grid = self.config["grid"]
        chunks: int | None = grid["chunks"] if split == "test" else grid["validation"]["chunks"]
        return chunks

    def grid_cells(self, name: str, split: str) -> list[Row]:
        """A row with each combination of settings in its part of a split's grid."""
        return self._rows.cells(self.row(name), split)

    def grid_steps(self) -> dict[str, int]:
        """Numbers of solver steps of Table 1's methods, by their names in the grid."""
        return {row.GRID: self.grid_cells(name, "test")[0].step_count() for name, row in self.grid_rows.items()}

    def deciding(self, split: str, names: Iterable[str] | None = None) -> list[str]:
        """The rows whose grid on a split decides open settings of rows of Table 2, by default of all."""
        needed: list[str] = []
        for row in map(self.rows.__getitem__, self.rows if names is None else names):
            if row.chosen_on == split and row.is_open:
                of_table1 = [name for name, other in self.grid_rows.items() if other.grid == row.grid]
                needed += of_table1 if row.SHARED else [row.name]
        return list(dict.fromkeys(needed))

    def separated(self, name: str) -> dict[str, Row]:
        """What the stems of a row of Table 2 depend on: it and its twin, by name, each as `Row.bare`."""
        row = self.rows[name]
        return {own: self.rows[own].bare() for own in (name, row.twin) if own}

    # --- Generation ---------------------------------------------------------------------------------------------------

    def figure2(self) -> list[Alone]:
        """The tasks of single stems, in the order of Figure 2."""
        return [task for task in self.tasks.values() if isinstance(task, Alone)]

    def figure3(self) -> list[Task]:
        """The tasks of several stems, in the order of Figure 3."""
        return sorted((task for task in self.tasks.values() if task.mixed), key=lambda task: task.PLACE)

    # --- Models -------------------------------------------------------------------------------------------------------

    @property
    def networks(self) -> dict[str, Setup]:
        """All networks that jobs run, by the names that `network_of` gives them, each with the system that runs it."""
        searched = [item for search in self.searches.values() for item in search.variants]
        items: list[Row | Task] = [*self.rows.values(), *self.tasks.values(), *searched]
        return self.systems | {network_of(item): item.system for item in items}

    @property
    def models(self) -> dict[str, Setup]:
        """All models by name, each with its system."""
        return {model: system for system in self.systems.values() for model in system.models}

    @property
    def baseline_models(self) -> list[str]:
        """The models of the paper's other systems."""
        return [model for model in self.models if model != GMSDI]

    def trained(self) -> list[str]:
        """The models that this run trains and uses for results."""
        own = [GMSDI] if self.config["model"]["train"] else []
        return own + (self.baseline_models if self.config["baselines"]["train"] else [])

    def model_config(self, model: str) -> dict[str, Any]:
        """The configuration for `gmsdi.models.checkpoint.build_model` to build a model."""
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
        """The codecs to train and compare, if the model is trained on latents."""
        return list(self.config["codec"]["variants"]) if self.latent and self.config["model"]["train"] else []

    def codec_config(self, variant: str) -> dict[str, Any]:
        """The configuration for `gmsdi.models.checkpoint.build_model` to build a codec."""
        own, data = self.config["codec"], self.config["data"]
        changes = {key: value for key, value in own["variants"][variant].items() if value is not None}
        shared = {key: data[key] for key in ("sample_rate", "window")}
        return {"kind": "codec", "codec": {**own["config"], **changes}, **shared, "labels": self.labels}

    @property
    def pretrained(self) -> bool:
        """Whether the text-conditioned model is a pretrained pipeline; all those that take prompts work on latents."""
        model = self.config["model"]
        return not model["train"] and bool(model["folder"]) and is_pretrained(model["folder"])

    @property
    def coded(self) -> bool:
        """Whether the text-conditioned model has latents that do not add up, so that its runs encode and decode."""
        if not self.config["model"]["train"]:
            return self.pretrained
        additive = self.config["model"]["config"]["additive"]
        if not self.latent or additive is not None:
            return self.latent and not additive
        codec = self.codec_config(self.config["codec"]["use"])["codec"]
        return bool(codec["blocks"]) and not codec["additive"]

    def training(self, model: str) -> dict[str, Any]:
        """The training settings of a model, or of "demo", the short training: arguments of `TrainingConfig`.

        `devices` is left out, since results do not depend on it.
        """
        return {key: value for key, value in self._training(model).items() if key != "devices"}

    def devices(self, model: str) -> int:
        """Number of devices among which a training shares its batches."""
        return int(self._training(model).get("devices", 1))

    def _training(self, model: str) -> dict[str, Any]:
        training: dict[str, Any] = self.config["training"]
        if model == GMSDI:
            return training
        if model == DEMO:
            return {**training, **self.config["demo_training"]["training"]}
        if model == CLAP:  # every window has a text
            return {**training, "initial": None, **self.config["clap"]["training"], "p_drop": 0.0}
        if model == CODEC:
            return {**training, "initial": None, **self.config["codec"]["training"]}
        return {**training, "initial": None, **self.config["baselines"][self.models[model].kind]["training"]}

    # --- Data ---------------------------------------------------------------------------------------------------------

    def dataset_id(self) -> str:
        """Folder name of the data set; runs with the same windows share it."""
        data, kind = self.config["data"], self.config["data"]["kind"]
        own = KINDS[kind].identity(data)
        shared = {key: data[key] for key in ("kind", "sample_rate", "window", "min_active", "classes")}
        shared |= {"channels": data["channels"]} if data["channels"] > 1 else {}
        return f"{kind}-{digest([shared, own])}"

    @property
    def learns_from_data(self) -> bool:
        """Whether the text-conditioned model, or the CLAP that embeds its training data, is trained on `data`."""
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
        """The files of Slakh2100 to unpack, as arguments of `download_slakh`; tracks are [first, last + 1]."""
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
        """Name of a dataset part; for mini it includes the number of tracks to compose."""
        if self.config["data"]["kind"] == "mini":
            return f"{split}-{tracks or self.config['data']['mini']['tracks'][split]}"
        return f"{split}-all"

    def jamendo_id(self) -> str:
        """Folder name of MTG-Jamendo's windows; runs with the same windows share it."""
        data, training = self.config["data"], self.config["training_data"]
        settings = [*(data[key] for key in ("sample_rate", "window")), *(training[key] for key in ("root", "tracks"))]
        return f"jamendo-{digest(settings)}"

    def learned(self, split: str) -> str:
        """Name of the dataset part on which the text-conditioned model is trained or validated."""
        return next((name for name in self.jamendo_parts() if name.startswith(f"{split}-")), self.part(split))

    def jamendo_parts(self) -> dict[str, range]:
        """The MTG-Jamendo parts used for training, such as "train-0-97" and "validation-98-99", with their shards."""
        if not self.jamendo:
            return {}
        splits = self.config["training_data"]["shards"]
        return {f"{split}-{first}-{last}": range(first, last + 1) for split, (first, last) in splits.items()}
