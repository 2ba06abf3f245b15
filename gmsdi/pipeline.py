"""A model folder and its tasks in one object, with `gmsdi.tasks` (windows) and `gmsdi.song` (songs) as methods.

The `*_windows` methods take and return tensors at the model's own rate, with one seed per window. `solver` and
`guidance` define the session; all other arguments are those of the `gmsdi.tasks` function that a method names.
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
from gmsdi.models.described import is_pipeline
from gmsdi.models.protocol import Waveform
from gmsdi.sampling.session import Batch, Session, batched, over_windows
from gmsdi.sampling.solver import Callback, Guidance, Solver
from gmsdi.sampling.windows import OVERLAP
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
    seconds: float | None = None,
) -> Pipeline:
    """Load a model folder, or a pipeline of diffusers.

    Args:
        path: a folder with `model.safetensors` and `config.json`, that of a pipeline, or a repository on the hub with
            one of them.
        device: "auto" (CUDA if there is one), or a torch device.
        precision: the network's: "bf16", "float32", or "auto", which is bf16 where the hardware is faster with it.
        max_batch: see `Pipeline`.
        fixed_batch: see `Pipeline`.
        seconds: the window of a pipeline of diffusers, see `gmsdi.load`; model folders have their own.

    Raises:
        UserError: if the folder does not hold a valid model of mixtures, or the device does not exist.
    """
    folder = registry.folder_of(path)
    batch: dict[str, Any] = {"max_batch": max_batch, "fixed_batch": fixed_batch}
    if is_pipeline(folder):
        own: Any = registry.load(path, device=device, precision=precision, seconds=seconds)
        known = {"sample_rate": own.sample_rate, "window": own.window}
        return Pipeline(own, known, device=own.device, **batch)
    model = registry.open_folder(folder, device=device, precision=precision)
    return Pipeline(model, model.config, device=model.device, **batch)


class Pipeline:
    """A text-conditioned model and all tasks it can do.

    Attributes:
        sample_rate: the model's sample rate in Hz.
        window: the model's window in samples.
        channels: number of audio channels.
        labels: the stem labels that the model was trained with, in order; empty for a model of free text.
        level: the level of its training mixtures in dB relative to full scale, see `gmsdi.level`.
        evaluations: number of signals that the network has denoised so far; guidance counts a signal twice.

    Args:
        denoiser: `D(x [N, ...], sigma [N], cond)` with `encode(texts)` or `embed(texts)`, and with `channels` and
            `space` if it is not of waveforms.
        config: `sample_rate`, `window`, `labels`, and optionally `level` and `unet.in_channels`.
        device: the denoiser's device.
        max_batch: see `gmsdi.sampling.session.Batch`.
        fixed_batch: see `gmsdi.sampling.session.Batch`.
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
        channels = getattr(denoiser, "channels", config.get("unet", {}).get("in_channels", 1))
        self.denoiser, self.config, self.device = denoiser, config, torch.device(device)
        self.model = Adapted(
            denoiser,
            getattr(denoiser, "encode", None) or denoiser.embed,
            sample_rate=config["sample_rate"],
            window=config["window"],
            channels=channels,
            labels=tuple(config.get("labels") or ()),
            space=getattr(denoiser, "space", None) or Waveform(channels),
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
        """Number of signals that the network has denoised so far; guidance counts a signal twice."""
        return self.session.evaluations

    def separate_windows(
        self, mixture: Tensor, stems: Sequence[Stem], *, solver: Solver, guidance: Guidance, **settings: Any
    ) -> Tensor:
        """Call `tasks.separate`; `samples` and `inverted` are those of `tasks.Average`."""
        return tasks.separate(self.session.using(solver, guidance), mixture, stems, **_averaged(settings))

    def extract_windows(
        self, mixture: Tensor, stems: Sequence[Stem], *, solver: Solver, guidance: Guidance, **settings: Any
    ) -> Tensor:
        """Call `tasks.extract`; `samples` and `inverted` are those of `tasks.Average`."""
        return tasks.extract(self.session.using(solver, guidance), mixture, stems, **_averaged(settings))

    def sample_windows(self, prompts: Sequence[Stem], *, solver: Solver, guidance: Guidance, **settings: Any) -> Tensor:
        """Call `tasks.sample`."""
        return tasks.sample(self.session.using(solver, guidance), prompts, **_named(settings))

    def generate_windows(
        self, stems: Sequence[Stem], *, solver: Solver, guidance: Guidance, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        """Call `tasks.generate`."""
        return tasks.generate(self.session.using(solver, guidance), stems, **_named(settings))

    def generate_sequential_windows(
        self, stems: Sequence[Stem], *, solver: Solver, guidance: Guidance, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        """Call `tasks.generate_sequential`."""
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
        """Call `tasks.generate_extracted`; `samples` is that of `tasks.Average`."""
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
        """Call `tasks.accompany`."""
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
        """Call `tasks.accompany_conditioned`."""
        session = self.session.using(solver, guidance)
        return tasks.accompany_conditioned(session, given, given_stems, stems, **_named(settings))

    def separate(self, source: song.AnySource, stems: Sequence[str] | None = None, **settings: Any) -> Stems:
        """Call `song.separate`; `samples` is the number of runs of `tasks.Average`."""
        return song.separate(self.session, source, stems, **_averaged(settings))

    def extract(self, source: song.AnySource, stems: Sequence[str] | None = None, **settings: Any) -> Stems:
        """Call `song.extract`; `samples` is the number of runs of `tasks.Average`."""
        return song.extract(self.session, source, stems, **_averaged(settings))

    def generate(self, stems: Sequence[str] | None = None, **settings: Any) -> Stems:
        """Call `song.generate`."""
        return song.generate(self.session, stems, **_named(settings))

    def accompany(
        self, given: Mapping[str, song.AnySource], stems: Sequence[str] | None = None, **settings: Any
    ) -> Stems:
        """Call `song.accompany`."""
        return song.accompany(self.session, given, stems, **_named(settings))


def indices_of(groups: Sequence[Sequence[str]], labels: Sequence[str]) -> list[list[int]]:
    """Indices of the labels of each group, see `gmsdi.types.Labels.indices`."""
    return Labels(labels).indices(groups)


def _named(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with `callback` renamed to `progress`."""
    callback: Callback | None = settings.pop("callback", None)
    return {**settings, "progress": callback}


def _averaged(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with `samples` and `inverted`, if given, as an `Average`, and `callback` renamed to `progress`."""
    if not settings.keys() & {"samples", "inverted"}:
        return _named(settings)
    average = Average(settings.pop("samples", 1), settings.pop("inverted", False))
    return {**_named(settings), "average": average}
