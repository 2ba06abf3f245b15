"""What a model of latents takes, against counters in its space."""

import dataclasses

import numpy as np
import pytest
import torch

from gmsdi.models.adapters import Adapted
from gmsdi.models.codecs import Latent
from gmsdi.sampling.session import Batch
from gmsdi.study import methods, tasks
from gmsdi.study.chunks import joined
from gmsdi.study.counting import CALL, Taken
from gmsdi.study.generation import clips_of, generate
from gmsdi.study.methods import Guided
from gmsdi.study.separation import separate
from gmsdi.systems.gmsdi import Gmsdi
from tests.helpers.rows import example_of_a_method, make_row, make_task
from tests.unit.study.test_counting import ADPM2, EULER, LABELS, MULTISTEP, SIGMA, TASKS, TWICE, WINDOW

STEREO = 2


class Counted:
    """A stereo model of latents, four for every four samples, that counts what it does."""

    def __init__(self):
        self.encoded = self.decoded = 0

        def encode(audio):
            self.encoded += len(audio)
            return audio.unflatten(-1, (-1, 4)).transpose(-1, -2).flatten(1, 2)

        def decode(x):
            self.decoded += len(x)
            return x.unflatten(1, (STEREO, 4)).transpose(-1, -2).flatten(-2)

        space = Latent(encode, decode, lambda samples: (4 * STEREO, samples // 4))
        model = Adapted(lambda x, sigma, _: x / 2, window=WINDOW, sample_rate=8000, channels=STEREO, space=space)
        self.system = Gmsdi(model, LABELS, batch=Batch(CALL, fixed=True))

    def taken(self):
        return Taken(self.system.evaluations, self.encoded, self.decoded)


class Stereo:
    """Windows of stems that all sound, of several tracks."""

    def __init__(self, chunks=12):
        import pandas as pd

        self.labels, self.window, self.sample_rate, self.channels = LABELS, WINDOW, 8000, STEREO
        self.audio = np.random.default_rng(0).standard_normal((chunks, 4, STEREO, WINDOW)).astype(np.float32)
        rows = [(f"Track{k % 4}", WINDOW * (k // 4), joined(LABELS)) for k in range(chunks)]
        self.table = pd.DataFrame(rows, columns=["track", "offset", "active"])

    def stems(self, ids):
        return self.audio[list(ids)]

    def mixture(self, ids):
        return self.stems(ids).sum(axis=1)


METHODS = [
    ("extractor", {"w": 2.0, "solver": EULER, "guidance": {"interval": [0.02, 0.3]}}),
    ("extractor", {"w": 1.0, "solver": TWICE, "consistent": True, "samples": 2}),
    ("extractor", {"w": 1.0, "solver": {**EULER, "last": "estimate"}, "consistent": True}),
    ("separator", {"w": 0.0, "solver": ADPM2, "constrained": "Drums"}),
    ("projected", {"w": -1.0, "solver": MULTISTEP, "samples": 3}),
]
GUIDED = {kind: own for kind, own in TASKS.items() if own is not None}


@pytest.mark.parametrize(("kind", "settings"), METHODS)
def test_separation_takes_what_is_counted(kind, settings):
    takes_what_is_counted(make_row(kind, LABELS, **settings))


def takes_what_is_counted(row):
    for items, batch in ((7, 3), (1, 1)):
        model = Counted()
        stems = separate(row, model.system, Stereo(), range(items), seed=1, batch=batch)
        assert stems.shape == (items, 4, STEREO, WINDOW)
        assert row.taken(items, batch, coded=True) == model.taken()


def test_the_worked_example_of_a_method_is_counted():
    settings = {"w": 1.0, "solver": EULER, "samples": 2, "guidance": {"interval": [0.02, 0.3]}}
    takes_what_is_counted(example_of_a_method()(name="turns", title="Turns", system={"labels": LABELS}, **settings))


def test_every_kind_of_the_text_conditioned_model_is_counted():
    assert {kind for kind, _ in METHODS} == {kind for kind, row in methods.METHODS.items() if issubclass(row, Guided)}
    assert GUIDED.keys() == {kind for kind, task in tasks.TASKS.items() if "guidance" in task.model_fields}


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        *GUIDED.items(),
        ("total", {"gamma_x": float("inf"), "gamma_y": float("inf")}),
        ("total", {"gamma_x": SIGMA, "gamma_y": float("inf"), "consistent": True}),
    ],
)
def test_generation_takes_what_is_counted(kind, own):
    task = make_task(kind, LABELS, **own, guidance={"w": 1.0}, solver=EULER, clips=4)
    windows, model = Stereo(), Counted()
    clips = clips_of(task, windows)
    audio = generate(task, model.system, clips, seed=1, batch=3, windows=windows)
    assert audio.shape[2:] == (STEREO, WINDOW)
    assert task.taken(clips["bar"].tolist(), 3, coded=True) == model.taken()


def test_prompts_of_labels_reach_the_model():
    asked = []

    class Listening(Counted):
        def __init__(self):
            super().__init__()
            model = self.system.session.model
            heard = dataclasses.replace(model, embed=lambda texts: (asked.extend(texts), model.embed(texts))[1])
            prompts = {"Bass": "electric bass guitar", "Drums": "drum kit"}
            self.system = Gmsdi(heard, LABELS[:2], prompts, Batch(CALL))

    system = Listening().system
    from gmsdi.sampling.solver import Guidance, Solver

    own = {"solver": Solver(**EULER), "guidance": Guidance(w=1.0), "seeds": [0]}
    mixture = torch.randn(1, STEREO, WINDOW)
    stems = system.separate(mixture, constrained="Drums", negatives={"Bass": "drums, singing"}, **own)
    assert set(asked) == {"electric bass guitar", "drum kit", "drums, singing", None}
    torch.testing.assert_close(stems.sum(dim=1), mixture)
    asked.clear()
    system.accompany(mixture[:, None], ["Bass"], **own)
    assert set(asked) == {"drum kit", "electric bass guitar, drum kit", None}
