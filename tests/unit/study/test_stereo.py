"""Chunks of two channels: what is stored of them, and what scores make of them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gmsdi.data.settings import Splits
from gmsdi.data.windows import WindowSet, build_multitrack_windows
from gmsdi.metrics.log_mel import log_mel_l1
from gmsdi.metrics.si_sdr import si_sdr
from gmsdi.study.channels import heard, interleaved, kept
from gmsdi.study.scoring import score_bss_eval, score_separation
from tests.helpers.multitracks import tone, write
from tests.helpers.peers import needs_museval

RATE, WINDOW = 8000, 8000
LABELS = ["Bass", "Drums"]


def cut(root, out, channels, rate=RATE):
    classes = {"Bass": ["bass.wav"], "Drums": ["drums.wav"]}
    settings = {"sample_rate": rate, "window": WINDOW, "splits": Splits(validation=0, test=["*"])}
    build_multitrack_windows(root, "test", out, **settings, classes=classes, stems=True, channels=channels)
    return WindowSet(out)


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "in" / "track" / "bass.wav", tone(220.0, 3.0, RATE), RATE, channels=2)  # 1.5 times, and a half
    write(tmp_path / "in" / "track" / "drums.wav", tone(700.0, 3.0, RATE, spans=[(1.0, 3.0)]), RATE)
    return tmp_path / "in"


def test_both_channels_are_stored_and_their_mean_is_the_mono_chunk(root, tmp_path):
    stereo, mono = cut(root, tmp_path / "stereo", 2), cut(root, tmp_path / "mono", 1)
    ids = list(range(3))
    stems = stereo.stems(ids)
    assert stems.shape == (3, 2, 2, WINDOW)
    assert (stereo.channels, mono.channels) == (2, 1)
    whole = tone(220.0, 3.0, RATE).reshape(3, WINDOW)
    np.testing.assert_allclose(stems[:, 0], np.stack([1.5 * whole, 0.5 * whole], axis=1), atol=1e-4)
    np.testing.assert_array_equal(stems[:, 1, 0], stems[:, 1, 1])
    np.testing.assert_allclose(heard(stems), kept(mono.stems(ids)), atol=1e-4)
    np.testing.assert_allclose(stereo.mixture(ids), stems.sum(axis=1), atol=1e-4)
    np.testing.assert_array_equal(stereo.mixture_at([0, WINDOW, 2 * WINDOW]), stereo.mixture(ids))
    pd.testing.assert_frame_equal(stereo.table, mono.table)
    assert stereo.samples == mono.samples
    resampled = cut(root, tmp_path / "half", 2, rate=4000).stems([0])[0, 0]
    np.testing.assert_allclose(resampled[0, 500:-500], 3 * resampled[1, 500:-500], atol=1e-3)


def of(stems):
    """Chunks `[N, K, C, T]` of one track, one second each."""
    table = pd.DataFrame({"track": "a", "offset": stems.shape[-1] * np.arange(len(stems))})
    own = {"labels": LABELS, "window": stems.shape[-1], "sample_rate": stems.shape[-1], "channels": stems.shape[2]}
    return SimpleNamespace(**own, table=table, stems=lambda ids: stems[list(ids)])


def test_channels_are_scored_as_one_signal():
    rng = np.random.default_rng(0)
    truth = 0.1 * rng.standard_normal((4, 2, 2, RATE)).astype(np.float32)
    estimate = truth + 0.05 * rng.standard_normal(truth.shape).astype(np.float32)
    ids = range(4)
    scores = score_separation(of(truth), ids, estimate)
    assert len(scores) == 2  # one sub-window of four seconds

    target, found = (signal.transpose(1, 0, 2, 3).reshape(2, -1) for signal in (truth, estimate))
    for k, label in enumerate(LABELS):
        expected = si_sdr(found[k], target[k]) - si_sdr(target.sum(axis=0), target[k])
        assert scores.set_index("stem").at[label, "si_sdri"] == pytest.approx(expected, abs=1e-6)
        ends = ([np.concatenate(signal[:, k, channel]) for signal in (estimate, truth)] for channel in range(2))
        expected = np.mean([log_mel_l1(*pair, RATE) for pair in ends])
        assert scores.set_index("stem").at[label, "log_mel"] == pytest.approx(expected, rel=1e-6)
    # A stem that is the same in both channels has the score of one.
    both = np.repeat(truth[:, :, :1], 2, axis=2), np.repeat(estimate[:, :, :1], 2, axis=2)
    once = score_separation(of(truth[:, :, :1]), ids, estimate[:, :, 0])
    pd.testing.assert_frame_equal(score_separation(of(both[0]), ids, both[1]), once, atol=1e-6)
    # On the wrong side it is worth nothing.
    wrong = score_separation(of(truth), ids, truth[:, :, ::-1])
    assert wrong["si_sdri"].max() < -20


@needs_museval
def test_bss_eval_is_musevals_of_stereo():
    from gmsdi.metrics.bss_eval import museval_metrics

    rng = np.random.default_rng(1)
    truth = 0.1 * rng.standard_normal((2, 2, 2, 2000)).astype(np.float32)
    estimate = truth + 0.05 * rng.standard_normal(truth.shape).astype(np.float32)
    table = score_bss_eval(of(truth), range(2), estimate)
    whole = [np.concatenate(list(x), axis=-1).transpose(0, 2, 1).astype(np.float64) for x in (truth, estimate)]
    sdr, _, sir, sar, _ = museval_metrics().bss_eval(*whole, window=2000, hop=2000, filters_len=512)
    for name, expected in (("sdr", sdr), ("sir", sir), ("sar", sar)):
        found = table.pivot_table(index="stem", columns="sub", values=name).to_numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)
    audio = rng.standard_normal((3, 2, 5))
    np.testing.assert_array_equal(interleaved(audio, 2).reshape(3, 5, 2), audio.transpose(0, 2, 1))
