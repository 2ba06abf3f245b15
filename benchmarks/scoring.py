"""Time the SI-SDRi of whole tracks, compared with MSDM's loop and for increasing lengths.

    OMP_NUM_THREADS=1 python -m benchmarks.scoring            # docs/speed.md, in less than a minute
    OMP_NUM_THREADS=1 python -m benchmarks.scoring --lengths 60 600 3600

MSDM's loop is written from its description (`tests.peers.oracles.msdm_scores`), and reads the same arrays in memory.
The two alternate; what counts is processor time. The tables in the page have the medians, the median ratio of a round
with the smallest and largest, and the largest difference of a score.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.scaling import fill, number, table
from gmsdi.metrics.si_sdr import si_sdri_windows
from tests.peers.oracles import msdm_scores, separated

LABELS = ["Bass", "Drums", "Guitar", "Piano"]
PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
HEAD = ["a track of", "MSDM's loop, s", "ours, s", "times as fast", "smallest to largest", "difference"]
GROWTH = ["seconds of music", "ours, ms", "µs per second of music"]


def seconds_of(function: Callable[[], Any]) -> tuple[float, Any]:
    """The processor time of a call, which other programs influence less than wall-clock time, and its result."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def compare(seconds: float, rate: int, rounds: int) -> tuple[list[float], list[float], float]:
    """The seconds of every round, ours and theirs, and the largest difference of a score in dB."""
    estimates, targets = separated(seconds, rate)
    ours, theirs, difference = [], [], 0.0
    for _ in range(rounds + 1):
        mine, table = seconds_of(lambda: si_sdri_windows(estimates, targets, None, rate, labels=LABELS))
        peers, scores = seconds_of(lambda: msdm_scores(estimates, targets, rate))
        ours.append(mine)
        theirs.append(peers)
        difference = float(np.abs(table["si_sdri"].to_numpy().reshape(scores.shape) - scores).max())
    return ours[1:], theirs[1:], difference  # the first round is a warm-up


def growth(lengths: Sequence[float], rate: int, rounds: int) -> list[float]:
    """Our median seconds for tracks of these lengths, each after a round to warm up."""
    found = []
    for seconds in lengths:
        estimates, targets = separated(seconds, rate)
        times = [
            seconds_of(lambda x=estimates, y=targets: si_sdri_windows(x, y, None, rate, labels=LABELS))[0]
            for _ in range(rounds + 1)
        ]
        found.append(statistics.median(times[1:]))
    return found


def main() -> None:
    """Print the comparison, and our times for increasing lengths, and write both into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=250.0, help="length of the track")
    parser.add_argument("--rate", type=int, default=22050, help="sample rate in Hz")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is timed")
    parser.add_argument("--lengths", type=float, nargs="+", default=[62.5, 125, 250, 500, 1000], help="in seconds")
    parser.add_argument("--page", type=Path, default=PAGE, help="with <!-- scoring --> and <!-- lengths -->")
    given = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # too late to set it here, since NumPy has already read it
        parser.error("both are timed on one thread; set OMP_NUM_THREADS=1 in the environment")
    torch.set_num_threads(1)

    ours, theirs, difference = compare(given.seconds, given.rate, given.rounds)
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    row = [
        f"{given.seconds:g} s at {given.rate} Hz, four stems",
        *(number(statistics.median(seconds)) for seconds in (theirs, ours)),
        f"{statistics.median(ratios):.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        f"{difference:.0e} dB",
    ]
    medians = growth(given.lengths, given.rate, given.rounds)
    grown = [
        [f"{seconds:g}", f"{1e3 * median:.0f}", f"{1e6 * median / seconds:.0f}"]
        for seconds, median in zip(given.lengths, medians, strict=True)
    ]
    machine = (
        f"One thread of {platform.machine()}, {torch.cpu.get_capabilities().get('cpu_name', platform.processor())}, "
        f"NumPy {np.__version__}. Medians of {given.rounds} rounds."
    )
    for name, lines in (("scoring", table(HEAD, [row])), ("lengths", [*table(GROWTH, grown), "", machine])):
        print("\n".join([*lines, ""]))
        fill(name, lines, given.page)


if __name__ == "__main__":
    main()
