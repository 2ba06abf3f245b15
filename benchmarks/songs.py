"""What separating a song takes: time and memory per minute of audio, of the bundled model or another.

    python -m benchmarks.songs                     # docs/songs.md and docs/songs.csv
    python -m benchmarks.songs --minutes 0.5 4 --presets fast best:0.5    # best up to half a minute

Each line is one run of the command line on one song of composed music, stereo and at 44.1 kHz unless told otherwise:
its wall time, the time of all its threads on the CPU, and the most memory that it ever held. Memory that stops growing
with the length is what separating block by block is for.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from gmsdi.data.mini import MiniConfig, compose_track, render
from gmsdi.io.audio import Audio, resample, write

DOCS = Path(__file__).parents[1] / "docs"
COLUMNS = {
    "minutes": "Minutes of audio",
    "preset": "Preset",
    "stems": "Stems",
    "wall": "Seconds per minute of audio",
    "cpu": "Seconds on the CPU per minute of audio",
    "memory": "Memory at most, MB",
}


def song(minutes: float, sample_rate: int, channels: int) -> Audio:
    """Composed music, again and again until it is long enough."""
    config = MiniConfig(sections=(6, 8))
    piece = sum(render(compose_track(config, seed=7, split="test", index=0), config).values())
    loud = resample(0.8 * piece[None] / np.abs(piece).max(), config.sample_rate, sample_rate)
    length = round(60 * minutes * sample_rate)
    return Audio(np.tile(loud, (channels, -(-length // loud.shape[1])))[:, :length], sample_rate)


def measured(file: Path, minutes: float, preset: str, words: list[str]) -> dict[str, float | str]:
    """One run of the command line."""
    out = file.with_suffix("")
    began = time.monotonic()
    command = [sys.executable, "-m", "gmsdi.cli", *words, str(file), "--out", str(out), "--preset", preset]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: status {process.returncode}")
    wall = time.monotonic() - began
    scale = 1 if sys.platform == "darwin" else 1024  # of what the system calls the unit of memory
    return {
        "minutes": minutes,
        "preset": preset,
        "stems": len(list(out.rglob("*.wav"))),
        "wall": round(wall / minutes, 1),
        "cpu": round((used.ru_utime + used.ru_stime) / minutes, 1),
        "memory": round(used.ru_maxrss * scale / 1e6),
    }


def growths(rows: Sequence[Mapping[str, float | str]]) -> str:
    """How much more memory a minute of audio takes, from the two longest songs of each preset that has three."""
    told = []
    for preset in dict.fromkeys(row["preset"] for row in rows):
        own = [(float(row["minutes"]), float(row["memory"])) for row in rows if row["preset"] == preset]
        if len(own) > 2:
            (shorter, less), (longer, more) = own[-2:]
            slope = (more - less) / (longer - shorter)
            told.append(f"{preset}: {slope:.1f} MB more per minute of audio from {shorter:g} to {longer:g} minutes.")
    return " ".join(told)


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[0.5, 2.0, 10.0, 60.0])
    parser.add_argument("--presets", nargs="+", default=["fast", "best:2"], help="each with its longest song, if any")
    parser.add_argument("--rate", type=int, default=44100)
    parser.add_argument("--channels", type=int, default=2)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--stem", default=None, help="extract this stem alone")
    parser.add_argument("--out", type=Path, default=DOCS)
    told = parser.parse_args()
    rows = []
    words = ["separate"] if told.stem is None else ["extract", "--stems", told.stem]
    presets = {name: float(longest or "inf") for name, _, longest in (one.partition(":") for one in told.presets)}
    for minutes in told.minutes:
        for preset in [name for name, longest in presets.items() if minutes <= longest]:
            with tempfile.TemporaryDirectory() as folder:
                file = write(Path(folder) / "song.wav", song(minutes, told.rate, told.channels), bits="16")
                rows.append(measured(file, minutes, preset, [*words, "--model", told.model]))
    told.out.mkdir(parents=True, exist_ok=True)
    with (told.out / "songs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    lines = [f"| {' | '.join(COLUMNS.values())} |", f"|{' ---: |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(str(row[name]) for name in COLUMNS)} |" for row in rows]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    where = (
        f"Model {told.model}, {told.channels} channels at {told.rate} Hz, on {cores} cores ({processor}), "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; written by `python -m benchmarks.songs`."
    )
    if growth := growths(rows):
        where = f"{growth}\n\n{where}"
    (told.out / "songs.md").write_text("# Separating a song\n\n" + "\n".join(lines) + f"\n\n{where}\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
