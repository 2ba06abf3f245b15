"""The paper's own system: one text-conditioned model of mixtures, prompted with the labels of stems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.pipeline import Pipeline, Stem, indices_of, load
from gmsdi.sampling.guidance import Prompt
from gmsdi.sampling.solver import Callback
from gmsdi.types import as_prompt


class Gmsdi:
    """A text-conditioned model together with the labels of the stems to separate or generate.

    The `options` of each method (`solver`, `guidance`, `negatives`, …) are passed on to the `Pipeline` method that its
    docstring names.

    Args:
        pipeline: the model.
        labels: the K labels. They have to be given because a model of free text has none of its own.
        prompts: label to the text that the model is prompted with; of a label that is not here it is the label.

    Attributes:
        labels: as given.
    """

    def __init__(self, pipeline: Pipeline, labels: Sequence[str], prompts: Mapping[str, str] | None = None) -> None:
        self.pipeline = pipeline
        self.labels, self.prompts = list(labels), dict(prompts or {})
        self.channels = pipeline.channels
        self.sample_rate, self.window, self.level = pipeline.sample_rate, pipeline.window, pipeline.level

    @property
    def evaluations(self) -> int:
        """Signals that the network has denoised so far; guidance counts a signal twice."""
        return self.pipeline.evaluations

    def separate(
        self,
        mixture: Tensor,
        *,
        constrained: int | str | None,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> Tensor:
        """The Separator, Eq. 13; the projected one if `constrained` is None. See `Pipeline.separate_windows`."""
        if isinstance(constrained, str) and constrained in self.labels:
            constrained = self.labels.index(constrained)
        own: dict[str, Any] = {"constrained": constrained, "seeds": seeds, "levels": levels, "callback": callback}
        return self.pipeline.separate_windows(mixture, self._asked(self.labels, options), **own, **options)

    def extract(
        self,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> Tensor:
        """The Extractor, Eq. 14. See `Pipeline.extract_windows`."""
        own: dict[str, Any] = {"seeds": seeds, "levels": levels, "callback": callback}
        return self.pipeline.extract_windows(mixture, self._asked(self.labels, options), **own, **options)

    def sample(
        self, stems: Sequence[Stem], *, seeds: Sequence[int], callback: Callback | None = None, **options: Any
    ) -> Tensor:
        """Generate single stems. See `Pipeline.sample_windows`."""
        given = [as_prompt(stem) for stem in stems]
        asked = [Prompt(self.prompts.get(prompt.text, prompt.text), prompt.negative) for prompt in given]
        return self.pipeline.sample_windows(asked, seeds=seeds, callback=callback, **options)

    def generate(
        self,
        *,
        groups: Sequence[Sequence[str]] | None = None,
        seeds: Sequence[int],
        callback: Callback | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Total generation, Eq. 10 or, with `groups` of labels, Eq. 11. See `Pipeline.generate_windows`."""
        places = None if groups is None else indices_of(groups, self.labels)
        asked = self._asked(self.labels, options)
        return self.pipeline.generate_windows(asked, groups=places, seeds=seeds, callback=callback, **options)

    def generate_sequential(
        self,
        *,
        order: Sequence[str] | None = None,
        seeds: Sequence[int],
        callback: Callback | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Total generation, stem by stem in the `order` of labels. See `Pipeline.generate_sequential_windows`."""
        own: dict[str, Any] = {"seeds": seeds, "callback": callback}
        own["order"] = None if order is None else [self.labels.index(label) for label in order]
        return self.pipeline.generate_sequential_windows(self._asked(self.labels, options), **own, **options)

    def generate_extracted(
        self, *, seeds: Sequence[int], callback: Callback | None = None, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Total generation by extraction. See `Pipeline.generate_extracted_windows`."""
        asked = self._asked(self.labels, options)
        return self.pipeline.generate_extracted_windows(asked, seeds=seeds, callback=callback, **options)

    def accompany(
        self,
        given: Tensor,
        given_stems: Sequence[str],
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Partial generation, Eq. 12. See `Pipeline.accompany_windows`."""
        own: dict[str, Any] = {"seeds": seeds, "levels": levels, "callback": callback}
        others = self._asked(self._others(given_stems), options)
        return self.pipeline.accompany_windows(given, self._asked(given_stems), others, **own, **options)

    def accompany_conditioned(
        self,
        given: Tensor,
        given_stems: Sequence[str],
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Partial generation conditioned on the clean given stems. See `Pipeline.accompany_conditioned_windows`."""
        own: dict[str, Any] = {"seeds": seeds, "levels": levels, "callback": callback}
        others, known = self._asked(self._others(given_stems), options), self._asked(given_stems)
        return self.pipeline.accompany_conditioned_windows(given, known, others, **own, **options)

    def _asked(self, labels: Sequence[str], options: dict[str, Any] | None = None) -> list[Prompt]:
        """What the model is prompted with for labels; their negatives are taken out of the options."""
        negatives = (options or {}).pop("negatives", None) or {}
        return [Prompt(self.prompts.get(label, label), negatives.get(label)) for label in labels]

    def _others(self, given: Sequence[str]) -> list[str]:
        """The labels that are not given."""
        if unknown := [label for label in given if label not in self.labels]:
            raise UserError(f"stem {unknown[0]!r} is not one of {', '.join(self.labels)}")
        return [label for label in self.labels if label not in given]


def load_gmsdi(
    path: str | Path, labels: Sequence[str], prompts: Mapping[str, str] | None = None, **options: Any
) -> Gmsdi:
    """Load a model folder, or a pipeline of diffusers.

    Args:
        path: see `gmsdi.pipeline.load`.
        labels: see `Gmsdi`.
        prompts: see `Gmsdi`.
        options: see `gmsdi.pipeline.load`.

    Raises:
        UserError: see `gmsdi.pipeline.load`.
    """
    return Gmsdi(load(path, **options), labels, prompts)
