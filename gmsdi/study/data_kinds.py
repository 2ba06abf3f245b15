"""The kinds of data sets (`data.kind`): what each depends on, and how it is cut into windows. No torch.

CONTRIBUTING.md lists what else a new kind needs.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar

from gmsdi.data.versions import VERSIONS


class DataKind(ABC):
    """A kind of data set. Its methods take the section `data` of a configuration.

    Attributes:
        TOLD: a description, for `config/README.md`.
        KEYS: the keys of `data` on which its tracks depend, besides those on which the windows of every kind do:
            classes, sample_rate, window, channels and min_active. Runs that agree in all of these share their windows.
        LEFT_OUT: for a section among these keys, the key in it on which no track depends.
        MADE: the folder in a dataset part to which the workflow writes its tracks; None if the user provides them in
            `root`, or if they are Slakh2100.
        NOTE: what readers of results on such data have to know, for the pages that show them.
    """

    TOLD: ClassVar[str]
    KEYS: ClassVar[tuple[str, ...]]
    LEFT_OUT: ClassVar[Mapping[str, str]] = {}
    MADE: ClassVar[str | None] = None
    NOTE: ClassVar[str] = ""

    def identity(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What its tracks depend on, besides the keys of all kinds."""
        own = {key: data[key] for key in self.KEYS}
        for name, without in self.LEFT_OUT.items():
            own[name] = {key: value for key, value in data[name].items() if key != without}
        return own

    def cutting(self, data: Mapping[str, Any], split: str) -> dict[str, Any]:
        """Arguments of the function in `gmsdi.data.windows` that cuts it, besides those for all kinds and the root.

        By default this is `build_windows`, for tracks that are laid out like Slakh's; `workflow/scripts/chunk.py`
        chooses it.
        """
        return {"split": split}


class Mini(DataKind):
    """Pieces by our composer. The name of a dataset part includes the number of its tracks."""

    TOLD: ClassVar[str] = "composed and rendered by gmsdi"
    KEYS: ClassVar[tuple[str, ...]] = ("seed", "root", "mini")
    LEFT_OUT: ClassVar[Mapping[str, str]] = {"mini": "tracks"}
    MADE: ClassVar[str | None] = "slakh"
    NOTE: ClassVar[str] = (
        "The test pieces are by our own composer, a program, and played with one SoundFont: the numbers say nothing "
        "about other music. For a model that was trained on such pieces, as mini and the bundled models of the paper's "
        "other systems were, every tone of the test also occurs in training."
    )


class Midi(DataKind):
    """MIDI songs."""

    TOLD: ClassVar[str] = "MIDI songs, from folders or composed by gmsdi, rendered with SoundFonts"
    KEYS: ClassVar[tuple[str, ...]] = ("seed", "tracks", "midi")
    LEFT_OUT: ClassVar[Mapping[str, str]] = {"midi": "time_limit"}
    MADE: ClassVar[str | None] = "tracks"

    def cutting(self, data: Mapping[str, Any], split: str) -> dict[str, Any]:
        """See `DataKind.cutting`; rendered stems are named by their labels."""
        return {"split": split, "classes": {label: [label] for label in data["classes"]}}


class Slakh(DataKind):
    """Slakh2100."""

    TOLD: ClassVar[str] = "Slakh2100, downloaded or from a folder"
    KEYS: ClassVar[tuple[str, ...]] = ("root", "source", "tracks")

    def folder(self, data: Mapping[str, Any]) -> str:
        """The folder of its tracks."""
        return data["root"] or f"{data['download']['folder']}/{VERSIONS[data['source']].folder}"

    def cutting(self, data: Mapping[str, Any], split: str) -> dict[str, Any]:
        """See `DataKind.cutting`."""
        return {"root": self.folder(data), "split": split, "version": data["source"], "first": data["tracks"][split]}


class Stems(DataKind):
    """Any folder of multi-tracks."""

    TOLD: ClassVar[str] = "your own multi-tracks, any folder of them, named by `root`"
    KEYS: ClassVar[tuple[str, ...]] = ("seed", "root", "tracks", "stems")

    def cutting(self, data: Mapping[str, Any], split: str) -> dict[str, Any]:
        """Arguments of `gmsdi.data.windows.build_multitrack_windows` besides those for all kinds."""
        own = {"splits": {**data["stems"]["splits"], "seed": data["seed"]}, "first": data["tracks"][split]}
        return {"split": split, **own, **{key: data["stems"][key] for key in ("activity", "gain_db")}}


SLAKH = Slakh()
KINDS: dict[str, DataKind] = {"mini": Mini(), "midi": Midi(), "slakh": SLAKH, "stems": Stems()}
"""The kinds by their names in the configuration."""
