"""The paper's own system: one text-conditioned model of mixtures, prompted with the labels of stems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from gmsdi import tasks
from gmsdi.errors import UserError
from gmsdi.inference import Consistency, Gamma, Wiener
from gmsdi.models import registry
from gmsdi.models.protocol import Model
from gmsdi.presets import presets_of
from gmsdi.sampling.session import Batch, Session
from gmsdi.sampling.solver import Callback, Guidance, Solver
from gmsdi.tasks import Average, GivenNoise, TotalNoise
from gmsdi.types import Labels, Negatives, Prompt, Stem, as_prompt


class Gmsdi:
    """A text-conditioned model together with the labels of the stems to separate or generate.

    Each method is a function of `gmsdi.tasks`, named in its docstring, with the labels as stems. `solver` and
    `guidance` are those of the session, `callback` is the function's `progress`, and all other arguments are the
    function's own.

    Args:
        model: the model.
        labels: the K labels. They have to be given because a model of free text has none of its own.
        prompts: label to the text that the model is prompted with; a label that is missing here is its own prompt.
        batch: how many signals the model denoises at once.

    Attributes:
        labels: as given.
        session: the model, with the settings of its preset "best"; each method replaces them by its own.
    """

    def __init__(
        self,
        model: Model,
        labels: Sequence[str],
        prompts: Mapping[str, str] | None = None,
        batch: Batch | None = None,
    ) -> None:
        own = presets_of(model)["best"]
        self.session = Session(model, own.solver, own.guidance, batch)
        self.labels, self.prompts = list(labels), dict(prompts or {})
        self.sample_rate, self.window, self.channels = model.sample_rate, model.window, model.channels
        self.level = self.session.level

    @property
    def evaluations(self) -> int:
        """Signals that the network has denoised so far; guidance counts a signal twice."""
        return self.session.evaluations

    def separate(
        self,
        mixture: Tensor,
        *,
        constrained: int | str | None,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        average: Average | None = None,
        negatives: Negatives = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """The Separator, Eq. 13; the projected one if `constrained` is None. See `tasks.separate`."""
        if isinstance(constrained, str) and constrained in self.labels:
            constrained = self.labels.index(constrained)
        return tasks.separate(
            self.session.using(solver, guidance),
            mixture,
            self._asked(self.labels, negatives),
            seeds=seeds,
            constrained=constrained,
            average=average,
            levels=levels,
            progress=callback,
        )

    def extract(
        self,
        mixture: Tensor,
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        consistent: bool | Consistency = False,
        average: Average | None = None,
        negatives: Negatives = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """The Extractor, Eq. 14. See `tasks.extract`."""
        return tasks.extract(
            self.session.using(solver, guidance),
            mixture,
            self._asked(self.labels, negatives),
            seeds=seeds,
            consistent=consistent,
            average=average,
            levels=levels,
            progress=callback,
        )

    def sample(
        self,
        stems: Sequence[Stem],
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        callback: Callback | None = None,
    ) -> Tensor:
        """Generate single stems. See `tasks.sample`."""
        given = [as_prompt(stem) for stem in stems]
        asked = [Prompt(self.prompts.get(prompt.text, prompt.text), prompt.negative) for prompt in given]
        return tasks.sample(self.session.using(solver, guidance), asked, seeds=seeds, progress=callback)

    def generate(
        self,
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        gamma_x: Gamma | None = None,
        gamma_y: Gamma = math.inf,
        noise: TotalNoise = "independent",
        consistent: bool = False,
        groups: Sequence[Sequence[str]] | None = None,
        negatives: Negatives = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Total generation, Eq. 10 or, with `groups` of labels, Eq. 11. See `tasks.generate`."""
        return tasks.generate(
            self.session.using(solver, guidance),
            self._asked(self.labels, negatives),
            seeds=seeds,
            gamma_x=gamma_x,
            gamma_y=gamma_y,
            noise=noise,
            consistent=consistent,
            groups=None if groups is None else Labels(self.labels).indices(groups),
            progress=callback,
        )

    def generate_sequential(
        self,
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        order: Sequence[str] | None = None,
        share: float = 0.3,
        lags: int | None = 16,
        negatives: Negatives = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Total generation, stem by stem in the `order` of labels. See `tasks.generate_sequential`."""
        return tasks.generate_sequential(
            self.session.using(solver, guidance),
            self._asked(self.labels, negatives),
            seeds=seeds,
            order=None if order is None else [self.labels.index(label) for label in order],
            share=share,
            lags=lags,
            progress=callback,
        )

    def generate_extracted(
        self,
        *,
        solver: Solver,
        guidance: Guidance,
        separation_solver: Solver,
        separation_guidance: Guidance,
        seeds: Sequence[int],
        consistent: bool | Consistency = True,
        average: Average | None = None,
        wiener: Wiener | None = None,
        negatives: Negatives = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Total generation by extraction. See `tasks.generate_extracted`.

        `separation_solver` and `separation_guidance` are those of the Extractor.
        """
        return tasks.generate_extracted(
            self.session.using(solver, guidance),
            self._asked(self.labels, negatives),
            separation=self.session.using(separation_solver, separation_guidance),
            seeds=seeds,
            consistent=consistent,
            average=average,
            wiener=wiener,
            progress=callback,
        )

    def accompany(
        self,
        given: Tensor,
        given_stems: Sequence[str],
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        gamma_x: Gamma | None = None,
        gamma_y: Gamma | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        given_noise: GivenNoise = "fixed",
        negatives: Negatives = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Partial generation, Eq. 12. See `tasks.accompany`; the negatives are those of the generated stems."""
        return tasks.accompany(
            self.session.using(solver, guidance),
            given,
            self._asked(given_stems),
            self._asked(self._others(given_stems), negatives),
            seeds=seeds,
            gamma_x=gamma_x,
            gamma_y=gamma_y,
            alpha=alpha,
            beta=beta,
            given_noise=given_noise,
            levels=levels,
            progress=callback,
        )

    def accompany_conditioned(
        self,
        given: Tensor,
        given_stems: Sequence[str],
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        share: float = 0.5,
        lags: int | None = 16,
        negatives: Negatives = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Partial generation conditioned on the clean given stems. See `tasks.accompany_conditioned`."""
        return tasks.accompany_conditioned(
            self.session.using(solver, guidance),
            given,
            self._asked(given_stems),
            self._asked(self._others(given_stems), negatives),
            seeds=seeds,
            share=share,
            lags=lags,
            levels=levels,
            progress=callback,
        )

    def _asked(self, labels: Sequence[str], negatives: Negatives = None) -> list[Prompt]:
        """The prompts of labels."""
        return [Prompt(self.prompts.get(label, label), (negatives or {}).get(label)) for label in labels]

    def _others(self, given: Sequence[str]) -> list[str]:
        """The labels that are not given."""
        if unknown := [label for label in given if label not in self.labels]:
            raise UserError(f"stem {unknown[0]!r} is not one of {', '.join(self.labels)}")
        return [label for label in self.labels if label not in given]


def load_gmsdi(
    path: str | Path,
    labels: Sequence[str],
    prompts: Mapping[str, str] | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    max_batch: int = 16,
    fixed_batch: bool = False,
    seconds: float | None = None,
) -> Gmsdi:
    """Open a model by its name or folder, as `gmsdi.load` does.

    Args:
        path: see `gmsdi.load`.
        labels: see `Gmsdi`.
        prompts: see `Gmsdi`.
        device: see `gmsdi.load`.
        precision: see `gmsdi.load`.
        max_batch: the `size` of `gmsdi.sampling.session.Batch`.
        fixed_batch: see `fixed` there.
        seconds: length of the window of a diffusers pipeline; other models have their own.

    Raises:
        UserError: if there is no valid model of mixtures, or the device does not exist.
    """
    model = registry.load_for(path, seconds, device=device, precision=precision)
    return Gmsdi(model, labels, prompts, Batch(max_batch, fixed_batch))
