"""Draws the figures. Each depends only on its table; equal tables give equal bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gmsdi.io.files import atomic
from gmsdi.study.chunks import ALL, labels_in
from gmsdi.study.references import HELD_OUT, NOISE, SHUFFLED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "with negative prompts": "#33658a",
    "without negative prompts": "#a9c6dd",
    "GMSDI": "#33658a",
    "GMSDI, conditioned": "#7a5c8e",
    "GMSDI, one by one": "#b7a3c7",
    "GMSDI, extracted": "#4f9d9a",
    "GMSDI, groups": "#a9c6dd",
    "MSDM": "#d98e4a",
    "weakly supervised MSDM": "#d98e4a",
    NOISE: "#8c2f39",
    SHUFFLED: "#b07d2b",
    HELD_OUT: "#3f7d4e",
}
OF_MODELS = (("#b5658a", "#e3bccd"), ("#8a8f3c", "#d0d3a6"), ("#5c5f66", "#b9bbc0"))
"""Colours of the series of further models, each with those without negative prompts second."""
NEGATIVE = {"True": "with negative prompts", "False": "without negative prompts"}
"""Names of Figure 2's colours, by the column negative of its table."""
OTHER_STEM = "#7a7a7a"
BAND = {"alpha": 0.15, "linewidth": 0, "zorder": 0}
"""Style of the held-out line's interval."""
LINES = {NOISE: (0, (1, 1)), SHUFFLED: (0, (4, 2)), HELD_OUT: "solid"}

HATCHES = ("", "///", "xx", "..")
"""Hatches of the bars for the first, second, ... w."""

COSTS_FLOOR = -3.0
"""Level in dB below which Figure 4 shows no points."""


def fad_stems(table: pd.DataFrame) -> Figure:
    """Figure 2: FAD of single stems, with and without negative prompts, against the test chunks of the stem.

    Args:
        table: first table of `fad.distances`, with the columns embedding, w and negative (with negative prompts?),
            which are empty for series that are not of a text-conditioned model, and model (title of a further model),
            which tables of older runs do not have.
    """
    model = table[table["kind"] == "model"]
    stems, series = list(dict.fromkeys(model["bar"])), list(dict.fromkeys(model["series"]))
    told = model.drop_duplicates("series").set_index("series").reindex(columns=["w", "negative", "model"])
    told = told.fillna({"model": ""}).astype(str)
    models = [name for name in told["model"].unique() if name]
    strengths = list(dict.fromkeys(told["w"]))
    with _style() as (plt, sns):
        width = 1.2 + max(1.7, 0.45 * len(series)) * len(stems)
        figure, ax = plt.subplots(figsize=(max(6.0, width), 3.8), layout="constrained")
        style = {"edgecolor": "white", "linewidth": 0, "zorder": 2, "saturation": 1, "errorbar": None, "legend": False}
        palette = {name: COLOURS.get(NEGATIVE.get(told.at[name, "negative"], name)) for name in series}
        palette |= {
            name: _of_model(models.index(row.model))[row.negative != "True"]
            for name, row in told.iterrows()
            if row.model in models
        }
        sns.barplot(model, x="bar", y="fad", hue="series", palette=palette, width=0.76, gap=0.08, ax=ax, **style)
        for bars, name in zip(list(ax.containers), series, strict=True):
            for patch in bars:
                patch.set_hatch(HATCHES[strengths.index(told.at[name, "w"]) % len(HATCHES)])
            bars.set_label(name)
            middles = np.array([patch.get_x() + patch.get_width() / 2 for patch in bars])
            _marks(ax, middles, model[model["series"] == name].set_index("bar").loc[stems])
        for k, stem in enumerate(stems):
            rows = table[table["bar"] == stem]
            for row in rows[rows["kind"] == "line"].itertuples():
                style = {"color": COLOURS[row.series], "linestyle": LINES[row.series], "linewidth": 1.6}
                ax.hlines(row.fad, k - 0.46, k + 0.46, label=row.series if k == 0 else None, **style)
                if row.series == HELD_OUT:
                    ax.fill_between([k - 0.46, k + 0.46], row.fad_low, row.fad_high, color=style["color"], **BAND)
            others = rows[rows["kind"] == "other stem"].sort_values("fad")
            for rank, row in enumerate(others.itertuples()):
                label = "test chunks of another stem (initial; nearest thick)" if (k, rank) == (0, 0) else None
                ax.hlines(row.fad, k - 0.46, k + 0.42, color=OTHER_STEM, lw=1.6 if rank == 0 else 0.7, label=label)
                ax.annotate(row.series[0], (k + 0.43, row.fad), fontsize=7, color=OTHER_STEM, va="center")
        ax.set_xlabel("")
        _finish(ax, table)
    return figure


