"""Time the SI-SDRi of whole tracks, compared with MSDM's loop and for increasing lengths.

Run `OMP_NUM_THREADS=1 python -m benchmarks.scoring` in the repository's root; it takes less than a minute. MSDM's loop
is written from its description (`tests.peers.oracles.msdm_scores`), and reads the same arrays in memory. The two
alternate. Printed are the medians, the median ratio with its smallest and largest value, and the largest difference of
a score.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gmsdi.metrics.si_sdr import si_sdri_windows
from tests.peers.oracles import msdm_scores, separated

LABELS = ["Bass", "Drums", "Guitar", "Piano"]


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


def main() -> None:
    """Print the comparison, and our times for increasing lengths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=250.0, help="length of the track")
    parser.add_argument("--rate", type=int, default=22050, help="sample rate in Hz")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is timed")
    parser.add_argument("--lengths", type=float, nargs="*", default=[62.5, 125, 250, 500, 1000], help="in seconds")
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # too late to set it here, since NumPy has already read it
        parser.error("both are timed on one thread; set OMP_NUM_THREADS=1 in the environment")
    torch.set_num_threads(1)

    ours, theirs, difference = compare(options.seconds, options.rate, options.rounds)
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    print(f"A track of {options.seconds:g} s at {options.rate} Hz, four stems, one thread, {options.rounds} rounds")
    print(f"  MSDM's loop     {1e3 * statistics.median(theirs):7.1f} ms")
    print(f"  si_sdri_windows {1e3 * statistics.median(ours):7.1f} ms")
    print(f"  {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"  largest difference of a score {difference:.1e} dB")
    print("Increasing length: seconds of music, ms, µs per second of music")
    for seconds in options.lengths:
        estimates, targets = separated(seconds, options.rate)
        times = [
            seconds_of(lambda x=estimates, y=targets: si_sdri_windows(x, y, None, options.rate, labels=LABELS))[0]
            for _ in range(max(3, options.rounds // 2))
        ]
        print(f"  {seconds:7g} {1e3 * statistics.median(times):8.1f} {1e6 * statistics.median(times) / seconds:8.0f}")


if __name__ == "__main__":
    main()
