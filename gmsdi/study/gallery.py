"""The gallery: a few examples of each task as audio files and spectrograms, and an index of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gmsdi.io.files import atomic
from gmsdi.study.channels import heard, kept
from gmsdi.study.chunks import given_in, labels_in
from gmsdi.study.tasks import Single, Task

if TYPE_CHECKING:
    from gmsdi.data.windows import WindowSet

Made = tuple[pd.DataFrame, np.ndarray]  # the table of a shard and its audio
Clip = tuple[str, str, str, np.ndarray]  # label, role, group to play together, audio [T] or [C, T]
Example = tuple[str, list[Clip]]  # title and clips; clips of one label stand side by side

STEMS, TRUE = "stems", "true stems"
"""Groups of clips that can be played together."""

FLOOR, CEILING = -50.0, 30.0  # dB, the range of a spectrogram's colours

TITLES = {
    "separator": ("Separation: GMSDI Separator", "Eq. 13. One stem is the mixture minus the others."),
    "extractor": ("Separation: GMSDI Extractor", "Eq. 14. Each stem is extracted on its own."),
    "single": (
        "Single stems",
        "One stem generated from its label, without and with a negative prompt, from the same noise.",
    ),
    "total": ("Total generation", "Eq. 10. All stems and their mixture, sampled in parallel."),
    "total_sequential": (
        "Total generation, one by one",
        "Beyond the paper. One stem after the other, each generated to fit the stems before it.",
    ),
    "total_extracted": (
        "Total generation, extracted",
        "Beyond the paper. A mixture generated from the joint prompt, separated by the consistent Extractor.",
    ),
    "total_groups": ("Total generation in groups", "Eq. 11. The stems of a group are generated as one signal."),
    "partial": (
        "Partial generation",
        "Eq. 12. Accompaniments to stems given from the test split, which stay unchanged.",
    ),
    "partial_conditioned": (
        "Partial generation, conditioned",
        "Beyond the paper. The accompaniment is denoised together with the clean given stems.",
    ),
}


def write_gallery(
    folder: str | Path,
    windows: WindowSet,
    separations: Mapping[str, Made],
    generations: Mapping[str, Made],
    *,
    tasks: Sequence[Task],
    examples: int,
) -> None:
    """Write FLAC files, PNG spectrograms and `gallery.json` to `folder`, which appears once it is complete.

    Args:
        folder: where to write.
        windows: the test split.
        separations: for the rows "separator" and "extractor", a shard's table (chunk) and estimates [N, K, T]; if these
            are memory-mapped, only the examples are read.
        generations: for each task by name, a shard's table (bar, clip) and audio [N, R, T].
        tasks: tasks of the text-conditioned model, in the order of the gallery.
        examples: number of examples of each task.
    """
    labels = windows.labels
    chosen: list[tuple[str, Iterator[Example]]] = [
        (method, _separated(windows, *made, examples)) for method, made in separations.items()
    ]
    alone = [task for task in tasks if isinstance(task, Single)]
    chosen.append(("single", _single([(task, *generations[task.name]) for task in alone], labels, examples)))
    for task in tasks:
        if task.mixed:
            show = _partial if task.given else _total
            chosen.append((task.kind, show(*generations[task.name], task.rows, examples)))
    with atomic(folder) as out:
        out.mkdir()
        sections = []
        for kind, found in chosen:
            entries = [
                {"title": title, "rows": [_write(out, f"{kind}-{k}", windows.sample_rate, row) for row in rows]}
                for k, (title, rows) in enumerate(found, start=1)
            ]
            title, text = TITLES[kind]
            sections.append({"task": kind, "title": title, "text": text, "examples": entries})
        (out / "gallery.json").write_text(json.dumps(sections, indent=1) + "\n", encoding="utf-8")


def spectrogram(audio: np.ndarray, sample_rate: int, *, bands: int = 80, columns: int = 320) -> np.ndarray:
    """Level in dB over time on the mel scale, [bands, about `columns`], for audio [T]."""
    from gmsdi.io.features import mel_filters

    size = 512
    hop = max(1, len(audio) // columns)
    padded = np.pad(audio, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=-1)) ** 2
    return 10 * np.log10(mel_filters(sample_rate, size, bands) @ power.T + 1e-8)


def _separated(windows: WindowSet, table: pd.DataFrame, estimates: np.ndarray, examples: int) -> Iterator[Example]:
    number = table["active"].fillna("").map(lambda active: len(labels_in(active)))
    # Chunks with the most active stems first, and one from each track before a second.
    order = table.assign(number=-number, again=table.groupby("track").cumcount())
    for place in order.sort_values(["number", "again"], kind="stable").index[:examples]:
        row = table.loc[place]
        truth = kept(windows.stems([row["chunk"]]))[0]
        rows: list[Clip] = [("Mixture", "given", "", truth.sum(axis=0))]
        for k, label in enumerate(windows.labels):
            rows.append((label, "separated", STEMS, estimates[place, k]))
            rows.append((label, "true stem", TRUE, truth[k]))
        yield f"{row['track']}, {row['offset'] / windows.sample_rate:.1f} s", rows


def _single(
    made: Sequence[tuple[Single, pd.DataFrame, np.ndarray]], labels: Sequence[str], examples: int
) -> Iterator[Example]:
    for label in labels:
        rows: list[Clip] = []
        for task, table, audio in made:
            role = "negative prompt" if task.negative else "no negative prompt"
            for place in table.index[table["bar"] == label][: max(1, examples // 2)]:
                rows.append((label, role, "", audio[place, 0]))
        yield label, rows


def _total(table: pd.DataFrame, audio: np.ndarray, labels: Sequence[str], examples: int) -> Iterator[Example]:
    for place in table.index[:examples]:
        rows: list[Clip] = [("Sum of the stems", "generated", "", audio[place, :-1].sum(axis=0))]
        rows.append(("Mixture row y", "generated", "", audio[place, -1]))
        rows += [(label, "generated", STEMS, audio[place, k]) for k, label in enumerate(labels)]
        yield f"Clip {table.at[place, 'clip'] + 1}", rows


def _partial(table: pd.DataFrame, audio: np.ndarray, labels: Sequence[str], examples: int) -> Iterator[Example]:
    bars = list(dict.fromkeys(table["bar"]))
    picked = [bars[int((k + 0.5) * len(bars) / examples)] for k in range(min(examples, len(bars)))]
    for k, bar in enumerate(picked):
        places = table.index[table["bar"] == bar]
        place = places[k % len(places)]
        given = given_in(bar)
        rows: list[Clip] = [("Given and generated", "mix", "", audio[place, :-1].sum(axis=0))]
        for i, label in enumerate(labels):
            rows.append((label, "given" if label in given else "generated", STEMS, audio[place, i]))
        yield f"Given: {bar}", rows


def _write(out: Path, prefix: str, sample_rate: int, row: Clip) -> dict[str, Any]:
    import soundfile
    from matplotlib import colormaps
    from PIL import Image

    label, role, together, audio = row
    number = 1 + len(list(out.glob(f"{prefix}-*.flac")))
    name = f"{prefix}-{number:02d}"
    soundfile.write(out / f"{name}.flac", np.clip(audio, -1, 1).T, sample_rate, subtype="PCM_16")
    level = np.clip((spectrogram(heard(np.atleast_2d(audio)), sample_rate)[::-1] - FLOOR) / (CEILING - FLOOR), 0, 1)
    image = Image.fromarray((63 * level).round().astype(np.uint8))
    image.putpalette((255 * colormaps["magma"](np.linspace(0, 1, 64))[:, :3]).round().astype(np.uint8).tobytes())
    image.save(out / f"{name}.png", optimize=True)
    return {"label": label, "role": role, "together": together, "audio": f"{name}.flac", "image": f"{name}.png"}