def fad_mixtures(table: pd.DataFrame) -> Figure:
    """Figure 3: FAD of total ("All") and partial generation, by given stems, against test mixtures.

    Args:
        table: second table of `fad.distances`, with a column embedding.
    """
    model = table[table["kind"] == "model"]
    bars, series = list(dict.fromkeys(model["bar"])), list(dict.fromkeys(model["series"]))
    with _style() as (plt, _):
        # Not every series has all bars. All bars are as wide as the fullest place allows.
        present = {bar: [name for name in series if name in set(rows["series"])] for bar, rows in model.groupby("bar")}
        most = max(map(len, present.values()))
        size = (7.2, max(3.2, 1.6 + max(0.26, 0.17 * most) * len(bars)))
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        width = 0.8 / most
        models = [name for name in series if _colour(name) is None]
        for name in series:
            rows = model[model["series"] == name].set_index("bar")
            places = [
                bars.index(bar) + (present[bar].index(name) - (len(present[bar]) - 1) / 2) * width for bar in rows.index
            ]
            colour = _of_model(models.index(name))[0] if name in models else _colour(name)
            ax.barh(places, rows["fad"], 0.92 * width, label=name, color=colour, zorder=2)
            _marks(ax, np.array(places), rows, upright=False)
        for row in table[table["kind"] == "line"].itertuples():
            ax.axvline(row.fad, color=COLOURS[row.series], linestyle=LINES[row.series], lw=1.6, label=row.series)
            if row.series == HELD_OUT:
                ax.fill_betweenx([-0.5, len(bars) - 0.5], row.fad_low, row.fad_high, color=COLOURS[row.series], **BAND)
        ax.set_ylim(len(bars) - 0.5, -0.5)
        given = [0 if bar == ALL else len(labels_in(bar)) for bar in bars]
        for place in range(1, len(bars)):
            if given[place] != given[place - 1]:
                ax.axhline(place - 0.5, color="#cccccc", lw=0.8)
        ax.set_yticks(range(len(bars)), ["All (total)" if bar == ALL else " + ".join(labels_in(bar)) for bar in bars])
        ax.set_ylabel("Given stems of partial generation")
        _finish(ax, table, upright=False)
    return figure


def costs(table: pd.DataFrame) -> Figure:
    """Figure 4: SI-SDR improvement (All, active stems) against network evaluations, a line per method.

    Args:
        table: rows of `metrics.si_sdr.summarize` with the columns method, steps, evaluations (per chunk) and chunks.
    """
    overall = table[table["stem"] == ALL]
    methods = list(dict.fromkeys(overall["method"]))
    with _style() as (plt, sns):
        figure, ax = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
        palette = dict(zip(methods, sns.color_palette("tab10", len(methods)), strict=True))
        markers = dict(zip(methods, cycle("os^Dv<>Pp*hX8d"), strict=False))
        sns.lineplot(overall, x="evaluations", y="active", hue="method", style="method", palette=palette, dashes=False,
                     markers=markers, ms=6, lw=1.4, mew=0, estimator=None, ax=ax)  # fmt: skip
        for point in overall.itertuples():
            ax.annotate(str(point.steps), (point.evaluations, point.active), (0, 5), fontsize=6.5, ha="center",
                        textcoords="offset points", color=palette[point.method])  # fmt: skip
        ax.set(
            xscale="log",
            xlabel="network evaluations per chunk (guidance counts twice)",
            ylabel="SI-SDRi, active stems (dB)",
        )
        ticks: list[int] = []
        for count in sorted(set(overall["evaluations"].round().astype(int))):
            if not ticks or count > 1.3 * ticks[-1]:  # labels closer together would overlap
                ticks.append(count)
        ax.set_xticks(ticks, [str(count) for count in ticks])
        ax.minorticks_off()
        ax.grid(color="#eeeeee", lw=0.8)
        ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        title = f"{overall['chunks'].iloc[0]} test chunks; numbers at the points: solver steps"
        if overall["active"].min() < COSTS_FLOOR:  # with too few steps, methods diverge
            ax.set_ylim(bottom=COSTS_FLOOR)
            title += f"; some lie below {COSTS_FLOOR:g} dB"
        ax.set_title(title, fontsize=9, loc="left")
    return figure


