"""The report: one self-contained HTML page with settings, tables, figures, and a gallery with players."""

from __future__ import annotations

import base64
import io
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from gmsdi import __version__
from gmsdi.io.files import sha256_of
from gmsdi.io.tables import read_table
from gmsdi.study.trainings import Training, training_facts

PACKAGES = ("torch", "transformers", "numpy", "pandas", "soxr", "soundfile", "symusic", "snakemake")
DISTANCES = ["bar", "series", "fad", "fad_low", "fad_high", "fad_inf", "clips", "tracks", "frames"]
DISTANCES += ["reference_clips", "reference_tracks", "reference_frames", "shared_tracks"]
"""The columns of the numbers below Figures 2 and 3."""
MIME = {".svg": "image/svg+xml", ".png": "image/png", ".flac": "audio/flac"}


def render(template: str | Path, context: Mapping[str, Any]) -> str:
    """Fill the page's Jinja template; text that is not marked as HTML is escaped."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(Path(template).read_text(encoding="utf-8")).render(**context)


def data_uri(path: str | Path) -> str:
    """A file as a `data:` address."""
    path = Path(path)
    return _uri(path.read_bytes(), path.suffix)


def svg_uri(figure: Any) -> str:
    """A matplotlib figure as a `data:` address."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "gmsdi"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _uri(buffer.getvalue(), ".svg")


def gallery(folder: str | Path) -> list[dict[str, Any]]:
    """The sections of `gallery.json` with the files as `data:` addresses.

    Each example also gets lines (its rows by label), paired (whether rows of a line stand side by side) and together
    (the groups that can be played together).
    """
    folder = Path(folder)
    sections: list[dict[str, Any]] = json.loads((folder / "gallery.json").read_text(encoding="utf-8"))
    for section in sections:
        for example in section["examples"]:
            for row in example["rows"]:
                row["audio"], row["image"] = data_uri(folder / row["audio"]), data_uri(folder / row["image"])
            example["lines"] = [list(line) for _, line in groupby(example["rows"], key=itemgetter("label"))]
            example["paired"] = any(len(line) > 1 for line in example["lines"])
            example["together"] = list(dict.fromkeys(row["together"] for row in example["rows"] if row["together"]))
    return sections


def settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The sections of a configuration, each as YAML."""
    plain = {key: value for key, value in config.items() if not isinstance(value, dict)}
    sections = [("run", plain), *((key, value) for key, value in config.items() if isinstance(value, dict))]
    return [
        (name, yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=100)) for name, value in sections
    ]


def model_facts(folder: str | Path) -> list[tuple[str, str]]:
    """Facts about a model: digest, size, and its provenance; for a pretrained model, its name.

    `share of solos` is the share of training windows in which only one stem sounded.
    """
    if not _is_own(folder):
        return [("pretrained", str(folder))]
    known = {"share_of_solos": "not recorded"} | _provenance(folder)
    return [("model.safetensors", _weights(folder))] + [
        (key.replace("_", " "), f"{value:.0%}" if (key, type(value)) == ("share_of_solos", float) else str(value))
        for key, value in known.items()
        if not isinstance(value, dict | list)
    ]


def model_brief(folder: str | Path) -> str:
    """A model in one line: digest, size and, if known, number of training steps, hardware, training data and time."""
    if not _is_own(folder):
        return "pretrained"
    known = _provenance(folder)
    trained = [text.format(known[key]) for key, text in (("steps", "{} steps"), ("hardware", "on {}")) if key in known]
    facts = [str(Training.recorded(known))] if "data" in known else []
    return "; ".join([_weights(folder), *([" ".join(trained)] if trained else []), *facts])


def trainings(folders: Sequence[str | Path]) -> dict[str, str]:
    """Training data and time of models, see `training_facts`; without those that are not model folders of ours."""
    return training_facts({Path(folder).name: _provenance(folder) for folder in folders if _is_own(folder)})


def data_facts(windows_folder: str | Path) -> list[tuple[str, str]]:
    """Facts about the test split."""
    folder = Path(windows_folder)
    info, table = json.loads((folder / "info.json").read_text()), read_table(folder / "windows.csv")
    counts = table["active"].fillna("").map(lambda text: len(text.split(", ")) if text else 0).value_counts()
    stems = ", ".join(f"{count} with {number}" for number, count in sorted(counts.items()))
    solos = f"{counts.get(1, 0) / max(1, len(table)):.0%} of its chunks have only one stem"
    return [
        ("sample rate", f"{info['sample_rate']} Hz"),
        ("chunk", f"{info['window']} samples, {info['window'] / info['sample_rate']:.2f} s"),
        ("test split", f"{info['source']['tracks']} tracks, {len(table)} chunks; active stems: {stems}; {solos}"),
        ("cut with", ", ".join(f"{name} {number}" for name, number in info["versions"].items())),
    ]


def versions() -> list[tuple[str, str]]:
    """Versions of the software."""
    found = [("gmsdi", __version__), ("Python", platform.python_version())]
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """A description of this machine."""
    info, name = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    if info.is_file():  # on Linux, Python only knows the architecture
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8", errors="replace"), re.M)
        name = found[1] if found else name
    return f"{platform.system()} {platform.machine()}, {name}, {os.cpu_count()} cores"


def times(folder: str | Path) -> list[tuple[str, float]]:
    """Seconds of each kind of job, from Snakemake's benchmark files below `folder`; the longest first."""
    folder = Path(folder)
    seconds: dict[str, float] = {}
    for file in sorted(folder.rglob("*.tsv")):
        kind = file.relative_to(folder).parts[0].removesuffix(".tsv")
        seconds[kind] = seconds.get(kind, 0.0) + float(pd.read_csv(file, sep="\t")["s"].sum())
    return sorted(seconds.items(), key=lambda item: -item[1])


def _is_own(folder: str | Path) -> bool:
    """Whether it is a model folder of this package."""
    return (Path(folder) / "model.safetensors").is_file()


def _weights(folder: str | Path) -> str:
    file = Path(folder) / "model.safetensors"
    return f"{file.stat().st_size / 1e6:.1f} MB, sha256 {sha256_of(file)}"


def _provenance(folder: str | Path) -> dict[str, Any]:
    file = Path(folder) / "provenance.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _uri(content: bytes, suffix: str) -> str:
    return f"data:{MIME[suffix]};base64,{base64.b64encode(content).decode()}"
