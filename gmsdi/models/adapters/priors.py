"""Several models, each of one kind of sound, combined into one that is prompted by their labels, for Eq. 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.models.adapters.parameterisations import Adapted
from gmsdi.models.protocol import Model, Traits


@dataclass(frozen=True)
class _Chosen:
    """The model that each of P prompts names."""

    places: list[int]

    def select(self, index: Tensor) -> list[tuple[int, Tensor]]:
        """The models of a batch, each with its rows."""
        chosen = [self.places[i] for i in index.tolist()]
        return [
            (place, torch.tensor([row for row, other in enumerate(chosen) if other == place], device=index.device))
            for place in dict.fromkeys(chosen)
        ]


def priors(models: Mapping[str, Model]) -> Adapted:
    """Combine models of single stems into one that is prompted by their labels.

    With it, the Separator (Eq. 13) is Eq. 4, without guidance:

        model = priors({"Piano": gmsdi.load("harmonai/maestro-150k"), "Drums": gmsdi.load("my/drums")})
        gmsdi.separate(model, "song.wav", guidance=Guidance(w=0))

    None of them is a model of mixtures, which guidance, the Extractor and total generation would need.

    Args:
        models: label to a model of that stem; one with text is prompted with the label.

    Raises:
        UserError: if there is no model, their properties differ, or a prompt is not one of the labels.
    """
    if not models:
        raise UserError("no model is given; name one per stem")
    labels, parts = list(models), list(models.values())
    first = parts[0]
    for label, model in models.items():
        for key in ("sample_rate", "window", "channels"):
            own, other = getattr(model, key), getattr(first, key)
            if own != other:
                raise UserError(
                    f"the models of {label} and {labels[0]} do not belong together: {key} is {own} and {other}"
                )
    traits = Traits.of(first)
    embedded = [model.embed([label]) for label, model in models.items()]

    def embed(texts: Sequence[str | None]) -> _Chosen:
        for text in texts:
            if text is None:
                raise UserError("guidance needs a model for no prompt, and there is none; set w to 0")
            if text not in models:
                raise UserError(f"there is no model of {text!r}, only of {', '.join(labels)}")
        return _Chosen([labels.index(str(text)) for text in texts])

    def denoise(x: Tensor, sigma: Tensor, chosen: list[tuple[int, Tensor]]) -> Tensor:
        out = torch.empty_like(x)
        for place, rows in chosen:
            prompt = embedded[place].select(torch.zeros_like(rows))
            out[rows] = parts[place].denoise(x[rows], sigma[rows], prompt)
        return out

    return Adapted(
        denoise,
        embed=embed,
        sample_rate=first.sample_rate,
        window=first.window,
        channels=first.channels,
        labels=tuple(labels),
        sigma_range=(max(model.sigma_range[0] for model in parts), min(model.sigma_range[1] for model in parts)),
        sigma_data=traits.sigma_data,
        space=first.space,
        level=traits.level,
        device=traits.device,
    )
