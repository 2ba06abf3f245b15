"""BSS Eval's columns against closed forms: orthogonal tones, for which every part of an estimate is known."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import torch

from gmsdi.errors import UserError
from gmsdi.metrics import bss_eval
from gmsdi.metrics.bss_eval import bss_eval_windows, summarize_bss_eval
from gmsdi.study.scoring import score_bss_eval
from gmsdi.study.tables.table2 import bss_eval_sheets, table2_bss_eval
from tests.helpers.peers import needs_museval
from tests.helpers.rows import make_row

RATE, SECONDS = 200, 4
LABELS = ["Bass", "Drums", "Guitar"]


def tones(*hertz):
    """Of unit power, and orthogonal to each other in every second."""
    return np.sqrt(2) * np.sin(2 * np.pi * np.outer(hertz, np.arange(RATE * SECONDS) / RATE))


def example():
    """Targets, estimates, and each stem's own gain, leakage from the next stem, and artifacts, as amplitudes."""
    targets, (noise,) = tones(10, 20, 30), tones(40)
    gain, leak, artifact = np.array([0.9, 1.2, 0.5]), np.array([0.1, 0.3, 0.02]), np.array([0.2, 0.05, 0.4])
    estimates = gain[:, None] * targets + leak[:, None] * np.roll(targets, -1, axis=0) + artifact[:, None] * noise
    return targets, estimates, (gain, leak, artifact)


def decibel(ratio):
    return 10 * np.log10(ratio)


def known(gain, leak, artifact):
    """SDR, SIR and SAR of `example`, `[K, 3]`."""
    sdr = 1 / ((1 - gain) ** 2 + leak**2 + artifact**2)
    return decibel(np.stack([sdr, gain**2 / leak**2, (gain**2 + leak**2) / artifact**2], axis=1))


def scores(estimates, targets, **options):
    """As an array `[items, frames, K, 3]`."""
    table = bss_eval_windows(estimates, targets, RATE, labels=LABELS, taps=1, **options)
    return table[["sdr", "sir", "sar"]].to_numpy().reshape(*targets.shape[:-2], -1, 3, 3)


@needs_museval
def test_scores_of_orthogonal_tones_are_the_closed_form():
    targets, estimates, parts = example()
    np.testing.assert_allclose(scores(estimates, targets), np.broadcast_to(known(*parts), (4, 3, 3)), atol=1e-8)
    # A batch, in torch, with overlapping frames; what is left over is dropped.
    batch = [torch.from_numpy(np.pad(np.stack([x, 2 * x]), ((0, 0), (0, 0), (0, 80)))) for x in (estimates, targets)]
    table = bss_eval_windows(*batch, RATE, labels=LABELS, taps=1, hop=0.5)
    assert list(table.columns) == ["item", "sub", "stem", "sdr", "sir", "sar"]
    assert table.groupby("item")["sub"].max().tolist() == [6, 6]
    overlapping = table[(table["item"] == 1) & (table["sub"] == 3)]
    assert overlapping["stem"].tolist() == LABELS
    np.testing.assert_allclose(overlapping[["sdr", "sir", "sar"]], known(*parts), atol=1e-8)


@needs_museval
def test_sdr_is_the_ratio_of_target_and_error_in_each_frame():
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((3, RATE * SECONDS)) * np.linspace(0.1, 1, RATE * SECONDS)
    estimates = targets + 0.3 * rng.standard_normal(targets.shape)
    target, error = (x.reshape(3, SECONDS, RATE) for x in (targets, estimates - targets))
    expected = decibel((target**2).sum(-1) / (error**2).sum(-1))
    table = bss_eval_windows(estimates, targets, RATE, labels=LABELS, taps=16)
    np.testing.assert_allclose(table["sdr"].to_numpy().reshape(SECONDS, 3).T, expected, atol=1e-9)


@needs_museval
def test_silence_is_missing_and_does_not_spoil_the_rest():
    targets, estimates, (gain, leak, artifact) = example()
    targets[2] = 0  # throughout: no source, so that what leaks from it (nothing) and of it is an artifact
    estimates = gain[:, None] * targets + leak[:, None] * targets[[1, 0, 0]] + artifact[:, None] * tones(40)
    result = scores(estimates, targets)
    assert np.isnan(result[:, 2]).all()
    np.testing.assert_allclose(result[:, :2], np.broadcast_to(known(gain, leak, artifact)[:2], (4, 2, 3)), atol=1e-8)
    # An estimate of nothing has no score, but its target still leaks into the other estimate.
    nothing = estimates.copy()
    nothing[1] = 0
    again = scores(nothing, targets)
    assert np.isnan(again[:, 1:]).all()
    np.testing.assert_array_equal(again[:, 0], result[:, 0])
    # A target that rests for a second: museval scores no stem then.
    resting = targets.copy()
    resting[1, RATE : 2 * RATE] = 0
    rested = scores(estimates, resting)
    assert np.isnan(rested[1]).all()
    assert np.isfinite(rested[[0, 2, 3], :2]).all()
    # All silent, and two stems with the same target, whose contributions cannot be told apart.
    assert np.isnan(scores(0 * estimates, 0 * targets)).all()
    assert np.isnan(scores(estimates, np.stack([targets[0]] * 3))).all()


