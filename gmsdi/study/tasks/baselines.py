"""The tasks of the paper's other systems: MSDM and weakly supervised MSDM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from gmsdi.study.chunks import ALL
from gmsdi.study.counting import CALL, Taken, batch_sizes, evaluation_sigmas, filled
from gmsdi.study.setups import MsdmSetup, WeakMsdmSetup
from gmsdi.study.tasks.base import Accompanied, Alone, Clips, Task, with_mixture

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from gmsdi.systems.msdm import JointMSDM
    from gmsdi.systems.weak_msdm import WeakMSDM


class SingleWeakMsdm(Alone):
    """Single stems by weakly supervised MSDM."""

    SERIES: ClassVar[str] = "weakly supervised MSDM"
    by_bar: ClassVar[bool] = True  # each label has its own network; so its calls are full

    kind: Literal["single_weak_msdm"] = "single_weak_msdm"
    system: WeakMsdmSetup

    def generate(self, system: WeakMSDM, clips: Clips) -> np.ndarray:
        """See `Task.generate`."""
        return (
            system.sample(clips.bars, solver=self._solver(), seeds=clips.seeds, callback=clips.callback)
            .unsqueeze(1)
            .numpy()
        )

    def taken_of(self, bars: Sequence[str], *, coded: bool = False) -> Taken:
        """See `Task.taken_of`; each label has its own network and therefore its own calls."""
        return Taken(len(evaluation_sigmas(self.solver)) * sum(filled(count) for count in Counter(bars).values()))


class TotalMsdm(Task):
    """Total generation by MSDM, Eq. 3."""

    FAMILY: ClassVar[str] = "total"
    PLACE: ClassVar[int] = 3
    SERIES: ClassVar[str] = "MSDM"

    kind: Literal["total_msdm"] = "total_msdm"
    system: MsdmSetup

    def bars(self) -> list[str]:
        """See `Task.bars`."""
        return [ALL]

    def generate(self, system: JointMSDM, clips: Clips) -> np.ndarray:
        """See `Task.generate`."""
        return with_mixture(*system.generate(solver=self._solver(), seeds=clips.seeds, callback=clips.callback))

    def taken_of(self, bars: Sequence[str], *, coded: bool = False) -> Taken:
        """See `Task.taken_of`; the K stems count as one signal."""
        return Taken(len(evaluation_sigmas(self.solver)) * filled(len(bars)))


class PartialMsdm(Accompanied):
    """Partial generation by MSDM, by imputation.

    Attributes:
        best_of: number of candidates, of which the loudest is kept (see `JointMSDM.accompany`).
    """

    PLACE: ClassVar[int] = 3
    SERIES: ClassVar[str] = "MSDM"

    kind: Literal["partial_msdm"] = "partial_msdm"
    system: MsdmSetup
    best_of: int

    def accompany(self, system: JointMSDM, clips: Clips) -> tuple[Tensor, Tensor]:
        """See `Accompanied.accompany`."""
        return system.accompany(**clips.accompanied(), solver=self._solver(), best_of=self.best_of)

    def taken_of(self, bars: Sequence[str], *, coded: bool = False) -> Taken:
        """See `Task.taken_of`; as many candidates are drawn at a time as fit in a call."""
        items = len(bars)
        drawn = batch_sizes(self.best_of, max(1, CALL // items))
        return Taken(len(evaluation_sigmas(self.solver)) * sum(filled(count * items) for count in drawn))
