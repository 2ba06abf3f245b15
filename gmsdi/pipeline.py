"""From a model folder to results: every procedure of `gmsdi.inference` on windows, arrays and files.

The `*_windows` methods take and return tensors of the model's own rate and length, one seed per window: the workflow's
door. `separate`, `extract`, `generate` and `accompany` take arrays or files of any rate and length: the musician's.

Longer signals are sampled as a whole: the state has the full length, and in every step the model denoises overlapping
windows of it, whose results are cross-faded linearly (as MultiDiffusion does for images, Bar-Tal et al. 2023). The
windows thus agree with each other, and what holds for the state, such as stems that sum to the mixture, holds at any
length.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gmsdi import inference, level
from gmsdi.errors import UserError
from gmsdi.inference import Gamma, check_stability
from gmsdi.io.audio import Audio, Samples, as_audio, fit, resample, rounded
from gmsdi.level import Rests
from gmsdi.sampling.guidance import Model, Prompt, as_prompt, guided, join
from gmsdi.sampling.noise import CoupledNoise, SeededNoise, sample_seeds
from gmsdi.sampling.solver import Callback, Guidance, Solver

Source: TypeAlias = str | Path | Audio | ArrayLike
Stem: TypeAlias = str | Prompt
Negatives: TypeAlias = Mapping[str, str] | None
GivenNoise: TypeAlias = Literal["fixed", "redrawn", "coupled"]
GenerationMethod: TypeAlias = Literal["total", "sequential", "extracted"]
TotalNoise: TypeAlias = Literal["independent", "coupled"]


@dataclass(frozen=True)
class Stems:
    """The result of a task on audio of any length.

    Attributes:
        stems: label to float32 `[C, T]`.
        mixture: `[C, T]`, what they belong to: the separated mixture, the sum of the generated stems, or the sum of
            given and generated stems.
        sample_rate: in Hz.
    """

    stems: dict[str, Samples]
    mixture: Samples
    sample_rate: int


SEPARATION = Solver("euler", steps=25, sigma_min=2e-3, sigma_max=2.0, rho=7.0, s_churn=8.0)
SEPARATION_GUIDANCE = Guidance(w=2.0)
GENERATION = Solver("dpmpp_2m", steps=25, sigma_min=0.015, sigma_max=8.0, rho=7.0)
GENERATION_GUIDANCE = Guidance(w=1.0)
OVERLAP = 0.25
"""What neighbouring windows of a longer signal share."""


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
    from gmsdi.io.device import resolve_device, resolve_precision
    from gmsdi.models.checkpoint import MIXTURE, load_model, target_of
    from gmsdi.models.edm.denoiser import TextDenoiser

    device = resolve_device(device)
    denoiser = load_model(path, device=device)
    if not isinstance(denoiser, TextDenoiser) or target_of(denoiser.config) != MIXTURE:
        raise UserError(f"{path}: a model of separated stems, one of the baselines; a model of mixtures is needed here")
    denoiser.autocast = resolve_precision(precision, device)
    return Pipeline(denoiser, denoiser.config, device=device, max_batch=max_batch, fixed_batch=fixed_batch)


class Pipeline:
    """A text-conditioned model and everything that can be asked of it.

    Attributes:
        sample_rate: the model's, in Hz.
        window: its length in samples.
        channels: its audio channels.
        labels: stem labels that it was trained with, in their order; empty for a model of free text.
        level: of the mixtures that it was trained on, in dB relative to full scale, see `gmsdi.level`: mixtures are
            brought to it, and what is generated has it. None leaves signals as they are.
        evaluations: signals that the network has denoised so far; guidance counts a signal twice.

    Args:
        denoiser: `D(x [N, C, T], sigma [N], cond)` with `encode(texts)`.
        config: `sample_rate`, `window`, `labels`, and optionally `level` and `unet.in_channels`.
        device: where the denoiser is.
        max_batch: signals that the model denoises at once (guidance doubles the network's rows); it bounds the memory.
        fixed_batch: fill every call of the network up to `max_batch` signals. As all calls then have the same shape,
            an item's result is the same to the last bit whatever it is batched with; few items take longer.
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
        if max_batch < 1:
            raise UserError(f"max_batch is {max_batch}; it must be at least 1")
        self.denoiser = denoiser
        self.config = config
        self.device = torch.device(device)
        self.max_batch, self.fixed_batch = max_batch, fixed_batch
        self.evaluations = 0
        self.sample_rate: int = config["sample_rate"]
        self.window: int = config["window"]
        self.channels: int = config.get("unet", {}).get("in_channels", 1)
        self.labels: list[str] = list(config.get("labels") or [])
        self.level = level.known_level(config)

    def separate_windows(
        self,
        mixture: Tensor,
        stems: Sequence[Stem],
        *,
        constrained: int | str | None,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        samples: int = 1,
        inverted: bool = False,
        negatives: Negatives = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Separate mixtures with the GMSDI Separator (Eq. 13).

        Args:
            mixture: `[B, C, T]`.
            stems: the K labels, or prompts.
            constrained: the stem that is the mixture minus the others, by index or label; None constrains none of them
                and projects all onto the mixture (`inference.projected`).
            solver: how to integrate.
            guidance: strength and kind of the guidance.
            seeds: one per item.
            samples: runs whose mean is returned, an estimate of the posterior mean.
            inverted: every other of these runs separates the mixture with its polarity inverted, so that their mean
                takes out what the network makes of the polarity, which is no property of a sound.
            negatives: label to negative text; the paper uses none here.
            levels: of the piece that each item is from, in dB relative to full scale (`gmsdi.level`); None measures
                each item by itself.
            callback: called with (step, steps).

        Returns:
            `[B, K, C, T]` float32 on the CPU; the stems sum to the mixture, and are silent where it is.

        Raises:
            UserError: for input that is not finite, of another shape, or does not fit the stems.
        """
        prompts = self._prompts(stems, negatives)

        def derivative(model: Model, y: Tensor) -> inference.Separator | inference.Projected:
            if constrained is None:
                return inference.projected(model, y, prompts)
            return inference.separator(model, y, prompts, constrained)

        return self._mean_of_runs(
            derivative, mixture, len(prompts), solver, guidance, seeds, _signs(samples, inverted), levels, callback
        )

    def extract_windows(
        self,
        mixture: Tensor,
        stems: Sequence[Stem],
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        consistent: bool | inference.Consistency = False,
        samples: int = 1,
        inverted: bool = False,
        negatives: Negatives = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Separate mixtures with the GMSDI Extractor (Eq. 14).

        Args:
            mixture: `[B, C, T]`.
            stems: the K labels, or prompts.
            solver: how to integrate.
            guidance: strength and kind of the guidance.
            seeds: one per item.
            consistent: solve for the stems together, so that they sum to the mixture (`inference.extractor`); otherwise
                each is extracted by itself.
            samples: runs whose mean is returned, an estimate of the posterior mean.
            inverted: see `separate_windows`.
            negatives: label to negative text, of the stems alone: the complementary mixtures have z*. The paper uses
                them for Bass and Drums.
            levels: of the piece that each item is from, in dB relative to full scale (`gmsdi.level`); None measures
                each item by itself.
            callback: called with (step, steps).

        Returns:
            `[B, K, C, T]` float32 on the CPU, silent where the mixture is.

        Raises:
            UserError: for input that is not finite, of another shape, or does not fit the stems.
        """
        prompts = self._prompts(stems, negatives)

        def derivative(model: Model, y: Tensor) -> inference.Extractor:
            return inference.extractor(model, y, prompts, consistent=consistent, join=self._join)

        return self._mean_of_runs(
            derivative, mixture, len(prompts), solver, guidance, seeds, _signs(samples, inverted), levels, callback
        )

    def sample_windows(
        self,
        prompts: Sequence[Stem],
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        callback: Callback | None = None,
    ) -> Tensor:
        """Plain text-to-music: one window per prompt, `[B, C, T]` float32 on the CPU, as loud as in training.

        Args:
            prompts: one per item; with a negative text as `Prompt(text, negative)`.
            solver: how to integrate.
            guidance: strength and kind of the guidance.
            seeds: one per item.
            callback: called with (step, steps).
        """
        derivative = inference.single(self._model(guidance), self._prompts(prompts, None))
        blank = torch.empty(len(prompts), self.channels, self.window, device=self.device)
        return self._run(derivative, blank, solver, SeededNoise(seeds), callback)[:, 0].cpu()

    def generate_windows(
        self,
        stems: Sequence[Stem],
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        gamma_x: Gamma,
        gamma_y: Gamma,
        noise: TotalNoise = "independent",
        consistent: bool = False,
        groups: Sequence[Sequence[int]] | None = None,
        negatives: Negatives = None,
        length: int | None = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Total generation (Eq. 10 and, with `groups`, 11): coherent stems from nothing.

        Args:
            stems: the K labels, or prompts.
            solver: how to integrate.
            guidance: strength and kind of the guidance.
            seeds: one per item; their number is the batch size B.
            gamma_x: γ of the stems.
            gamma_y: γ of the mixture; the paper sets it to ∞.
            noise: of the rows: "independent", or beyond the paper "coupled", so that the mixture row's noise is the sum
                of the stems', at the start and wherever the solver adds noise (`gmsdi.sampling.noise.CoupledNoise`).
            consistent: the stems sum to the mixture row exactly (`inference.total`).
            groups: stems that are generated as one signal, as lists of indices.
            negatives: label to negative text.
            length: samples; None is the model's window.
            callback: called with (step, steps).

        Returns:
            The stems (or groups) `[B, K, C, T]` and the mixture row `[B, C, T]`, float32 on the CPU, as loud as the
            mixtures that the model was trained on.

        Raises:
            UserError: if the steps are unstable with these γ, among others.
        """
        if noise not in ("independent", "coupled"):
            raise UserError(f"noise is {noise!r}; choose independent or coupled")
        derivative = inference.total(
            self._model(guidance),
            self._prompts(stems, negatives),
            groups=groups,
            gamma_x=gamma_x,
            gamma_y=gamma_y,
            consistent=consistent,
            join=self._join,
        )
        blank = torch.empty(len(seeds), self.channels, length or self.window, device=self.device)
        drawn = CoupledNoise(seeds) if noise == "coupled" else SeededNoise(seeds)
        state = self._run(derivative, blank, solver, drawn, callback)
        return derivative.stems(state).cpu(), derivative.mixture_row(state).cpu()

    def generate_sequential_windows(
        self,
        stems: Sequence[Stem],
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        order: Sequence[int] | None = None,
        share: float = 0.3,
        lags: int | None = 16,
        negatives: Negatives = None,
        length: int | None = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Total generation beyond the paper: one stem after the other, each to go with those that are there.

        The first is sampled from its label alone, every other one by `inference.conditioned`, so that no two stems have
        a part in the same sound by construction.

        Args:
            stems: the K labels, or prompts.
            solver: how to integrate.
            guidance: strength and kind of the guidance.
            seeds: one per item; their number is the batch size B.
            order: in which stems are generated, as indices; None draws an order for each item by its seed, so that a
                mean over items is one over orders, too.
            share: see `accompany_conditioned_windows`.
            lags: see `accompany_conditioned_windows`.
            negatives: label to negative text.
            length: samples; None is the model's window.
            callback: called with (step, steps), over all stems.

        Returns:
            The stems `[B, K, C, T]` and their sum `[B, C, T]`, float32 on the CPU.

        Raises:
            UserError: if `order` does not have every stem once, among others.
        """
        prompts, K = self._prompts(stems, negatives), len(stems)
        if order is not None and sorted(order) != list(range(K)):
            raise UserError(f"order {list(order)} does not name each of the {K} stems once, by indices from 0")
        orders = [drawn_order(seed, K) if order is None else list(order) for seed in seeds]
        model, noise = self._model(guidance), SeededNoise(seeds)
        blank = torch.empty(len(seeds), self.channels, length or self.window, device=self.device)
        made = blank.new_empty(len(seeds), 0, *blank.shape[1:])
        for place in range(K):
            following = [prompts[turns[place]] for turns in orders]
            derivative: inference.Single | inference.Conditioned
            if place == 0:
                derivative = inference.single(model, following)
            else:
                known = [[prompts[k] for k in turns[:place]] for turns in orders]
                derivative = inference.conditioned(
                    model, made, known, [[x] for x in following], share=share, gamma_x=math.inf, lags=lags,
                    join=self._join,
                )  # fmt: skip
            part = _part(callback, place * solver.steps, K * solver.steps)
            made = torch.cat([made, derivative.stems(self._run(derivative, blank, solver, noise, part))], dim=1)
        found = torch.stack([item[torch.tensor(turns).argsort()] for item, turns in zip(made, orders, strict=True)])
        return found.cpu(), found.sum(dim=1).cpu()

    def generate_extracted_windows(
        self,
        stems: Sequence[Stem],
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        separation_solver: Solver,
        separation_guidance: Guidance,
        consistent: bool | inference.Consistency = True,
        samples: int = 1,
        negatives: Negatives = None,
        length: int | None = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Total generation beyond the paper: a mixture from the joint prompt alone, taken apart by the Extractor.

        Args:
            stems: the K labels, or prompts.
            solver: of the mixture.
            guidance: of the mixture.
            seeds: one per item; their number is the batch size B.
            separation_solver: of the Extractor.
            separation_guidance: of the Extractor.
            consistent: see `extract_windows`.
            samples: see `extract_windows`.
            negatives: label to negative text, for the Extractor.
            length: samples; None is the model's window.
            callback: called with (step, steps), over both.

        Returns:
            The stems `[B, K, C, T]` and the mixture `[B, C, T]`, float32 on the CPU; consistent stems sum to it.
        """
        joint = self._join(self._prompts(stems, None))
        blank = torch.empty(len(seeds), self.channels, length or self.window, device=self.device)
        steps = solver.steps, separation_solver.steps
        derivative = inference.single(self._model(guidance), [joint])
        mixture = self._run(derivative, blank, solver, SeededNoise(seeds), _part(callback, 0, sum(steps)))[:, 0]
        found = self.extract_windows(
            mixture,
            stems,
            solver=separation_solver,
            guidance=separation_guidance,
            seeds=sample_seeds(seeds, 2)[1::2],  # not the noise that the mixture is made of
            consistent=consistent,
            samples=samples,
            negatives=negatives,
            levels=None if self.level is None else [self.level] * len(seeds),
            callback=_part(callback, steps[0], sum(steps)),
        )
        return found, mixture.cpu()

    def accompany_windows(
        self,
        given: Tensor,
        given_stems: Sequence[Stem],
        stems: Sequence[Stem],
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        gamma_x: Gamma,
        gamma_y: Gamma,
        alpha: float = 1.0,
        beta: float = 1.0,
        negatives: Negatives = None,
        given_noise: GivenNoise = "fixed",
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Partial generation (Eq. 12): stems that go with the given ones, which stay as they are.

        Args:
            given: `[B, I, C, T]`.
            given_stems: the I labels, or prompts.
            stems: the J labels, or prompts, to generate.
            solver: how to integrate.
            guidance: strength and kind of the guidance.
            seeds: one per item.
            gamma_x: γ of the stems.
            gamma_y: γ of the mixture.
            alpha: scale of the given stems in the mixture.
            beta: scale of the generated ones.
            negatives: label to negative text.
            given_noise: of the given stems: drawn once ("fixed"), in every evaluation ("redrawn"), or once and together
                with that of the others, so that the noises of all stems sum to the mixture's ("coupled", beyond the
                paper, see `gmsdi.sampling.noise.CoupledNoise`).
            levels: of the mixture that each item's stems are part of, in dB relative to full scale; None infers it from
                the given ones, see `gmsdi.level.accompanied`.
            callback: called with (step, steps).

        Returns:
            The generated stems `[B, J, C, T]` and the mixture row `[B, C, T]`, float32 on the CPU, as loud as goes with
            the given ones.

        Raises:
            UserError: for input that is not finite or of another shape, or if the steps are unstable with these γ.
        """
        if given_noise not in ("fixed", "redrawn", "coupled"):
            raise UserError(f"given_noise is {given_noise!r}; choose fixed, redrawn or coupled")
        known_prompts, prompts = self._prompts(given_stems, negatives), self._prompts(stems, negatives)

        def sample(x: Tensor) -> tuple[Tensor, Tensor]:
            noise: SeededNoise
            known: Tensor | SeededNoise
            if given_noise == "coupled":
                noise = coupled = CoupledNoise(seeds)
                known = coupled.given(x, len(stems))
            else:
                noise = SeededNoise(seeds)
                known = noise(x) if given_noise == "fixed" else noise
            derivative = inference.partial(
                self._model(guidance),
                x,
                known_prompts,
                prompts,
                alpha=alpha,
                beta=beta,
                gamma_x=gamma_x,
                gamma_y=gamma_y,
                noise=known,
                join=self._join,
            )
            state = self._run(derivative, x[:, 0], solver, noise, callback)
            return derivative.stems(state), derivative.mixture_row(state)

        return self._accompanied(sample, given, known_prompts, prompts, levels)

    def accompany_conditioned_windows(
        self,
        given: Tensor,
        given_stems: Sequence[Stem],
        stems: Sequence[Stem],
        *,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        share: float = 0.5,
        gamma_x: Gamma | None = None,
        lags: int | None = 16,
        negatives: Negatives = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Partial generation beyond the paper: stems that are heard together with the clean given ones.

        Args:
            given: `[B, I, C, T]`.
            given_stems: the I labels, or prompts.
            stems: the J labels, or prompts, to generate.
            solver: how to integrate.
            guidance: strength and kind of the guidance.
            seeds: one per item.
            share: a of `inference.conditioned`, the weight of the whole mixture.
            gamma_x: γ of the stems; None is √J·σ, see `check_stability`.
            lags: how far copies of the given stems are looked for, to leave them out: in samples, see
                `inference.conditioned`; None leaves them in.
            negatives: label to negative text.
            levels: see `accompany_windows`.
            callback: called with (step, steps).

        Returns:
            The generated stems `[B, J, C, T]` and, with the given ones, the mixture that they were drawn to
            `[B, C, T]`, float32 on the CPU.

        Raises:
            UserError: for input that is not finite or of another shape, or if the steps are unstable with this γ.
        """
        known_prompts, prompts = self._prompts(given_stems, negatives), self._prompts(stems, negatives)

        def sample(x: Tensor) -> tuple[Tensor, Tensor]:
            derivative = inference.conditioned(
                self._model(guidance),
                x,
                known_prompts,
                prompts,
                share=share,
                gamma_x=_natural_gamma(len(stems) - 1) if gamma_x is None else gamma_x,
                lags=lags,
                join=self._join,
            )
            state = self._run(derivative, x[:, 0], solver, SeededNoise(seeds), callback)
            return derivative.stems(state), derivative.mixture_row(state)

        return self._accompanied(sample, given, known_prompts, prompts, levels)

    def separate(
        self,
        source: Source,
        stems: Sequence[str] | None = None,
        *,
        sample_rate: int | None = None,
        constrained: int | str | None = None,
        projected: bool = False,
        samples: int = 1,
        solver: Solver = SEPARATION,
        guidance: Guidance = SEPARATION_GUIDANCE,
        seed: int = 0,
        negatives: Negatives = None,
        callback: Callback | None = None,
    ) -> Stems:
        """Separate a song of any length with the GMSDI Separator (Eq. 13).

        The song is resampled to the model's rate and back. A model of one channel separates the channels of a song one
        by one, with the same noise. The stems sum to the song: exactly at the model's rate, and otherwise in the band
        that the model hears. A song that is louder or softer by a factor gives stems that are, if the model knows its
        `level`; and where the song is silent, so are they.

        Args:
            source: a file, `Audio`, or an array `[T]` or `[C, T]` with `sample_rate`.
            stems: labels of what the song consists of; None is all that the model knows.
            sample_rate: of an array, in Hz.
            constrained: the stem that is the song minus the others; None is Drums, the paper's choice, or the last.
            projected: constrain no stem, project all onto the song (`inference.projected`).
            samples: runs whose mean is returned.
            solver: how to integrate.
            guidance: strength and kind of the guidance.
            seed: of the noise.
            negatives: label to negative text.
            callback: called with (step, steps).

        Returns:
            The stems at the song's rate and length.

        Raises:
            UserError: for unusable audio or stems, or if the sampling diverged.
        """
        if projected and constrained is not None:
            raise UserError(f"constrained {constrained!r} and projected exclude each other; choose one")
        labels = self._labels(stems)
        if constrained is None and not projected:
            constrained = "Drums" if "Drums" in labels else labels[-1]
        audio, mixture, song_level = self._song(source, sample_rate)
        separated = self.separate_windows(
            mixture,
            labels,
            constrained=constrained,
            samples=samples,
            solver=solver,
            guidance=guidance,
            seeds=[seed] * len(mixture),
            levels=[song_level] * len(mixture),
            negatives=negatives,
            callback=callback,
        )
        return self._separated(separated, labels, audio)

    def extract(
        self,
        source: Source,
        stems: Sequence[str] | None = None,
        *,
        sample_rate: int | None = None,
        consistent: bool = False,
        samples: int = 1,
        solver: Solver = SEPARATION,
        guidance: Guidance = SEPARATION_GUIDANCE,
        seed: int = 0,
        negatives: Negatives = None,
        callback: Callback | None = None,
    ) -> Stems:
        """Separate a song of any length with the GMSDI Extractor (Eq. 14).

        Args:
            source: a file, `Audio`, or an array `[T]` or `[C, T]` with `sample_rate`.
            stems: labels of what the song consists of; None is all that the model knows.
            sample_rate: of an array, in Hz.
            consistent: solve for the stems together, so that they sum to the song; otherwise each by itself.
            samples: runs whose mean is returned.
            solver: how to integrate.
            guidance: strength and kind of the guidance.
            seed: of the noise.
            negatives: label to negative text.
            callback: called with (step, steps).

        Returns:
            The stems at the song's rate and length; for rates, channels and levels see `separate`.

        Raises:
            UserError: for unusable audio or stems, or if the sampling diverged.
        """
        labels = self._labels(stems)
        audio, mixture, song_level = self._song(source, sample_rate)
        separated = self.extract_windows(
            mixture,
            labels,
            consistent=consistent,
            samples=samples,
            solver=solver,
            guidance=guidance,
            seeds=[seed] * len(mixture),
            levels=[song_level] * len(mixture),
            negatives=negatives,
            callback=callback,
        )
        return self._separated(separated, labels, audio)

    def generate(
        self,
        stems: Sequence[str] | None = None,
        *,
        method: GenerationMethod = "total",
        groups: Sequence[Sequence[str]] | None = None,
        seconds: float | None = None,
        gamma_x: Gamma | None = None,
        gamma_y: Gamma = math.inf,
        noise: TotalNoise = "independent",
        solver: Solver = GENERATION,
        separation_solver: Solver = SEPARATION,
        guidance: Guidance = GENERATION_GUIDANCE,
        seed: int = 0,
        negatives: Negatives = None,
        callback: Callback | None = None,
    ) -> Stems:
        """Generate coherent stems (Eq. 10) of any length, at the model's rate and the level of its training mixtures.

        Args:
            stems: the labels; None is all that the model knows.
            method: "total", Eq. 10 and 11; or beyond the paper "sequential" (`generate_sequential_windows`) or
                "extracted" (`generate_extracted_windows`, with the settings of `extract`, consistent).
            groups: Eq. 11: labels that are generated as one signal, which then has their joint name.
            seconds: length; None is the model's window.
            gamma_x: γ of the stems; None is √(K + 1)·σ, see `gmsdi.inference.check_stability`.
            gamma_y: γ of the mixture; with ∞ the stems are drawn to a mixture that is sampled as if it were alone, and
                end as its parts (`consistent` of `inference.total`).
            noise: see `generate_windows`.
            solver: how to integrate.
            separation_solver: of the Extractor of "extracted".
            guidance: strength and kind of the guidance.
            seed: of the noise.
            negatives: label to negative text.
            callback: called with (step, steps).

        Returns:
            The stems and their sum.

        Raises:
            UserError: for unusable stems, or if the steps are unstable with these γ or the sampling diverged.
        """
        labels = self._labels(stems, at_least=1)
        samples = self.window if seconds is None else round(seconds * self.sample_rate)
        if samples < 1:
            raise UserError(f"seconds is {seconds}; it must be positive")
        if method not in ("total", "sequential", "extracted"):
            raise UserError(f"method is {method!r}; choose total, sequential or extracted")
        if method != "total" and (groups is not None or gamma_x is not None or gamma_y != math.inf):
            raise UserError(f"groups, gamma_x and gamma_y belong to method total, not to {method}; choose one")
        common: dict[str, Any] = {
            "solver": solver,
            "guidance": guidance,
            "seeds": [seed],
            "negatives": negatives,
            "length": self._padded(samples),
            "callback": callback,
        }
        if method == "sequential":
            generated, _ = self.generate_sequential_windows(labels, **common)
        elif method == "extracted":
            generated, _ = self.generate_extracted_windows(
                labels, separation_solver=separation_solver, separation_guidance=SEPARATION_GUIDANCE, **common
            )
        else:
            rows = len(labels) if groups is None else len(groups)
            generated, _ = self.generate_windows(
                labels,
                groups=None if groups is None else indices_of(groups, labels),
                gamma_x=_natural_gamma(rows) if gamma_x is None else gamma_x,
                gamma_y=gamma_y,
                noise=noise,
                consistent=gamma_y == math.inf,
                **common,
            )
            labels = labels if groups is None else [", ".join(group) for group in groups]
        parts = dict(zip(labels, generated[0, :, :, :samples].numpy(), strict=True))
        self._require_plausible(parts, self.level)
        return Stems(parts, _sum(parts.values()), self.sample_rate)

    def accompany(
        self,
        given: Mapping[str, Source],
        stems: Sequence[str] | None = None,
        *,
        sample_rate: int | None = None,
        gamma_x: Gamma | None = None,
        gamma_y: Gamma | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        given_noise: GivenNoise = "coupled",
        share: float | None = None,
        solver: Solver = GENERATION,
        guidance: Guidance = GENERATION_GUIDANCE,
        seed: int = 0,
        negatives: Negatives = None,
        callback: Callback | None = None,
    ) -> Stems:
        """Generate stems that go with given ones (Eq. 12, or beyond the paper with `share`), of any length.

        The model hears the given stems at its own rate and number of channels (stereo is averaged for a model of one
        channel). The result has the rate and length of the given stems. What is generated is rounded to 16 bits, so
        that, in float and in 16-bit files alike, the mixture minus the generated stems gives 16-bit given stems back
        bit for bit. It is as loud as goes with the given stems, which count as their share of the whole
        (`gmsdi.level.accompanied`), if the model knows its `level`.

        Args:
            given: label to a file, `Audio`, or an array `[T]` or `[C, T]` with `sample_rate`; all of one length and
                rate.
            stems: labels to generate; None is all that the model knows and that are not given.
            sample_rate: of arrays, in Hz.
            gamma_x: γ of the stems; None is √(K + 1)·σ, with `share` √K·σ.
            gamma_y: γ of the mixture; None is √(K + 1)·σ.
            alpha: scale of the given stems in the mixture that the model imagines (not in the result).
            beta: scale of the generated ones there.
            given_noise: see `accompany_windows`.
            share: beyond the paper, in place of Eq. 12 with its γ_y, α, β and given noise: hear the accompaniment
                together with the given stems, the whole with this weight (see `accompany_conditioned_windows`).
            solver: how to integrate.
            guidance: strength and kind of the guidance.
            seed: of the noise.
            negatives: label to negative text.
            callback: called with (step, steps).

        Returns:
            The generated stems, and as `mixture` the given stems and the generated ones together.

        Raises:
            UserError: for unusable audio or stems, or if the steps are unstable with these γ or the sampling diverged.
        """
        if not given:
            raise UserError("no stem is given; to generate all of them use generate")
        audios = {label: as_audio(source, sample_rate, label) for label, source in given.items()}
        reference_label, reference = next(iter(audios.items()))
        for label, audio in audios.items():
            if audio.sample_rate != reference.sample_rate or audio.samples.shape != reference.samples.shape:
                raise UserError(
                    f"given stem {label} has {audio.samples.shape[0]} channels of {audio.samples.shape[1]} samples at "
                    f"{audio.sample_rate} Hz, but {reference_label} has {reference.samples.shape[0]} of "
                    f"{reference.samples.shape[1]} at {reference.sample_rate} Hz; make them alike"
                )
        known = list(audios)
        labels = self._labels([x for x in self.labels if x not in known] if stems is None else stems, at_least=1)
        heard = np.stack([self._at_model_rate(self._as_model_channels(audio)) for audio in audios.values()])
        common: dict[str, Any] = {
            "solver": solver,
            "guidance": guidance,
            "seeds": [seed],
            "negatives": negatives,
            "callback": callback,
        }
        whole = torch.from_numpy(heard)[None]
        if share is not None:
            if gamma_y is not None or (alpha, beta) != (1.0, 1.0):
                raise UserError("gamma_y, alpha and beta belong to Eq. 12, share takes its place; choose one")
            generated, _ = self.accompany_conditioned_windows(
                whole, known, labels, share=share, gamma_x=gamma_x, **common
            )
        else:
            natural = _natural_gamma(len(labels))
            generated, _ = self.accompany_windows(
                whole,
                known,
                labels,
                gamma_x=natural if gamma_x is None else gamma_x,
                gamma_y=natural if gamma_y is None else gamma_y,
                alpha=alpha,
                beta=beta,
                given_noise=given_noise,
                **common,
            )
        found = {
            label: self._at_rate_of(reference, part) for label, part in zip(labels, generated[0].numpy(), strict=True)
        }
        (heard_level,) = level.levels_of(whole.sum(dim=1), self.sample_rate)
        about = None if self.level is None else heard_level if heard_level >= level.SILENCE else self.level
        self._require_plausible(found, about)
        parts = {label: rounded(part) for label, part in found.items()}
        together = _sum([*(audio.samples for audio in audios.values()), *parts.values()])
        return Stems(parts, together, reference.sample_rate)

    def _model(self, guidance: Guidance, rests: Rests | None = None) -> Model:
        """The guided denoiser, over windows and in batches that fit the memory; not asked where all of them rest."""
        low_high = None if guidance.interval is None else (float(guidance.interval[0]), float(guidance.interval[1]))

        def counted(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            self.evaluations += len(x)
            return self.denoiser(x, sigma, cond)

        model = guided(
            counted,
            guidance.w,
            convention=guidance.convention,
            interval=low_high,
            clamp=guidance.clamp,
            encode=self.denoiser.encode,
        )

        model = batched(model, self.max_batch, fixed=self.fixed_batch)
        return over_windows(model, self.window, self._overlap, rests)

    def _mean_of_runs(
        self,
        derivative: Callable[[Model, Tensor], inference.Separator | inference.Projected | inference.Extractor],
        mixture: Tensor,
        stems: int,
        solver: Solver,
        guidance: Guidance,
        seeds: Sequence[int],
        signs: Sequence[float],
        levels: Sequence[float] | None,
        callback: Callback | None,
    ) -> Tensor:
        """The stems `[B, K, C, T]` on the CPU, averaged over runs with these signs, at the level of the mixture."""

        def sample(y: Tensor, seeds: Sequence[int], rests: Rests | None) -> Tensor:
            y = _runs(y, signs)
            rests = None if rests is None else rests.repeated(len(signs))
            separation = derivative(self._model(guidance, rests), y)
            noise = SeededNoise(sample_seeds(seeds, len(signs)))
            state = self._run(separation, y, solver, noise, callback, rests)
            found = separation.stems(state).unflatten(0, (-1, len(signs)))
            return (found * found.new_tensor(signs).reshape(-1, 1, 1, 1)).mean(dim=1)

        return level.separated(
            sample,
            self._signals(mixture, 3, "mixture"),
            seeds=seeds,
            stems=stems,
            known=self.level,
            levels=levels,
            sample_rate=self.sample_rate,
        )

    def _accompanied(
        self,
        sample: Callable[[Tensor], tuple[Tensor, Tensor]],
        given: Tensor,
        known_prompts: Sequence[Prompt],
        prompts: Sequence[Prompt],
        levels: Sequence[float] | None,
    ) -> tuple[Tensor, Tensor]:
        """What `sample` makes of given stems, at their level; a joint prompt counts as its parts."""
        counts = [sum(len(prompt.text.split(", ")) for prompt in some) for some in (known_prompts, prompts)]
        made, mixture = level.accompanied(
            sample,
            self._signals(given, 4, "given stems"),
            stems=counts[0],
            others=counts[1],
            known=self.level,
            levels=levels,
            sample_rate=self.sample_rate,
        )
        return made, mixture

    def _run(
        self,
        derivative: Any,
        like: Tensor,
        solver: Solver,
        noise: SeededNoise,
        callback: Callback | None,
        rests: Rests | None = None,
    ) -> Tensor:
        """Sample the state `[B, S, C, T]` of `derivative` for items like `like`, `[B, C, T]`, with these rests."""
        if len(noise.generators) != len(like):
            raise UserError(f"{len(noise.generators)} seeds for {len(like)} items; give one each")
        sigmas = solver.sigmas()
        check_stability(derivative, sigmas, step=solver.step)
        derivative = derivative if rests is None else level.Resting(derivative, rests)
        with torch.no_grad():
            x = sigmas[0] * noise(like.unsqueeze(1).expand(-1, derivative.rows, -1, -1))
            return solver.sample(derivative, x, noise=noise, callback=callback)

    def _signals(self, x: Tensor, axes: int, name: str) -> Tensor:
        """Checked float32 signals on the device."""
        if x.ndim != axes or x.shape[-2] != self.channels or 0 in x.shape:
            raise UserError(f"{name} has shape {tuple(x.shape)}; {axes} axes, with {self.channels} channels, expected")
        if not torch.isfinite(x).all():
            raise UserError(f"{name}: holds NaN or infinite samples; repair or exclude it")
        return x.to(self.device, torch.float32)

    def _prompts(self, stems: Sequence[Stem], negatives: Negatives) -> list[Prompt]:
        """Prompts with their negatives; warns of texts that a model of labels has never seen."""
        prompts = [as_prompt(stem) for stem in stems]
        if negatives:
            prompts = [
                Prompt(prompt.text, negatives.get(prompt.text)) if prompt.negative is None else prompt
                for prompt in prompts
            ]
        texts = [text for prompt in prompts for text in (prompt.text, prompt.negative) if text is not None]
        unknown = dict.fromkeys(part for text in texts for part in text.split(", ") if part not in self.labels)
        if self.labels and unknown:
            warnings.warn(
                f"the model was not trained with {', '.join(map(repr, unknown))}; it knows {', '.join(self.labels)}",
                stacklevel=3,
            )
        return prompts

    def _join(self, prompts: Sequence[Prompt]) -> Prompt:
        """⊗ as in training: a model of labels has seen each label once and in its own order."""
        joint = join(prompts)
        parts = set(joint.text.split(", "))
        return Prompt(", ".join(x for x in self.labels if x in parts)) if parts <= set(self.labels) else joint

    def _labels(self, stems: Sequence[str] | None, at_least: int = 2) -> list[str]:
        """The labels of a task, in which every stem has its own name."""
        labels = self.labels if stems is None else list(stems)
        if len(labels) < at_least:
            raise UserError(f"{len(labels)} stems named, but at least {at_least} needed")
        if len(set(labels)) < len(labels):
            raise UserError(f"stems {', '.join(labels)}: each can be named once")
        return labels

    def _song(self, source: Source, sample_rate: int | None) -> tuple[Audio, Tensor, float]:
        """A song, as a batch of items `[B, C, T]` for the model, and its level."""
        audio = as_audio(source, sample_rate)
        heard = audio if self.channels == 1 else self._as_model_channels(audio)
        samples = torch.from_numpy(resample(heard.samples, heard.sample_rate, self.sample_rate))
        (song_level,) = level.levels_of(samples.unsqueeze(0), self.sample_rate)
        items = torch.nn.functional.pad(samples, (0, self._padded(samples.shape[1]) - samples.shape[1]))
        return audio, items.unsqueeze(1 if self.channels == 1 else 0), song_level

    def _separated(self, separated: Tensor, labels: Sequence[str], audio: Audio) -> Stems:
        """`[B, K, C, T]` back at the song's rate and length."""
        parts = separated.transpose(0, 1).flatten(1, 2).numpy()  # [K, B * C, T]: one of B and C is 1
        stems = {label: self._at_rate_of(audio, part) for label, part in zip(labels, parts, strict=True)}
        level.require_plausible(stems, peak=float(np.abs(audio.samples).max()), what="its mixture has")
        return Stems(stems, audio.samples, audio.sample_rate)

    def _require_plausible(self, parts: Mapping[str, Samples], about: float | None) -> None:
        """Refuse generated stems whose peaks are out of all proportion to a level in dB; None is none known."""
        peak = math.inf if about is None else 10 ** ((about + level.CREST) / 20)
        level.require_plausible(parts, peak=peak, what="but music of this level reaches")

    def _as_model_channels(self, audio: Audio) -> Audio:
        """Average to one channel, or repeat one channel."""
        samples = audio.samples
        if len(samples) != self.channels:
            samples = samples.mean(axis=0, keepdims=True).repeat(self.channels, axis=0)
        return Audio(samples, audio.sample_rate)

    def _at_model_rate(self, audio: Audio) -> Samples:
        """`[C, T]` at the model's rate, padded with zeros to whole windows."""
        samples = resample(audio.samples, audio.sample_rate, self.sample_rate)
        return fit(samples, self._padded(samples.shape[1]))

    def _at_rate_of(self, audio: Audio, samples: Samples) -> Samples:
        """`[C, T]` from the model's rate and padded length to those of `audio`."""
        return fit(resample(samples, self.sample_rate, audio.sample_rate), audio.samples.shape[1])

    @property
    def _overlap(self) -> int:
        return max(1, round(OVERLAP * self.window))

    def _padded(self, length: int) -> int:
        """The shortest length of overlapping windows that holds `length` samples."""
        hop = self.window - self._overlap
        return self.window + hop * math.ceil(max(0, length - self.window) / hop)


def batched(model: Model, size: int, *, fixed: bool = False) -> Model:
    """A model that denoises any number of rows, at most `size` at a time; `fixed` fills the last batch up."""

    def in_batches(x: Tensor, sigma: float, prompts: Sequence[Prompt | str]) -> Tensor:
        rows = len(x)
        if fixed and (missing := -rows % size):
            x = torch.cat([x, x[-1:].expand(missing, -1, -1)])
            prompts = [*prompts, *[prompts[-1]] * missing]
        parts = [model(x[i : i + size], sigma, prompts[i : i + size]) for i in range(0, len(x), size)]
        return torch.cat(parts)[:rows]

    return in_batches


def over_windows(model: Model, window: int, overlap: int, rests: Rests | None = None) -> Model:
    """A model for signals longer than its window: denoised in overlapping windows, which are cross-faded linearly.

    Args:
        model: a model of windows.
        window: in samples.
        overlap: of neighbouring windows, in samples, between 1 and half a window.
        rests: of the items, of which every one has as many signals; windows that rest throughout are zeros.

    Returns:
        A model of signals of up to `window`, which pass as they are, or of `window + k·(window − overlap)` samples.
    """
    hop = window - overlap

    def whole(x: Tensor, sigma: float, prompts: Sequence[Prompt | str]) -> Tensor:
        length = x.shape[-1]
        if length <= window:
            return model(x, sigma, prompts)
        if (length - window) % hop:
            raise ValueError(f"{length} samples are not whole windows of {window} with an overlap of {overlap}")
        pieces = x.unfold(-1, window, hop).transpose(1, 2)  # [N, windows, C, window]
        repeated = [prompt for prompt in prompts for _ in range(pieces.shape[1])]
        flat = pieces.flatten(0, 1)
        if rests is None:
            denoised = model(flat, sigma, repeated)
        else:
            places, awake = rests.awake(len(x), window, hop)
            denoised = torch.zeros_like(flat)
            denoised[awake] = model(flat[awake], sigma, [repeated[i] for i in places])
        denoised = denoised.unflatten(0, pieces.shape[:2])
        fade = (torch.arange(overlap, device=x.device, dtype=x.dtype) + 0.5) / overlap
        out = torch.zeros_like(x)
        for i in range(pieces.shape[1]):
            piece = denoised[:, i].clone()
            if i > 0:
                piece[..., :overlap] *= fade
            if i < pieces.shape[1] - 1:
                piece[..., hop:] *= 1 - fade
            out[..., i * hop : i * hop + window] += piece
        return out

    return whole


def indices_of(groups: Sequence[Sequence[str]], labels: Sequence[str]) -> list[list[int]]:
    """Groups of labels as indices.

    Raises:
        UserError: if they do not have every label once.
    """
    if sorted(label for group in groups for label in group) != sorted(labels) or not all(groups):
        named = "; ".join(", ".join(group) for group in groups)
        raise UserError(f"groups {named} do not have each of {', '.join(labels)} once")
    return [[labels.index(label) for label in group] for group in groups]


def drawn_order(seed: int, stems: int) -> list[int]:
    """The order of an item's stems in `Pipeline.generate_sequential_windows`, a function of its seed."""
    order: list[int] = np.random.default_rng([seed, stems]).permutation(stems).tolist()
    return order


def _part(callback: Callback | None, before: int, whole: int) -> Callback | None:
    """The callback of one of several runs that together have `whole` steps."""
    return None if callback is None else lambda step, steps: callback(before + step, whole)


def _signs(samples: int, inverted: bool) -> list[float]:
    """The polarity of each run."""
    if samples < 1:
        raise UserError(f"samples is {samples}; it must be at least 1")
    return [-1.0 if inverted and run % 2 else 1.0 for run in range(samples)]


def _runs(y: Tensor, signs: Sequence[float]) -> Tensor:
    """The runs of each item `[B, C, T]` in a row, each with its polarity: `[B · len(signs), C, T]`."""
    return (y.unsqueeze(1) * y.new_tensor(signs).reshape(-1, 1, 1)).flatten(0, 1)


def _natural_gamma(stems: int) -> Gamma:
    """γ = √(K + 1)·σ, with which a step to 0 makes the stems sum to the mixture row (`check_stability`)."""
    return lambda sigma: math.sqrt(stems + 1) * sigma


def _sum(parts: Iterable[Samples]) -> Samples:
    """Sum of signals `[C, T]`; one channel counts for all."""
    return np.sum(np.broadcast_arrays(*parts), axis=0, dtype=np.float32)
