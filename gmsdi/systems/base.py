"""What the systems of the paper have in common: one signature for each ability that several of them share.

A system is one or more networks and the procedures that use them. It works on windows: tensors at the system's own rate
and length, with one seed per item, so that an item's result does not depend on the other items. Systems differ in what
they can do; each protocol below is one ability. Besides the arguments that a protocol names, a system's method takes
those of its own procedure (how it integrates, which stem is constrained, …) by keyword.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from gmsdi.sampling.solver import Callback


@runtime_checkable
class System(Protocol):
    """The attributes of every system.

    Attributes:
        labels: the labels of the K stems, in the order of the results.
        sample_rate: in Hz.
        window: T, in samples.
        channels: C, of its signals.
        level: the level of the training mixtures in dB relative to full scale (`gmsdi.level`); None leaves signals as
            they are.
        evaluations: signals that its networks have denoised or separated so far; guidance counts a signal twice.
    """

    labels: list[str]
    sample_rate: int
    window: int
    channels: int
    level: float | None

    @property
    def evaluations(self) -> int:
        """Signals that the networks have denoised or separated so far; this counter only grows."""


class Separate(Protocol):
    """Separation: `separate` of every system, and `Gmsdi.extract` and `JointMSDM.separate_gaussian`."""

    def __call__(
        self,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
        **procedure: Any,
    ) -> Tensor:
        """Separate mixtures.

        Args:
            mixture: `[B, C, T]`.
            seeds: one per item.
            levels: the level of the song that each item is from, in dB relative to full scale; None measures each item
                on its own.
            callback: called with (step, steps).
            procedure: further arguments of the system.

        Returns:
            The stems `[B, K, C, T]` in the order of the labels, float32 on the CPU.
        """


class Sample(Protocol):
    """Generation of single stems: `sample` of GMSDI and weakly supervised MSDM."""

    def __call__(
        self, stems: Sequence[Any], *, seeds: Sequence[int], callback: Callback | None = None, **procedure: Any
    ) -> Tensor:
        """Generate single stems, as loud as in training.

        Args:
            stems: one per item.
            seeds: one per item.
            callback: called with (step, steps).
            procedure: further arguments of the system.

        Returns:
            `[B, C, T]`, float32 on the CPU.
        """


class Generate(Protocol):
    """Total generation: `generate` of GMSDI and MSDM, and `Gmsdi.generate_sequential` and `generate_extracted`."""

    def __call__(
        self, *, seeds: Sequence[int], callback: Callback | None = None, **procedure: Any
    ) -> tuple[Tensor, Tensor]:
        """Generate all stems together, as loud as in training.

        Args:
            seeds: one per item, so B in all.
            callback: called with (step, steps).
            procedure: further arguments of the system.

        Returns:
            The stems `[B, K, C, T]` and the mixture `[B, C, T]`, float32 on the CPU.
        """


class Accompany(Protocol):
    """Partial generation: `accompany` of GMSDI and MSDM, and `Gmsdi.accompany_conditioned`."""

    def __call__(
        self,
        given: Tensor,
        given_stems: Sequence[str],
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
        **procedure: Any,
    ) -> tuple[Tensor, Tensor]:
        """Generate the other stems, to accompany the given ones.

        Args:
            given: `[B, I, C, T]`.
            given_stems: the I labels.
            seeds: one per item.
            levels: the level of the mixture that each item's stems are part of, in dB relative to full scale; None
                derives it from the given stems.
            callback: called with (step, steps).
            procedure: further arguments of the system.

        Returns:
            The K − I other stems in the order of the labels, `[B, K − I, C, T]`, and the mixture of all stems,
            `[B, C, T]`, float32 on the CPU.
        """
