"""Weakly supervised MSDM (reference [14] of the paper): one unconditional denoiser D_k(x_k, σ) per stem.

It separates with the Dirac separator of Eq. 4, and generates single stems. The joint model is `gmsdi.systems.msdm`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmsdi import inference
from gmsdi.errors import UserError
from gmsdi.io.device import resolve_device
from gmsdi.models.checkpoint import CONFIG, MIXTURE, STEMS, target_of
from gmsdi.models.protocol import Denoiser
from gmsdi.sampling.guidance import Guided, Prompt, as_prompt
from gmsdi.sampling.noise import SeededNoise
from gmsdi.sampling.solver import Callback, Solver
from gmsdi.systems.diffusion import OnWindows, load_denoiser


def per_stem(models: Mapping[str, Guided]) -> Guided:
    """Combine several models into one: each row goes to the model that its prompt names, in one batch per model.

    With the result, `inference.separator` is Eq. 4, and `inference.single` generates single stems.

    Args:
        models: label to model.

    Returns:
        A `Model` whose prompts are the labels; any other prompt raises a `UserError`.
    """
    # The rows of each label and the inverse order, cached so that they are copied to the device only once.
    known: dict[tuple[str, ...], tuple[list[tuple[str, Tensor]], Tensor]] = {}

    def model(x: Tensor, sigma: float, prompts: Sequence[Prompt | str]) -> Tensor:
        texts = tuple(as_prompt(prompt).text for prompt in prompts)
        if texts not in known:
            unknown = [text for text in texts if text not in models]
            if unknown:
                raise UserError(f"there is no model of {unknown[0]!r}, only of {', '.join(models)}")
            places = {label: [row for row, text in enumerate(texts) if text == label] for label in dict.fromkeys(texts)}
            order = [row for rows in places.values() for row in rows]
            known[texts] = (
                [(label, torch.tensor(rows, device=x.device)) for label, rows in places.items()],
                torch.tensor(order, device=x.device).argsort(),
            )
        groups, back = known[texts]
        parts = [models[label](x[rows], sigma, [label] * len(rows)) for label, rows in groups]
        return torch.cat(parts)[back]

    return model


class WeakMSDM(OnWindows):
    """Weakly supervised MSDM: one model per stem, one seed per window.

    Args:
        denoisers: label to a denoiser of states `[N, 1, T]`. They are usually unconditional; one with text is prompted
            with its label.
        config: `sample_rate`, `window`, and optionally `level`.
        device: the device of the denoisers.
        max_batch: items that a model denoises at once.
        fixed_batch: see `gmsdi.systems.msdm.JointMSDM`.
        clamp: limit of the denoised signal, see `gmsdi.systems.msdm.JointMSDM`.
    """

    def __init__(
        self,
        denoisers: Mapping[str, Denoiser],
        config: Mapping[str, Any],
        *,
        device: str | torch.device = "cpu",
        max_batch: int = 16,
        fixed_batch: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__(config, list(denoisers), device, max_batch, fixed_batch, clamp)
        self.denoisers = dict(denoisers)
        self.model = per_stem({label: self._batched(denoiser) for label, denoiser in denoisers.items()})

    def separate(
        self,
        mixture: Tensor,
        stems: Sequence[str] | None = None,
        *,
        constrained: int | str,
        solver: Solver,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Separate with Eq. 4.

        Args:
            mixture: `[B, 1, T]`.
            stems: labels of the stems in the mixture; None means all.
            constrained: the stem that is the mixture minus the others, by index or label.
            solver: how to integrate.
            seeds: one per item.
            levels: level of the song that each item is from, see `gmsdi.systems.base.Separate`.
            callback: called with (step, steps).

        Returns:
            `[B, K, 1, T]` float32 on the CPU; the stems sum to the mixture.

        Raises:
            UserError: if the input is not finite or has another shape, or a stem is unknown.
        """
        named = self.labels if stems is None else list(stems)
        self._places(named)
        return self._separated(
            lambda y: inference.separator(self.model, y, named, constrained),
            mixture, len(named), solver, seeds, levels, callback,
        )  # fmt: skip

    def sample(
        self, stems: Sequence[str], *, solver: Solver, seeds: Sequence[int], callback: Callback | None = None
    ) -> Tensor:
        """Generate single stems, as loud as in training.

        Args:
            stems: one label per item.
            solver: how to integrate.
            seeds: one per item.
            callback: called with (step, steps).

        Returns:
            `[B, 1, T]` float32 on the CPU.

        Raises:
            UserError: if a stem is unknown.
        """
        self._places(list(dict.fromkeys(stems)))
        derivative = inference.single(self.model, stems)
        return self._run(derivative, len(stems), solver, SeededNoise(seeds), callback)[:, 0].cpu()


def load_weak(
    models: Mapping[str, str | Path] | str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    max_batch: int = 16,
    fixed_batch: bool = False,
    clamp: float | None = None,
) -> WeakMSDM:
    """Load one model per stem: model folders whose targets are single labels.

    Args:
        models: label to folder; or a folder that contains the model folders, which are then in the order of the models'
            labels.
        device: "auto" (CUDA if there is one), or a torch device.
        precision: of the networks, see `gmsdi.load`.
        max_batch: see `WeakMSDM`.
        fixed_batch: see `WeakMSDM`.
        clamp: see `WeakMSDM`.

    Raises:
        UserError: if a folder does not hold a valid model, or one of another target, or the models do not belong
            together, or the device does not exist.
    """
    device = resolve_device(device)
    if isinstance(models, Mapping):
        loaded = {label: load_denoiser(path, device, precision) for label, path in models.items()}
        for label, denoiser in loaded.items():
            target = target_of(denoiser.config)
            if target != label:
                raise UserError(f"{models[label]}: this model has target {target!r}, but is given for {label!r}")
    else:
        loaded = {}
        for folder in sorted(path.parent for path in Path(models).glob(f"*/{CONFIG}")):
            denoiser = load_denoiser(folder, device, precision)
            target = target_of(denoiser.config)
            if target in (MIXTURE, STEMS):
                raise UserError(f"{folder}: this model has target {target!r}; weak MSDM needs one model per label")
            if target in loaded:
                raise UserError(f"{folder}: {models} holds two models of {target!r}; name the folders one by one")
            loaded[target] = denoiser
        if loaded:
            order = next(iter(loaded.values())).config["labels"]
            loaded = dict(sorted(loaded.items(), key=lambda item: [*order, item[0]].index(item[0])))
    if not loaded:
        raise UserError(f"{models}: no models found; name the folders of one model per stem")
    configs = {label: denoiser.config for label, denoiser in loaded.items()}
    first = next(iter(configs))
    for label, config in configs.items():
        for key in ("sample_rate", "window"):
            if config[key] != configs[first][key]:
                raise UserError(
                    f"the models of {label} and {first} do not belong together: {key} is {config[key]} and "
                    f"{configs[first][key]}"
                )
    return WeakMSDM(loaded, configs[first], device=device, max_batch=max_batch, fixed_batch=fixed_batch, clamp=clamp)
