"""The words of the house: prompts, the labels of a model, the stems of a result. Nothing here needs torch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gmsdi.errors import UserError

if TYPE_CHECKING:
    from gmsdi.io.audio import Samples

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (step, steps) after each step of a run."""
Negatives: TypeAlias = Mapping[str, str] | None
"""Label to negative text."""


@dataclass(frozen=True)
class Prompt:
    """What a signal should sound like.

    Attributes:
        text: the description, for instance "Bass, Drums".
        negative: what guidance leads away from; None is the learned unconditional embedding z*.
    """

    text: str
    negative: str | None = None


Stem: TypeAlias = str | Prompt


def as_prompt(prompt: Stem) -> Prompt:
    """The prompt itself, or one with that text and no negative text."""
    return prompt if isinstance(prompt, Prompt) else Prompt(prompt)


def join(prompts: Sequence[Stem]) -> Prompt:
    """⊗ of the paper's Section 3: the texts joined by ", ".

    The negative of a joint prompt is z*: the paper names negatives for single stems only, and a stem's negative ("Bass"
    for Drums) may be part of the joint text.
    """
    return Prompt(", ".join(as_prompt(prompt).text for prompt in prompts))


class Labels(tuple[str, ...]):
    """The stem labels that a model was trained with, in their order; none for a model of free text."""

    def chosen(self, stems: Sequence[str] | None, at_least: int = 2) -> list[str]:
        """The stems of a task, all labels for None.

        Raises:
            UserError: if there are too few, or one is named twice.
        """
        names = list(self) if stems is None else self.spelled(stems)
        if not names and stems is None:
            raise UserError("the model takes any text and has no stems of its own; name the stems")
        if len(names) < at_least:
            raise UserError(f"{len(names)} stems named, but at least {at_least} needed")
        if len(set(names)) < len(names):
            raise UserError(f"stems {', '.join(names)}: each can be named once")
        return names

    def others(self, given: Iterable[str]) -> list[str]:
        """The labels that are not given.

        Raises:
            UserError: if all of them are.
        """
        found = [label for label in self if label not in set(given)]
        if self and not found:
            raise UserError(f"all stems that the model knows are given, {', '.join(self)}; name those to generate")
        return found

    def spelled(self, stems: str | Iterable[str]) -> list[str]:
        """Labels as the model writes them, whatever their case; other texts as they are.

        A single text is a list that commas part: "bass, drums" is two stems.

        Raises:
            UserError: if one is empty, or no text.
        """
        own = {label.lower(): label for label in self}
        if not isinstance(stems, Iterable):
            raise UserError(f"stems are {stems!r}; they must be labels such as 'Bass'")
        names = stems.split(",") if isinstance(stems, str) else list(stems)
        for name in names:
            if not isinstance(name, str) or not name.strip():
                raise UserError(f"a stem is {name!r}; it must be a label such as 'Bass'")
        return [own.get(name.strip().lower(), name.strip()) for name in names]

    def negatives(self, negatives: Negatives, stems: Iterable[str]) -> dict[str, str]:
        """Negative texts by label, as the model writes it.

        Raises:
            UserError: if one is for none of these stems, or a stem has two.
        """
        if not isinstance(negatives or {}, Mapping) or not all(isinstance(x, str) for x in (negatives or {}).values()):
            raise UserError(f"negatives are {negatives!r}; they must be a mapping of labels to texts")
        found = dict(zip(self.spelled(negatives or {}), (negatives or {}).values(), strict=True))
        if len(found) < len(negatives or {}):
            raise UserError(f"negative texts for {', '.join(negatives or {})}: a stem is named twice; give each one")
        if unknown := [label for label in found if label not in set(stems)]:
            raise UserError(f"negative text for {unknown[0]!r}, which is none of the stems {', '.join(stems)}")
        return found

    def prompts(self, stems: Sequence[Stem], negatives: Negatives = None) -> list[Prompt]:
        """Prompts with their negatives; warns of texts that a model of labels has never seen."""
        prompts = [as_prompt(stem) for stem in stems]
        if negatives:
            prompts = [
                Prompt(prompt.text, negatives.get(prompt.text)) if prompt.negative is None else prompt
                for prompt in prompts
            ]
        texts = [text for prompt in prompts for text in (prompt.text, prompt.negative) if text is not None]
        unknown = dict.fromkeys(part for text in texts for part in text.split(", ") if part not in self)
        if self and unknown:
            warnings.warn(
                f"the model was not trained with {', '.join(map(repr, unknown))}; it knows {', '.join(self)}",
                stacklevel=3,
            )
        return prompts

    def join(self, prompts: Sequence[Stem]) -> Prompt:
        """⊗ as in training: a model of labels has seen each label once and in its own order."""
        joint = join(prompts)
        parts = set(joint.text.split(", "))
        return Prompt(", ".join(x for x in self if x in parts)) if parts <= set(self) else joint

    def indices(self, groups: Sequence[Sequence[str]]) -> list[list[int]]:
        """Groups of labels as indices.

        Raises:
            UserError: if they do not have every label once.
        """
        if sorted(label for group in groups for label in group) != sorted(self) or not all(groups):
            named = "; ".join(", ".join(group) for group in groups)
            raise UserError(f"groups {named} do not have each of {', '.join(self)} once")
        return [[self.index(label) for label in group] for group in groups]