def losses(table: pd.DataFrame) -> Figure:
    """Loss curves of a training.

    Args:
        table: columns step, train_loss and val_loss (either may be missing in a row).
    """
    with _style() as (plt, sns):
        figure, ax = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
        for column, label, colour in (
            ("train_loss", "training batches", COLOURS["without negative prompts"]),
            ("val_loss", "validation, averaged weights", COLOURS["with negative prompts"]),
        ):
            if column in table and table[column].notna().any():
                points = table.dropna(subset=column)
                sns.lineplot(points, x="step", y=column, marker=".", ms=4, lw=1.2, mec=colour, color=colour,
                             label=label, estimator=None, ax=ax)  # fmt: skip
        ax.set(xlabel="step", ylabel="loss", yscale="log")
        ax.legend(frameon=False)
    return figure


def save(figure: Figure, *paths: str | Path) -> None:
    """Save a figure to files, in the formats that their names end with."""
    import matplotlib as mpl

    undated = {".svg": {"Date": None, "Creator": None}, ".pdf": {"CreationDate": None, "Creator": None}}
    for target in map(Path, paths):
        # A fixed salt and no date: the same figure is the same file.
        with mpl.rc_context({"svg.hashsalt": "gmsdi"}), atomic(target) as path:
            figure.savefig(path, dpi=160, metadata=undated.get(target.suffix))


def _colour(series: str) -> str | None:
    return COLOURS.get(series.partition(", w = ")[0])


def _of_model(number: int) -> tuple[str, str]:
    """The colours of a further model's series."""
    return OF_MODELS[number % len(OF_MODELS)]


def _marks(ax: Axes, places: np.ndarray, rows: pd.DataFrame, *, upright: bool = True) -> None:
    """Mark value, interval and FAD∞ of vertical (`upright`) or horizontal bars."""
    ends = np.abs(rows[["fad_low", "fad_high"]].to_numpy(float).T - rows["fad"].to_numpy())
    style: dict[str, Any] = {"fmt": "none", "ecolor": "#222222", "elinewidth": 0.8, "capsize": 2, "zorder": 3}
    dots: dict[str, Any] = {"ms": 3.5, "mfc": "white", "mec": "#222222", "mew": 0.8, "ls": "none", "zorder": 3}
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8}
    words: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7, "zorder": 4, "bbox": box}
    values = rows["fad"].to_numpy(float)
    if upright:
        ax.errorbar(places, values, ends, **style)
        ax.plot(places, rows["fad_inf"], "D", **dots)
        for place, value in zip(places, values, strict=True):
            # Beside the error bar, which is at the bar's middle.
            ax.annotate(f"{value:.1f}", (place, value), (2, 2), **words)
        return
    ax.errorbar(values, places, xerr=ends, **style)
    ax.plot(rows["fad_inf"], places, "D", **dots)
    for place, value, high in zip(places, values, values + ends[1], strict=True):
        text = f"{value:.1f}"
        ax.annotate(text, (value if np.isnan(high) else high, place), (5, 0), va="center", **words)


def _finish(ax: Axes, table: pd.DataFrame, *, upright: bool = True) -> None:
    """Add axis, legend, and a line on the data behind the numbers."""
    from matplotlib.container import BarContainer

    model = table[table["kind"] == "model"]
    finite = table["fad"][table["fad"] > 0]
    if finite.max() > 12 * model["fad"].median():
        # Noise is so far away that a linear axis would hide differences between bars.
        (ax.set_yscale if upright else ax.set_xscale)("log")
    low, high = model["reference_frames"].min(), model["reference_frames"].max()
    frames = f"{low}" if low == high else f"{low} to {high}"
    fewest, most = model["reference_tracks"].min(), model["reference_tracks"].max()
    tracks = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    (ax.set_ylabel if upright else ax.set_xlabel)("Fréchet audio distance")
    ax.set_title(
        f"{table['embedding'].iloc[0]}; {model['clips'].iloc[0]} clips = {model['frames'].iloc[0]} frames per bar, "
        f"{frames} reference frames of {tracks} tracks\n"
        "diamonds: FAD∞; error bars and band: intervals over clips and tracks",
        fontsize=7.5,
        loc="left",
        color="#555555",
    )
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda k: isinstance(handles[k], BarContainer), reverse=True)
    ordered, names = [handles[k] for k in order], [labels[k] for k in order]
    # Below the axis and its label, at the same distance for any height.
    below = -0.16
    if not upright and (figure := ax.get_figure(root=True)) is not None:
        below = -0.46 / (figure.get_figheight() - 1.2)
    ax.legend(ordered, names, loc="upper left", bbox_to_anchor=(0, below), ncols=3, frameon=False, fontsize=7.5)


@contextmanager
def _style() -> Iterator[tuple[Any, Any]]:
    """Use seaborn's theme; yields matplotlib's pyplot and seaborn."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    settings = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "axes.labelsize": 9}
    with sns.axes_style("ticks", settings), sns.plotting_context("paper", rc=settings):
        yield plt, sns
        plt.close("all")
