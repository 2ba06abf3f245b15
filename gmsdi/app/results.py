"""From `Stems` to what the page shows: files, spectrograms, a zip, and the mixer that plays them in sync."""

from __future__ import annotations

import html
import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from gmsdi.io.audio import Samples
from gmsdi.io.files import atomic
from gmsdi.types import Stems, file_names

URL = "gmsdi/results"
"""Where the page finds the results folder, relative to itself."""
KEPT = 30  # results of all visitors; older ones are removed
COLORS = ("#f2a541", "#ef6f6c", "#3fc1a5", "#9b8cff", "#5db7f0", "#e58fd0", "#b9cf5b", "#d9a07a")
MIXTURE_COLOR, REST_COLOR = "#c8d0dc", "#8390a5"
_DARK = (13, 17, 24)  # what silence looks like
_INAUDIBLE = 10 ** (-50 / 20)  # a rest whose peak is so far below the mixture's has no lane


def require_names(labels: Sequence[str]) -> None:
    """Check that the files of a result can have names.

    Raises:
        UserError: as `file_names`.
    """
    file_names([*labels, "mixture", "residual"])


def publish(
    root: Path,
    name: str,
    stems: Stems,
    *,
    rest: str | None = None,
    mixture: str = "Mixture",
    known: Sequence[str] = (),
    format: str = "wav",
    bits: str | None = None,
) -> str:
    """Write a result and return the HTML of the mixer that plays it.

    Args:
        root: the results folder, served as `URL`.
        name: of the zip and the folder in it.
        stems: the result.
        rest: what the residual is called; None if there is none.
        mixture: what the mixture is called.
        known: labels that have colours of their own, the model's.
        format: see `Stems.save`.
        bits: see `Stems.save`.

    Raises:
        UserError: as `Stems.save`.
    """
    root.mkdir(parents=True, exist_ok=True)
    for old in sorted(root.iterdir(), key=lambda path: path.stat().st_mtime)[: -KEPT + 1]:
        shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=root))
    files = stems.save(folder / name, format=format, bits=bits, mixture=True, residual=rest is not None)
    with atomic(folder / f"{name}.zip") as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, f"{name}/{file.name}")

    order = [*known, *(label for label in stems.parts if label not in known)]
    colors = {label: COLORS[k % len(COLORS)] for k, label in enumerate(order)}
    rows = [(label, "stem", colors[label], part) for label, part in stems.parts.items()]
    rows.append((mixture, "mixture", MIXTURE_COLOR, stems.mixture))
    if rest is not None:
        rows.append((rest, "rest", REST_COLOR, stems.residual))
    loudest = float(np.abs(stems.mixture).max())
    reference = _magnitudes(stems.mixture, stems.sample_rate).max()
    lanes = []
    for (label, kind, color, samples), file in zip(rows, files, strict=True):
        if kind == "rest" and float(np.abs(samples).max()) < _INAUDIBLE * loudest:
            continue
        image = file.with_suffix(".png")
        write_spectrogram(image, samples, stems.sample_rate, color, reference)
        urls = {"audio": _url(root, file), "image": _url(root, image)}
        lanes.append({"label": label, "kind": kind, "color": color, **urls})
    lanes.sort(key=lambda lane: lane["kind"] == "mixture")  # last, below what it is the sum of
    data = {"name": name, "zip": _url(root, folder / f"{name}.zip"), "lanes": lanes}
    return f'<gmsdi-mixer data="{html.escape(json.dumps(data))}"></gmsdi-mixer>'


def write_spectrogram(path: Path, samples: Samples, sample_rate: int, color: str, reference: float) -> None:
    """A PNG: time to the right, pitch upwards (log frequency from 40 Hz), 60 dB from dark over `color` to white.

    Args:
        path: of the file.
        samples: `[C, T]`.
        sample_rate: in Hz.
        color: as "#rrggbb".
        reference: the magnitude that is white.
    """
    from PIL import Image

    magnitudes = _magnitudes(samples, sample_rate)
    bins = np.geomspace(40, sample_rate / 2, 120) / (sample_rate / 2) * (len(magnitudes) - 1)
    low = np.minimum(bins.astype(int), len(magnitudes) - 2)
    weight = (bins - low)[:, None]
    rows = (1 - weight) * magnitudes[low] + weight * magnitudes[low + 1]
    level = np.clip(1 + 20 * np.log10(rows / max(reference, 1e-9) + 1e-9) / 60, 0, 1)
    tint = tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))
    ramp = zip(_DARK, tint, (255, 250, 240), strict=True)
    pixels = np.stack([np.interp(level, (0.05, 0.7, 1.0), channel) for channel in ramp], axis=-1)
    Image.fromarray(pixels[::-1].astype(np.uint8)).save(path, optimize=True)


def _magnitudes(samples: Samples, sample_rate: int, columns: int = 1000) -> NDArray[np.float32]:
    """Of the mean of the channels, `[frequency, time]`, at so many times or, of short signals, fewer."""
    signal = samples.mean(axis=0)
    size = 1 << round(np.log2(0.06 * sample_rate))
    signal = np.pad(signal, (size // 2, size))
    starts = np.linspace(0, len(signal) - size, min(columns, 1 + 16 * len(signal) // size)).astype(int)
    frames = np.lib.stride_tricks.sliding_window_view(signal, size)[starts] * np.hanning(size)
    return np.abs(np.fft.rfft(frames, axis=1)).T.astype(np.float32)


def _url(root: Path, file: Path) -> str:
    return f"{URL}/{quote(file.relative_to(root).as_posix())}"