@dataclass(frozen=True)
class Stems:
    """The result of a task on audio of any length.

    Attributes:
        parts: label to float32 `[C, T]`.
        mixture: `[C, T]`, what they belong to: the separated mixture, the sum of the generated stems, or the sum of
            given and generated stems.
        sample_rate: in Hz.
    """

    parts: dict[str, Samples]
    mixture: Samples
    sample_rate: int

    @property
    def stems(self) -> dict[str, Samples]:
        """The parts."""
        return self.parts

    @property
    def residual(self) -> Samples:
        """What the parts leave of the mixture, `[C, T]`: of an accompaniment the given stems."""
        return self.mixture - total_of(self.parts.values())

    def save(
        self,
        folder: str | Path,
        *,
        format: str = "flac",
        bits: str | None = None,
        mixture: bool = False,
        residual: bool = False,
    ) -> list[Path]:
        """Write one file per part, named after its label.

        Args:
            folder: where to.
            format: "flac", "wav" or "mp3".
            bits: "16", "24" or "float"; None is 16 of a FLAC and float of a WAV.
            mixture: write the mixture, too.
            residual: write what the parts leave of it, too.

        Returns:
            The files.

        Raises:
            UserError: for another format, or one that cannot hold the audio; if the parts' labels cannot name files
                (`file_names`), or the folder cannot be written to.
        """
        from gmsdi.io.audio import Audio, Encoding, write_all

        encoding = Encoding(format, bits)
        signals = {"mixture": self.mixture} if mixture else {}
        if residual:
            signals["residual"] = self.residual
        names = file_names([*self.parts, *signals])
        files = {
            Path(folder) / f"{names[label]}.{format}": Audio(samples, self.sample_rate)
            for label, samples in [*self.parts.items(), *signals.items()]
        }
        return write_all(files, encoding)


def file_names(labels: Iterable[str]) -> dict[str, str]:
    """Labels as the names of files: "Bass, Drums" becomes bass_drums.

    Raises:
        UserError: if nothing is left of one, or two become the same.
    """
    found: dict[str, str] = {}
    for label in labels:
        name = re.sub(r"[^\w-]+", "_", label).strip("_").lower()
        if not name:
            raise UserError(f"stem {label!r} has no letter or digit to name a file by; call it otherwise")
        for other, taken in found.items():
            if taken == name:
                raise UserError(f"stems {other!r} and {label!r} would both be written to {name}; call one otherwise")
        found[label] = name
    return found


def total_of(parts: Iterable[Samples]) -> Samples:
    """The sum of signals `[C, T]`; one channel counts for all."""
    import numpy as np

    return np.sum(np.broadcast_arrays(*parts), axis=0, dtype=np.float32)
