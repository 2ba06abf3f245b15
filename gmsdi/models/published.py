"""Models of this package with the methods that users of Hugging Face's libraries know, such as `from_pretrained`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open

from gmsdi.io.device import resolve_precision
from gmsdi.models import hub, registry
from gmsdi.models.checkpoint import save_model
from gmsdi.models.edm.denoiser import TextDenoiser


class GMSDI(TextDenoiser):
    """A diffusion model of mixtures that is read from the hub or a folder, and written there.

        model = GMSDI.from_pretrained("owner/name")
        model.push_to_hub("me/mine", licence="mit")

    Attributes:
        provenance: the text of the model's `provenance.json`; empty if it has none.
        stored: the type of the weights in its file.
    """

    provenance: str = ""
    stored: torch.dtype = torch.float32

    @classmethod
    def from_pretrained(cls, where: str | Path, *, device: str = "auto", precision: str = "auto") -> Self:
        """Open a model.

        Args:
            where: `owner/name` or `owner/name@revision` on the hub, a model folder, or the name of a bundled model.
            device: see `gmsdi.load`.
            precision: see `gmsdi.load`.

        Raises:
            UserError: if there is no such model, or the device does not exist.
        """
        folder = registry.folder_of(where)
        # Not opened in bf16, which rounds the weights: they may be trained further and saved.
        opened = registry.open_folder(folder, device=device, precision="float32")
        model = cls(opened.net, opened.text, opened.sigma_data, opened.config).eval()
        model.autocast = resolve_precision(precision, opened.device)
        if (folder / hub.PROVENANCE).is_file():
            model.provenance = (folder / hub.PROVENANCE).read_text(encoding="utf-8")
        with safe_open(folder / hub.WEIGHTS, "pt") as file:
            model.stored = file.get_tensor(next(iter(file.keys()))).dtype
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a model folder with weights of dtype `stored`, see `gmsdi.models.checkpoint.save_model`."""
        save_model(folder, self, {hub.PROVENANCE: self.provenance} if self.provenance else None, dtype=self.stored)

    def push_to_hub(self, repository: str, **settings: Any) -> str:
        """Upload the model with a card; returns the address.

        Args:
            repository: `owner/name`.
            settings: those of `gmsdi.models.hub.push`; `licence` is needed.

        Raises:
            UserError: if the repository may not be written to, or there is no connection.
        """
        with tempfile.TemporaryDirectory() as temporary:
            self.save_pretrained(Path(temporary) / "model")
            return hub.push(Path(temporary) / "model", repository, **settings)
