"""A model folder and its tasks in one object: `gmsdi.tasks` on windows and `gmsdi.song` on songs, as methods.

The `*_windows` methods take and return tensors of the model's own rate, one seed per window; `solver` and `guidance`
make the session, and all other arguments are those of the function of `gmsdi.tasks` that a method names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmsdi import level, song, tasks
from gmsdi.models import registry
from gmsdi.models.adapters import Adapted
from gmsdi.models.protocol import Waveform
from gmsdi.sampling.session import OVERLAP, Batch, Session, batched, over_windows
from gmsdi.sampling.solver import Callback, Guidance, Solver
from gmsdi.song import GENERATION, GENERATION_GUIDANCE
from gmsdi.tasks import Average, drawn_order
from gmsdi.types import Labels, Stem, Stems

__all__ = [
    "GENERATION",
    "GENERATION_GUIDANCE",
    "OVERLAP",
    "Pipeline",
    "Stem",
    "Stems",
    "batched",
    "drawn_order",
    "indices_of",
    "load",
    "over_windows",
]


def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    max_batch: int = 16,
    fixed_batch: bool = False,
) -> Pipeline:
    """Load a model folder.

    Args:
        path: a folder with `model.safetensors` and `config.json`.
        device: "auto" (CUDA if there is one), or a torch device.
        precision: of the network: "bf16", "float32", or "auto", which is bf16 where the hardware is faster at it.
        max_batch: see `Pipeline`.
        fixed_batch: see `Pipeline`.

    Raises:
        UserError: if the folder holds no sound model of mixtures, or the device does not exist.
    """
    model = registry.open_folder(path, device=device, precision=precision)
    return Pipeline(model, model.config, device=model.device, max_batch=max_batch, fixed_batch=fixed_batch)


class Pipeline:
    """A text-conditioned model and everything that can be asked of it.

    Attributes:
        sample_rate: the model's, in Hz.
        window: its length in samples.
        channels: its audio channels.
        labels: stem labels that it was trained with, in their order; empty for a model of free text.
        level: of the mixtures that it was trained on, in dB relative to full scale, see `gmsdi.level`.
        evaluations: signals that the network has denoised so far; guidance counts a signal twice.

    Args:
        denoiser: `D(x [N, C, T], sigma [N], cond)` with `encode(texts)`.
        config: `sample_rate`, `window`, `labels`, and optionally `level` and `unet.in_channels`.
        device: where the denoiser is.
        max_batch: see `gmsdi.sampling.session.Batch`.
        fixed_batch: see there.
    """

    def __init__(
        self,
        denoiser: Any,
        config: Mapping[str, Any],
        *,
        device: str | torch.device = "cpu",
        max_batch: int = 16,
        fixed_batch: bool = False,
    ) -> None:
        channels = config.get("unet", {}).get("in_channels", 1)
        self.denoiser, self.config, self.device = denoiser, config, torch.device(device)
        self.model = Adapted(
            denoiser,
            denoiser.encode,
            sample_rate=config["sample_rate"],
            window=config["window"],
            channels=channels,
            labels=tuple(config.get("labels") or ()),
            space=Waveform(channels),
            level=level.known_level(config),
            presets=config.get("presets"),
            device=self.device,
        )
        self.session = Session(self.model, GENERATION, batch=Batch(max_batch, fixed_batch))
        self.max_batch, self.fixed_batch = max_batch, fixed_batch
        self.sample_rate, self.window, self.channels = self.model.sample_rate, self.model.window, channels
        self.labels, self.level = list(self.model.labels), self.model.level

    @property
    def evaluations(self) -> int:
        """See the class."""
        return self.session.evaluations

    def separate_windows(
        self, mixture: Tensor, stems: Sequence[Stem], *, solver: Solver, guidance: Guidance, **settings: Any
    ) -> Tensor:
        """`tasks.separate`; `samples` and `inverted` are those of `tasks.Average`."""
        return tasks.separate(self.session.using(solver, guidance), mixture, stems, **_averaged(settings))

    def extract_windows(
        self, mixture: Tensor, stems: Sequence[Stem], *, solver: Solver, guidance: Guidance, **settings: Any
    ) -> Tensor:
        """`tasks.extract`; `samples` and `inverted` are those of `tasks.Average`."""
        return tasks.extract(self.session.using(solver, guidance), mixture, stems, **_averaged(settings))

    def sample_windows(self, prompts: Sequence[Stem], *, solver: Solver, guidance: Guidance, **settings: Any) -> Tensor:
        """`tasks.sample`."""
        return tasks.sample(self.session.using(solver, guidance), prompts, **_named(settings))

    def generate_windows(
        self, stems: Sequence[Stem], *, solver: Solver, guidance: Guidance, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        """`tasks.generate`."""
        return tasks.generate(self.session.using(solver, guidance), stems, **_named(settings))

    def generate_sequential_windows(
        self, stems: Sequence[Stem], *, solver: Solver, guidance: Guidance, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        """`tasks.generate_sequential`."""
        return tasks.generate_sequential(self.session.using(solver, guidance), stems, **_named(settings))

    def generate_extracted_windows(
        self,
        stems: Sequence[Stem],
        *,
        solver: Solver,
        guidance: Guidance,
        separation_solver: Solver,
        separation_guidance: Guidance,
        **settings: Any,
    ) -> tuple[Tensor, Tensor]:
        """`tasks.generate_extracted`; `samples` is that of `tasks.Average`."""
        separation = self.session.using(separation_solver, separation_guidance)
        session = self.session.using(solver, guidance)
        return tasks.generate_extracted(session, stems, separation=separation, **_averaged(settings))

    def accompany_windows(
        self,
        given: Tensor,
        given_stems: Sequence[Stem],
        stems: Sequence[Stem],
        *,
        solver: Solver,
        guidance: Guidance,
        **settings: Any,
    ) -> tuple[Tensor, Tensor]:
        """`tasks.accompany`."""
        return tasks.accompany(self.session.using(solver, guidance), given, given_stems, stems, **_named(settings))

    def accompany_conditioned_windows(
        self,
        given: Tensor,
        given_stems: Sequence[Stem],
        stems: Sequence[Stem],
        *,
        solver: Solver,
        guidance: Guidance,
        **settings: Any,
    ) -> tuple[Tensor, Tensor]:
        """`tasks.accompany_conditioned`."""
        session = self.session.using(solver, guidance)
        return tasks.accompany_conditioned(session, given, given_stems, stems, **_named(settings))

    def separate(self, source: song.AnySource, stems: Sequence[str] | None = None, **settings: Any) -> Stems:
        """`song.separate`; `samples` is the number of runs of `tasks.Average`."""
        return song.separate(self.session, source, stems, **_averaged(settings))

    def extract(self, source: song.AnySource, stems: Sequence[str] | None = None, **settings: Any) -> Stems:
        """`song.extract`; `samples` is the number of runs of `tasks.Average`."""
        return song.extract(self.session, source, stems, **_averaged(settings))

    def generate(self, stems: Sequence[str] | None = None, **settings: Any) -> Stems:
        """`song.generate`."""
        return song.generate(self.session, stems, **_named(settings))

    def accompany(
        self, given: Mapping[str, song.AnySource], stems: Sequence[str] | None = None, **settings: Any
    ) -> Stems:
        """`song.accompany`."""
        return song.accompany(self.session, given, stems, **_named(settings))


def indices_of(groups: Sequence[Sequence[str]], labels: Sequence[str]) -> list[list[int]]:
    """See `gmsdi.types.Labels.indices`."""
    return Labels(labels).indices(groups)


def _named(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with today's name of the callback."""
    callback: Callback | None = settings.pop("callback", None)
    return {**settings, "progress": callback}


def _averaged(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with `samples` and `inverted` as one object, if one of them is given."""
    if not settings.keys() & {"samples", "inverted"}:
        return _named(settings)
    average = Average(settings.pop("samples", 1), settings.pop("inverted", False))
    return {**_named(settings), "average": average}
