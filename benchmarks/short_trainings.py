r"""Compare variants of a network and its training in short trainings of equal CPU time, to choose one for a long one.

Each variant is trained on the windows that a configuration's workflow has cut, for the number of steps that take
`--seconds` of CPU time of one thread, with a learning rate that falls to zero at the end. Rows are added to
docs/short_trainings.csv: validation losses, and MSE/σ² by noise level beside that of a Wiener filter that knows the
true power. First cut the windows, then run the trainings:

    snakemake --cores 2 --configfile config/bundled.yaml --config training='{initial: null}' \
        --until chunk chunk_with_stems -- results/bundled/training/losses.csv
    python -m benchmarks.short_trainings --config config/bundled.yaml [--seconds 240] [--only NAME ...]

Run it on an idle machine, since other work slows down the steps, and so changes their number.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gmsdi.study.config import load, validate
from gmsdi.study.study import Study
from gmsdi.training.config import TrainingConfig
from gmsdi.training.loop import train

REPO = Path(__file__).parents[1]
TABLE = REPO / "docs" / "short_trainings.csv"
ONE = [[1, 4], [1, 4], [1], [1]]
TWO: dict[str, Any] = {"num_blocks": [2, 2, 1, 1], "dilations": [[1, 2, 4, 8], [1, 2, 4, 8], [1], [1]]}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one block, AdamW": ({}, {}),
    "dilations 1, 4, AdamW": ({"dilations": ONE}, {}),
    "dilations 1, 4, AdamW, lr 0.002": ({"dilations": ONE}, {"lr": 2e-3}),
    "dilations 1, 4, AdamW, uncertainty": ({"dilations": ONE}, {"uncertainty": True}),
    "dilations 1, 4, AdamW, more weight on 0.01 to 0.1": (
        {"dilations": ONE},
        {"p_extra": {"share": 0.3, "low": 0.01, "high": 0.1}},
    ),
    "kernel 7, AdamW": ({"kernel_sizes": [7, 7, 3, 3]}, {}),
    "two blocks, dilations 1, 2, 4, 8, AdamW": (TWO, {}),
    "two blocks, dilations 1, 2, 4, 8, Muon every 2": (TWO, {"optimizer": "muon", "muon_every": 2}),
    "two blocks, dilations 1, 2, 4, 8, Muon every 4": (TWO, {"optimizer": "muon", "muon_every": 4}),
    "160 channels, dilations 1, 4, AdamW": ({"channels": 160, "dilations": ONE}, {}),
}
"""Changes of the demo's network, and changes of the training, by name."""
COMMON = {"batch": 16, "lr": 1e-3, "p_mean": -2.0, "p_std": 1.3, "warmup": 40, "decay": 0.4, "ema": 0.98}


def run(
    model: dict[str, Any], training: dict[str, Any], steps: int, data: dict[str, Path], *, measured: bool = False
) -> tuple[float, dict[str, float]]:
    """Train, and return the CPU seconds and, if `measured`, the results of the last validation."""
    settings = {**COMMON, **training, "steps": steps, "checkpoint_every": 10**9}
    settings |= {"validate_every": steps, "level_windows": 32} if measured else {"validate_every": 10**9}
    with tempfile.TemporaryDirectory() as folder:
        out, work = Path(folder) / "model", Path(folder) / "work"
        started = time.process_time()
        train(
            dict(model),
            TrainingConfig(**settings),
            data["train"],
            data["validation"],
            out,
            seed=1,
            work=work,
            progress=False,
        )
        seconds = time.process_time() - started
        if not measured:
            return seconds, {}
        last = pd.read_csv(work / "csv" / "metrics.csv").ffill().iloc[-1]
    kept = [name for name in last.index if name.startswith(("val_", "mse_", "wiener_"))]
    return seconds, {name: round(float(last[name]), 4) for name in kept}


def main() -> None:
    """Run the variants one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="config/bundled.yaml")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(validate(load(given.config)))
    plain = Study(validate(load())).model_config("gmsdi")["unet"]
    folder = Path("results/data") / study.dataset_id()
    data = {split: folder / study.part(split) / "windows" for split in ("train", "validation")}
    for name in given.only:
        network, training = VARIANTS[name]
        model = {**study.model_config("gmsdi"), "unet": {**plain, **network}}
        step = (run(model, training, 9, data)[0] - run(model, training, 3, data)[0]) / 6
        steps = max(1, int(given.seconds / step))
        _, found = run(model, training, steps, data, measured=True)
        row = pd.DataFrame([{"variant": name, "seconds_a_step": round(step, 3), "steps": steps, **found}])
        earlier = pd.read_csv(TABLE) if TABLE.exists() else row[:0]
        pd.concat([earlier[earlier["variant"] != name], row]).to_csv(TABLE, index=False)
        print(row.to_string(index=False))


if __name__ == "__main__":
    main()
