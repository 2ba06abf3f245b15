"""The MIDI songs that a configuration asks for (`data.kind: midi`), by its section `data`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gmsdi.study.names import digest


def settings(data: Mapping[str, Any], split: str) -> dict[str, Any]:
    """Arguments of `gmsdi.data.midi_dataset.MidiConfig` for a split."""
    own = {key: value for key, value in data["midi"].items() if key != "songs"}
    own["soundfonts"] = own["soundfonts"][split]
    return {**own, "sample_rate": data["sample_rate"], "classes": data["classes"]}


def composed(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sources of composed songs by folder name, such as "arranged-1", each with its `seed`.

    The first source of a kind gets the data's seed; further ones get others, or they would repeat its songs.
    """
    found: dict[str, dict[str, Any]] = {}
    kinds: list[str] = []
    for number, source in enumerate(data["midi"]["songs"], 1):
        if (kind := source["kind"]) != "files":
            seed = data["seed"]
            if again := kinds.count(kind):
                seed = int(digest([seed, kind, again]), 16)
            kinds.append(kind)
            found[f"{kind}-{number}"] = {**source, "seed": seed}
    return found


def folders(data: Mapping[str, Any]) -> list[str]:
    """The folders of MIDI files."""
    return [source["root"] for source in data["midi"]["songs"] if source["kind"] == "files"]
