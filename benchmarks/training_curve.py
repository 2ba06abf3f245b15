"""How the model `general` improved with training: its errors and its stems after more and more windows.

    python -m benchmarks.training_curve    # docs/figures/training_curve.svg, and a table in docs/bundled_training.md

Draws docs/gpu_training.csv, the log of its three runs, and docs/gpu_scores.csv, the record of the scores after each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.scaling import fill, table
from gmsdi.study.figures import save

ROOT = Path(__file__).parents[1]
LOG, SCORES = ROOT / "docs" / "gpu_training.csv", ROOT / "docs" / "gpu_scores.csv"
PAGE, FIGURE = ROOT / "docs" / "bundled_training.md", ROOT / "docs" / "figures" / "training_curve.svg"
PROVENANCE = ROOT / "gmsdi" / "weights" / "general" / "provenance.json"
LEVELS = ("0.03", "0.1", "0.3", "1")
STEMS = ("bass", "drums", "guitar", "piano", "all")
VALIDATION = "validation half"
LINES = {
    (VALIDATION, "Extractor, consistent, w = 10"): "consistent, validation half",
    ("songs by others", "Extractor, consistent, w = 10"): "consistent, songs by others",
    ("unseen grooves and SoundFont", "Extractor, consistent, w = 10"): "consistent, unseen grooves",
    ("songs by others", "GMSDI Extractor, w = 6, σ from 1"): "GMSDI Extractor, songs by others",
    ("unseen grooves and SoundFont", "GMSDI Extractor, w = 6, σ from 1"): "GMSDI Extractor, unseen grooves",
}
"""What the right half of the figure shows: the set and the method of the scores, and the name of the line."""


def runs() -> list[dict[str, int]]:
    """The batch of each run and the windows, in all, that the model had seen before it and after it."""
    known = json.loads(PROVENANCE.read_text(encoding="utf-8"))
    seen, found = 0, []
    for training in [*known["earlier_trainings"], known]:
        batch = training["training"]["batch"]
        found.append({"batch": batch, "before": seen, "after": seen + training["windows_seen"]})
        seen = found[-1]["after"]
    return found


def errors(log: pd.DataFrame) -> pd.DataFrame:
    """MSE/σ² relative to that of the Wiener filter with the true powers, for each σ of `LEVELS`, by windows seen."""
    told = log.assign(windows=0.0)
    for number, run in enumerate(runs(), 1):
        told.loc[told["run"] == number, "windows"] = run["before"] + run["batch"] * (told["step"] + 1)
    filters = told.groupby("run")[[f"wiener_{level}" for level in LEVELS]].transform("first")
    ratios = {level: told[f"mse_{level}"] / filters[f"wiener_{level}"] for level in LEVELS}
    return pd.DataFrame({"windows": told["windows"], "run": told["run"], **ratios})


def draw(log: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """Errors on the left, scores on the right, by millions of windows; dotted lines are the ends of runs."""
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "legend.fontsize": 7.5}):
        figure = Figure(figsize=(9.2, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        ends = [run["after"] / 1e6 for run in runs()]
        ratios = errors(log)
        for level in LEVELS:
            left.plot(ratios["windows"] / 1e6, ratios[level], ".-", label=f"σ = {level}")
        left.set(ylabel="error relative to the Wiener oracle", ylim=(1, None))
        for number, ((where, method), name) in enumerate(LINES.items()):
            own = scores[(scores["set"] == where) & (scores["method"] == method) & (scores["after"] > 0)]
            ranges = None if own["low"].isna().any() else [own["all"] - own["low"], own["high"] - own["all"]]
            places = [ends[after - 1] + 0.025 * (number - 2) for after in own["after"]]  # side by side
            right.errorbar(places, own["all"], ranges, fmt="o-", ms=4, lw=1.2, capsize=2, label=name)
        right.set(ylabel="SI-SDRi over active stems (dB)", ylim=(0, None))
        for axes in (left, right):
            for end in ends:
                axes.axvline(end, color="0.8", lw=0.8, ls=":", zorder=0)
            axes.set(xlabel="windows seen (millions)", xlim=(0, 1.05 * ends[-1]))
            axes.legend(frameon=False)
    return figure


def lines(scores: pd.DataFrame) -> list[str]:
    """The table of the scores on the validation half."""
    own = scores[scores["set"] == VALIDATION]
    rows = [[row["title"], *(f"{row[stem]:.1f}" for stem in STEMS)] for _, row in own.iterrows()]
    return table(["", *(stem.capitalize() for stem in STEMS)], rows)


def main(given: Sequence[str] | None = None) -> None:
    """Draw the figure and write the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(given)
    scores = pd.read_csv(SCORES)
    save(draw(pd.read_csv(LOG), scores), FIGURE)
    fill("gpu scores", lines(scores), PAGE)


if __name__ == "__main__":
    main()
