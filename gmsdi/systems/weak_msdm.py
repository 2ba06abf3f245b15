"""Weakly supervised MSDM (reference [14] of the paper): one unconditional denoiser D_k(x_k, σ) per stem.

Its separator is the Dirac separator of Eq. 4, and it generates single stems. The joint model is `gmsdi.systems.msdm`.
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
from gmsdi.sampling.guidance import Model, Prompt, as_prompt
from gmsdi.sampling.noise import SeededNoise
from gmsdi.sampling.solver import Callback, Solver
from gmsdi.systems.diffusion import OnWindows, load_denoiser


def per_stem(models: Mapping[str, Model]) -> Model:
    """One model out of several: each row goes to the model that its prompt names, in one batch per model.

    With it `inference.separator` is Eq. 4 and `inference.single` the generation of single stems.

    Args:
        models: label to model.

    Returns:
        A `Model` of the prompts that are labels.

    Raises:
        UserError: from the model, for any other prompt.
    """
    # The rows of each label and the way back, kept so that they are copied to the device only once.
    known: dict[tuple[str, ...], tuple[list[tuple[str, Tensor]], Tensor]] = {}

    def model(x: Tensor, sigma: float, prompts: Sequence[Prompt | str]) -> Tensor:
        texts = tuple(as_prompt(prompt).text for prompt in prompts)
        if texts not in known:
            unknown = [text for text in texts if text not in models]
            if unknown:
                raise UserError(f"there is no model of stem {unknown[0]!r}, only of {', '.join(models)}")
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
        denoisers: label to `D(x [N, 1, T], sigma [N], cond)` with `encode(texts)`. Unconditional ones are meant; one
            with text is prompted with its label.
        config: `sample_rate`, `window`, and optionally `level`.
        device: where the denoisers are.
        max_batch: items that a model denoises at once.
        fixed_batch: see `gmsdi.systems.msdm.JointMSDM`.
        clamp: limit of the denoised signal, see `gmsdi.systems.msdm.JointMSDM`.
    """

    def __init__(
        self,
        denoisers: Mapping[str, Any],
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
            stems: labels of what the mixture consists of; None is all.
            constrained: the stem that is the mixture minus the others, by index or label.
            solver: how to integrate.
            seeds: one per item.
            levels: of the piece that each item is from, see `gmsdi.pipeline.Pipeline.separate_windows`.
            callback: called with (step, steps).

        Returns:
            `[B, K, 1, T]` float32 on the CPU; the stems sum to the mixture.

        Raises:
            UserError: for input that is not finite or of another shape, or unknown stems.
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
            UserError: for an unknown stem.
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
        models: label to folder; or a folder of such model folders, which are taken in the order of the models' labels.
        device: "auto" (CUDA if there is one), or a torch device.
        precision: of the networks, see `gmsdi.pipeline.load`.
        max_batch: see `WeakMSDM`.
        fixed_batch: see `WeakMSDM`.
        clamp: see `WeakMSDM`.

    Raises:
        UserError: if a folder holds no sound model, or one of another target, or the models do not belong together, or
            the device does not exist.
    """
    device = resolve_device(device)
    if isinstance(models, Mapping):
        loaded = {label: load_denoiser(path, device, precision) for label, path in models.items()}
        for label, denoiser in loaded.items():
            target = target_of(denoiser.config)
            if target != label:
                raise UserError(f"{models[label]}: a model of target {target!r}, given as the model of {label!r}")
    else:
        loaded = {}
        for folder in sorted(path.parent for path in Path(models).glob(f"*/{CONFIG}")):
            denoiser = load_denoiser(folder, device, precision)
            target = target_of(denoiser.config)
            if target in (MIXTURE, STEMS):
                raise UserError(f"{folder}: a model of target {target!r}; weakly supervised MSDM needs one label each")
            if target in loaded:
                raise UserError(f"{folder}: a second model of {target!r} in {models}; name the folders one by one")
            loaded[target] = denoiser
        if loaded:
            order = next(iter(loaded.values())).config["labels"]
            loaded = dict(sorted(loaded.items(), key=lambda item: [*order, item[0]].index(item[0])))
    if not loaded:
        raise UserError(f"{models}: no model there; name the folders of one model per stem")
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
