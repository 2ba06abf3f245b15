"""Rows of Table 2 whose stems are the means of other rows' stems."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.signal import istft, stft

from gmsdi.errors import UserError
from gmsdi.inference import Wiener
from gmsdi.study.config import load, validate
from gmsdi.study.counting import share
from gmsdi.study.methods import MeanOfRows
from gmsdi.study.separation import average
from gmsdi.study.study import Study
from gmsdi.study.work import Amount, Sizes, Works
from tests import REPO

RATE, NAMES = 8000, ("first", "second", "third")


def row(**settings):
    return MeanOfRows(name="mean", title="MEAN", of={name: name.upper() for name in NAMES}, **settings)


def draws(*shape, seed=0):
    return {
        name: torch.randn(*shape, generator=torch.Generator().manual_seed(seed + k)) for k, name in enumerate(NAMES)
    }


def test_the_mean_is_better_than_its_members_by_their_spread():
    """Krogh and Vedelsby 1995: the mean's squared error is the members' mean one less their mean distance from it."""
    truth = torch.randn(2, 4, 1, 600, generator=torch.Generator().manual_seed(9))
    members = {name: truth + noise for name, noise in draws(2, 4, 1, 600).items()}
    mean = row().combine(members, truth.sum(dim=1), RATE)
    errors = [(member - truth).square().mean() for member in members.values()]
    spread = [(member - mean).square().mean() for member in members.values()]
    assert (mean - truth).square().mean() == pytest.approx(float(sum(errors) - sum(spread)) / 3, rel=1e-5)
    assert row().summary() == "mean of “FIRST”, “SECOND” and “THIRD”"


def test_the_filter_is_made_from_the_powers_of_the_mean():
    members, mixture = draws(1, 2, 1, 4096), torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(5))
    found = row(wiener={"amount": 1, "seconds": 0.016}).combine(members, mixture, RATE)[0, :, 0]
    stems = sum(members.values())[0, :, 0] / 3
    window = {"window": "hann", "nperseg": 128, "noverlap": 96}
    powers = np.abs(stft(stems.numpy(), **window)[2]) ** 2
    parts = powers / powers.sum(axis=0) * stft(mixture[0, 0].numpy(), **window)[2]
    inside = slice(128, -128)
    np.testing.assert_allclose(found[:, inside], istft(parts, **window)[1][:, :4096][:, inside], atol=1e-5)


def test_the_filter_does_not_leak_into_rests():
    """Of the song, which is loud: a note ends, and the next one begins half a second later."""
    notes = torch.randn(1, 1, 12000, generator=torch.Generator().manual_seed(5))
    mixture = torch.cat([notes[..., :4000], torch.zeros(1, 1, 4000), notes[..., 8000:]], dim=-1)
    members = {name: 0.5 * mixture.unsqueeze(1).expand(-1, 2, -1, -1) for name in NAMES}
    found = row(wiener={"amount": 1, "seconds": 0.25}).combine(members, mixture, RATE, levels=[0.0])
    assert found[..., 4000:8000].abs().max() == 0
    leaking = Wiener(RATE, 1, 0.25)(members["first"], mixture)
    assert leaking[..., 4000:8000].abs().max() > 0


class Windows:
    """Chunks of a `WindowSet` in memory."""

    sample_rate, window = RATE, 256

    def __init__(self, channels):
        self.channels = channels
        self.labels = ["Bass", "Drums"]
        self.table = pd.DataFrame({"track": [f"Track{number}" for number in range(6)]})

    def mixture(self, ids):
        return np.stack([np.full((self.channels, self.window), number, dtype=np.float32) for number in ids])


@pytest.mark.parametrize("channels", [1, 2])
def test_the_stage_averages_in_batches(channels):
    shape = (5, 2, 256) if channels == 1 else (5, 2, channels, 256)
    members = {name: part.numpy() for name, part in draws(*shape).items()}
    found = average(row(), members, Windows(channels), [3, 1, 4, 5, 2], batch=2)
    np.testing.assert_allclose(found, np.mean(list(members.values()), axis=0), atol=1e-6)
    filtered = average(row(wiener={"seconds": 0.016}), members, Windows(channels), [3, 1, 4, 5, 2], batch=2)
    assert filtered.shape == shape
    sums = np.broadcast_to(np.array([3, 1, 4, 5, 2]).reshape(5, *[1] * (len(shape) - 2)), (5, *shape[2:]))
    np.testing.assert_allclose(filtered.sum(axis=1), sums, atol=1e-4)  # each chunk is filtered with its own mixture


@pytest.mark.parametrize("channels", [1, 2])
def test_an_empty_shard_has_no_stems(channels):
    """As of the first of three shards of two chunks."""
    shape = (0, 2, 256) if channels == 1 else (0, 2, channels, 256)
    members = {name: np.zeros(shape, np.float32) for name in NAMES}
    found = average(row(), members, Windows(channels), list(share([7, 8], 1, 3)), batch=2)
    assert (found.shape, found.dtype) == (shape, np.float32)


BOTH = {"kind": "average", "of": ["separator", "extractor"]}


def configured(both):
    config = load(REPO / "config" / "config.yaml")
    config["separation"]["rows"]["both"] = both
    return Study(validate(config))


def test_rows_from_a_configuration():
    study = configured({**BOTH, "wiener": {"amount": 0.5}})
    assert study.separations() == [*study.rows, "both"]
    mean = study.averages["both"]
    assert mean.title == "Mean of GMSDI Separator and GMSDI Extractor"
    assert mean.summary() == "mean of “GMSDI Separator” and “GMSDI Extractor”, 50% filtered"
    assert MeanOfRows(**mean.model_dump()) == mean  # as it reaches its job
    work = Works(study).averaging(1, 2)
    assert work.network is None
    amount = work.count(Sizes(window=10, chunks={study.part("test"): 60}))
    chunks = study.config["separation"]["chunks"] or 60
    stems = len(share(range(chunks), 1, 2)) * len(study.labels) * 10 * 4
    assert amount == Amount(memory=2 * stems, disk=stems)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({**BOTH, "of": ["separator", "extractr"]}, "rows.both.of has 'extractr'; choose from the rows that separate"),
        ({**BOTH, "of": ["separator"]}, "rows.both.of"),
        ({**BOTH, "title": "MSDM"}, "which is the paper's name for a method"),
        ({**BOTH, "title": "Mean, {steps} steps"}, "rows.both.title has {steps}"),
        ({"kind": "ensemble", "of": BOTH["of"], "title": "{samples} runs"}, "rows.both.title has {samples}"),
        ({**BOTH, "wiener": {"seconds": 100}}, "rows.both.wiener"),
        ({**BOTH, "w": 3}, "unknown key 'w' in separation.rows.both"),
    ],
)
def test_rows_that_cannot_be_averaged(wrong, message):
    with pytest.raises(UserError) as caught:
        configured(wrong)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
