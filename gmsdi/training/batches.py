"""Batches of training windows: crops, their augmentation, dropped prompts, noise levels and noise.

Everything random in a step is a function of (seed, step, item) alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from gmsdi.data.windows import WindowSet
from gmsdi.errors import UserError
from gmsdi.models.checkpoint import MIXTURE, STEMS
from gmsdi.models.clap.windows import WindowEmbeddings
from gmsdi.models.edm.text import prompt_of
from gmsdi.models.trainable import DRAWS
from gmsdi.training.config import TrainingConfig


class Batches(IterableDataset[dict[str, Any]]):
    """An endless sequence of the batches, of which this device gets its items, starting at step `start()`.

    `start` is a function because Lightning makes a new iterator in every epoch (an epoch lasts from one validation to
    the next). In each of n worker processes of a data loader, which takes their batches in turn, it has every n-th one.
    Each batch has

    - `clean` and `noise` `[n, C, T]`: the signals of the target (see `models.checkpoint.target_of`), with one gain and
      sign for all stems of a window; stems that do not sound are as in the data set, mostly zeros;
    - `sigma` `[n]`;
    - `texts`: n prompts, the labels that sound in the window, or the label of a single-stem target; empty for mixtures
      without labels; None is z*;
    - `draws` `[n, DRAWS]`: uniform numbers in [0, 1) for the model's own choices.

    With `embeddings`, labels are not used. Windows are drawn uniformly from those that have been embedded (before gain
    and sign are applied), and instead of `texts` a batch has

    - `embeddings` `[n, D]`: E(y) of each window;
    - `dropped` `[n]`: whether z* replaces it.

    Raises:
        UserError: if the windows lack stems or labels that the target needs, there are embeddings but the target is not
            the mixture, or the batch cannot be divided among the devices.
    """

    def __init__(
        self,
        windows: WindowSet,
        config: TrainingConfig,
        seed: int,
        *,
        target: str = MIXTURE,
        embeddings: WindowEmbeddings | None = None,
        rank: int = 0,
        world: int = 1,
        start: Callable[[], int] = lambda: 0,
    ) -> None:
        if target != MIXTURE and embeddings is not None:
            raise UserError(f"a model of target {target!r} cannot be trained on embeddings of mixtures; use its labels")
        if target != MIXTURE and not windows.has_stems:
            raise UserError(
                f"{windows.folder}: was built without stems, but a model of target {target!r} is trained on them; "
                "rebuild the windows with stems=True"
            )
        if target not in (MIXTURE, STEMS, *windows.labels):
            raise UserError(f"{windows.folder}: has no label {target!r}, only {', '.join(windows.labels)}")
        if config.batch % world:
            raise UserError(f"training.batch is {config.batch}, not a multiple of the {world} devices; change it")
        self.windows, self.config, self.seed, self.target = windows, config, seed, target
        self.embeddings = embeddings
        self.rank, self.world, self.start = rank, world, start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        step = self.start() + first
        while True:
            yield self.batch(step)
            step += stride

    def batch(self, step: int) -> dict[str, Any]:
        """This device's items of the global batch of a step."""
        items = [self._item(step, i) for i in range(self.rank, self.config.batch, self.world)]
        clean, noise, sigma, given, dropped, draws = zip(*items, strict=True)
        batch = {
            "clean": torch.from_numpy(np.stack(clean)),
            "noise": torch.from_numpy(np.stack(noise)),
            "sigma": torch.tensor(sigma, dtype=torch.float32),
            "draws": torch.from_numpy(np.stack(draws)),
        }
        if self.embeddings is None:
            texts = [None if absent else text for text, absent in zip(given, dropped, strict=True)]
            return {**batch, "texts": texts}
        return {**batch, "embeddings": torch.from_numpy(np.stack(given)), "dropped": torch.tensor(dropped)}

    def _item(self, step: int, item: int) -> tuple[np.ndarray, np.ndarray, float, str | np.ndarray, bool, np.ndarray]:
        rng, c = np.random.default_rng([self.seed, step, item]), self.config
        signals, given = self._crop(rng)
        gain = 10 ** (rng.uniform(-c.gain_db, c.gain_db) / 20)
        sign = rng.choice([-1.0, 1.0]) if c.polarity else 1.0
        sigma = math.exp(c.p_mean + c.p_std * rng.standard_normal())
        dropped = rng.random() < c.p_drop
        noise = rng.standard_normal(signals.shape, dtype=np.float32)
        draws = rng.random(DRAWS, dtype=np.float32)
        if c.p_extra is not None and rng.random() < c.p_extra["share"]:
            sigma = math.exp(rng.uniform(math.log(c.p_extra["low"]), math.log(c.p_extra["high"])))
        return signals * np.float32(gain * sign), noise, sigma, given, dropped, draws

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, str | np.ndarray]:
        """The target's signals in a random window, `[C, T]`, and their prompt or embedding."""
        if self.embeddings is not None:
            row = int(rng.integers(len(self.embeddings)))
            return self.windows.mixture_at([self.embeddings.starts[row]])[0], self.embeddings[row]
        if self.target == MIXTURE:
            mixtures, labels = self.windows.random_crops(rng, 1)
            return mixtures[0], prompt_of(labels[0])
        if self.target == STEMS:
            stems, labels = self.windows.random_stem_crops(rng, 1)
            return stems[0, :, 0], prompt_of(labels[0])
        sounding = None if rng.random() < self.config.p_any else self.target
        stems, _ = self.windows.random_stem_crops(rng, 1, sounding)
        return stems[0, self.windows.labels.index(self.target)], self.target
