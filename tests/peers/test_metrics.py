"""Published metrics agree where they define what we define, and differ where the protocol differs."""

import numpy as np
import pytest

from gmsdi.metrics.si_sdr import si_sdri_windows
from tests.peers.oracles import (
    clap_difference,
    fad_library_difference,
    fast_bss_eval_difference,
    msdm_scores,
    museval_sdr,
    separated,
    torchmetrics_fad,
    torchmetrics_si_sdr,
    vggish_difference,
)


def test_si_sdr_is_that_of_torchmetrics_without_mean_removal():
    np.testing.assert_allclose(torchmetrics_si_sdr(), 0, atol=1e-9)


@pytest.mark.parametrize("seconds", [23.0, 60.0])
def test_the_protocol_is_that_of_msdms_evaluator(seconds):
    estimates, targets = separated(seconds, 8000)
    theirs = msdm_scores(estimates, targets, 8000)
    table = si_sdri_windows(estimates, targets, None, 8000, labels=list("abcd"))
    assert len(theirs) > seconds / 4
    assert not table["active"].all()
    np.testing.assert_allclose(table["si_sdri"].to_numpy().reshape(theirs.shape), theirs, rtol=0, atol=1e-4)


def test_removing_the_mean_would_give_another_score():
    """A difference on purpose: MSDM's protocol removes no mean."""
    assert (np.abs(torchmetrics_si_sdr(zero_mean=True)) > 0.1).all()


def test_si_sdr_is_musevals_sdr_with_filters_of_one_tap():
    np.testing.assert_allclose(museval_sdr(taps=1), 0, atol=1e-6)


def test_bss_evals_512_taps_forgive_more():
    """A difference on purpose: SI-SDR allows a gain, BSS Eval any filter of 512 taps."""
    assert (museval_sdr(taps=512) < -0.1).all()


def test_frechet_distance_is_torchmetrics_fid():
    assert torchmetrics_fad() < 1e-9


def test_interference_and_artifacts_are_those_of_fast_bss_eval():
    np.testing.assert_allclose(fast_bss_eval_difference(), 0, atol=1e-9)


def test_fad_is_that_of_frechet_audio_distance():
    assert fad_library_difference() < 1e-9


def test_vggish_is_torchvggish(tmp_path):
    assert vggish_difference(tmp_path) < 1e-3


def test_clap_is_laion_clap(tmp_path):
    """But for the rounding to 16 bits, which the peer leaves to its caller."""
    assert clap_difference(tmp_path) < 1e-3