def test_summary_is_the_median_over_tracks_of_medians_over_frames():
    rows = []
    for track, frames in {"a": [1, 2, 9], "b": [5, np.nan, 7], "c": [0]}.items():
        rows += [
            (track, i, stem, x + bonus, x, -x) for i, x in enumerate(frames) for stem, bonus in (("D", 0), ("B", 4))
        ]
    rows += [("a", 0, "G", np.nan, np.nan, np.nan)]
    table = pd.DataFrame(rows, columns=["track", "sub", "stem", "sdr", "sir", "sar"])
    summary = summarize_bss_eval(table).set_index("stem")
    assert summary.index.tolist() == ["D", "B", "G", "All"]
    assert summary["sdr"].tolist()[:2] == [2, 6]  # of 2, 6, 0 and of 6, 10, 4
    assert summary.loc["All", ["sdr", "sir", "sar"]].tolist() == [4, 2, -2]
    assert np.isnan(summary.loc["G", "sdr"])
    assert summary["frames"].tolist() == [6, 6, 0, 12]
    assert summary["tracks"].tolist() == [3, 3, 0, 3]
    with pytest.raises(UserError, match="no rows"):
        summarize_bss_eval(table[:0])


def test_sheet_has_a_row_per_method_and_stem():
    def scores(*rows):
        return pd.DataFrame(rows, columns=["track", "offset", "sub", "stem", "sdr", "sir", "sar"])

    extractor = scores(
        ("a", 0, 0, "Bass", 1.0, 5.0, 3.0),
        ("a", 0, 1, "Bass", 2.0, 6.0, 4.0),
        ("a", 8, 0, "Bass", 6.0, 7.0, 5.0),  # another run of chunks of the same track
        ("b", 0, 0, "Bass", 4.004, np.inf, 2.0),
        ("a", 0, 0, "Drums", np.nan, np.nan, np.nan),
    )
    table = table2_bss_eval(
        {"extractor": extractor, "msdm": extractor[:2]},
        {
            "extractor": make_row("extractor", title="GMSDI Extractor", w=2.0, solver={"steps": 20}),
            "msdm": make_row("msdm", title="MSDM", solver={"steps": 9}),
        },
    )
    assert table["model"].tolist() == ["GMSDI Extractor"] * 3 + ["MSDM"] * 2
    (sheet,) = bss_eval_sheets(table)
    assert list(sheet.header) == ["Model: stem", "SDR (dB)", "SIR (dB)", "SAR (dB)", "Frames", "Tracks"]
    assert sheet.rows == [
        ["GMSDI Extractor: Bass", "3.00", "inf", "3.00", "4", "2"],  # of 2 and 4.004, of 6 and inf, of 4 and 2
        ["GMSDI Extractor: Drums", "–", "–", "–", "0", "0"],
        ["GMSDI Extractor: All", "3.00", "inf", "3.00", "4", "2"],
        ["MSDM: Bass", "1.50", "5.50", "3.50", "2", "1"],
        ["MSDM: All", "1.50", "5.50", "3.50", "2", "1"],
    ]
    assert "GMSDI Extractor: w = 2, 20 steps; MSDM: 9 steps." in sheet.notes[0]


@needs_museval
def test_neighbouring_chunks_are_joined_before_they_are_scored():
    targets, estimates, parts = example()

    class Windows:
        channels = 1
        window, sample_rate, labels = RATE, RATE, LABELS
        table = pd.DataFrame({"track": "a", "offset": RATE * np.arange(SECONDS)})

        def stems(self, ids):
            return np.stack([targets[:, RATE * i : RATE * (i + 1)] for i in ids])[:, :, None]

    ids = [3, 0, 1]
    table = score_bss_eval(Windows(), ids, np.stack([estimates[:, RATE * i : RATE * (i + 1)] for i in ids]))
    assert table[["offset", "sub"]].drop_duplicates().to_numpy().tolist() == [[0, 0], [0, 1], [3 * RATE, 0]]
    joined = bss_eval_windows(estimates[:, : 2 * RATE], targets[:, : 2 * RATE], RATE, labels=LABELS)
    np.testing.assert_array_equal(table.loc[table["offset"] == 0, joined.columns], joined)
    expected = np.broadcast_to(known(*parts)[:, 0], (3, 3))  # SDR does not depend on the filters
    np.testing.assert_allclose(table["sdr"].to_numpy().reshape(3, 3), expected, atol=1e-8)


def test_errors_say_what_to_do(monkeypatch):
    targets, estimates, _ = example()
    with pytest.raises(UserError, match="shapes do not fit"):
        scores(estimates[:2], targets)
    with pytest.raises(UserError, match="estimates hold values that are not finite"):
        scores(np.full_like(targets, np.nan), targets)
    with pytest.raises(UserError, match=r"800 samples are less than a frame of 1000"):
        scores(estimates, targets, seconds=5)
    with pytest.raises(UserError, match="must be positive"):
        scores(estimates, targets, hop=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install --no-deps museval==0\.4\.1"):
        bss_eval.museval_metrics.__wrapped__()
