"""What the systems of the paper have in common: one signature for each thing that several of them do.

A system is one or several networks and what is done with them, on windows: tensors of the system's own rate and length,
with one seed per item, so that an item's result depends on nothing but itself. Systems do not all do the same: each
protocol below is one ability. Beyond the arguments that a protocol names, a system's method takes those of its own
procedure (how it integrates, which stem is constrained, …) by keyword.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from gmsdi.sampling.solver import Callback


@runtime_checkable
class System(Protocol):
    """What every system has.

    Attributes:
        labels: of the K stems, in the order of its results.
        sample_rate: in Hz.
        window: T, in samples.
        level: of the mixtures that it was trained on, in dB relative to full scale (`gmsdi.level`); None leaves signals
            as they are.
        evaluations: signals that its networks have denoised or separated so far; guidance counts a signal twice.
    """

    labels: list[str]
    sample_rate: int
    window: int
    level: float | None

    @property
    def evaluations(self) -> int:
        """See above; a counter that only grows."""


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
            levels: of the piece that each item is from, in dB relative to full scale; None measures each by itself.
            callback: called with (step, steps).
            procedure: what the system takes beside.

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
            procedure: what the system takes beside.

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
            seeds: one per item; their number is the batch size B.
            callback: called with (step, steps).
            procedure: what the system takes beside.

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
        """Generate the other stems, to go with the given ones.

        Args:
            given: `[B, I, C, T]`.
            given_stems: the I labels.
            seeds: one per item.
            levels: of the mixture that each item's stems are part of, in dB relative to full scale; None infers it from
                the given ones.
            callback: called with (step, steps).
            procedure: what the system takes beside.

        Returns:
            The K − I other stems in the order of the labels, `[B, K − I, C, T]`, and the mixture of all `[B, C, T]`,
            float32 on the CPU.
        """
