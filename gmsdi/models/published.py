"""Models of this package with the methods that users of Hugging Face's libraries know, such as `from_pretrained`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Self

import torch
from safetensors import safe_open

from gmsdi.errors import UserError
from gmsdi.io.device import resolve_precision
from gmsdi.models import hub, registry
from gmsdi.models.checkpoint import save_model
from gmsdi.models.edm.denoiser import TextDenoiser


class GMSDI(TextDenoiser):
    """A diffusion model of mixtures that is read from the hub or a folder, and written there.

        model = GMSDI.from_pretrained("owner/name")
        model.push_to_hub("me/mine", licence="mit")

    Its methods and their arguments are called as those of huggingface_hub's `ModelHubMixin`. It does not inherit from
    that class, which would write the arguments of the constructor for `config.json`, and upload without a licence.

    Attributes:
        provenance: the text of the model's `provenance.json`; empty if it has none.
        stored: the type of the weights in its file.
    """

    provenance: str = ""
    stored: torch.dtype = torch.float32

    @classmethod
    def from_pretrained(
        cls,
        where: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> Self:
        """Open a model.

        Args:
            where: `owner/name` on the hub, a model folder, or the name of a bundled model.
            revision: branch, tag or commit of the repository on the hub, which may also be a part of its name,
                `owner/name@revision`.
            token: see `gmsdi.models.hub.download`.
            device: see `gmsdi.load`.
            precision: see `gmsdi.load`.

        Raises:
            UserError: if there is no such model or revision, the device does not exist, or a revision is named twice or
                of what is not on the hub.
        """
        folder = _downloaded(str(where), revision, token) if hub.is_id(where) else registry.folder_of(where)
        if revision is not None and not hub.is_id(where):
            raise UserError(f"{where}: not on the Hugging Face Hub, so that it has no revision; leave it out")
        # Not opened in bf16, which rounds the weights: they may be trained further and saved.
        opened = registry.open_folder(folder, device=device, precision="float32")
        model = cls(opened.net, opened.text, opened.sigma_data, opened.config).eval()
        model.autocast = resolve_precision(precision, opened.device)
        if (folder / hub.PROVENANCE).is_file():
            model.provenance = (folder / hub.PROVENANCE).read_text(encoding="utf-8")
        with safe_open(folder / hub.WEIGHTS, "pt") as file:
            model.stored = file.get_tensor(next(iter(file.keys()))).dtype
        return model

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write a model folder with weights of dtype `stored`, see `gmsdi.models.checkpoint.save_model`."""
        facts = {hub.PROVENANCE: self.provenance} if self.provenance else None
        save_model(save_directory, self, facts, dtype=self.stored)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        licence: str,
        results: str | Path | None = None,
        private: bool = False,
        token: str | bool | None = None,
        commit_message: str = "Upload a gmsdi model",
    ) -> str:
        """Upload the model with a card, see `gmsdi.models.hub.push`; returns the address.

        Raises:
            UserError: if the repository may not be written to, or there is no connection.
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            self.save_pretrained(folder)
            return hub.push(
                folder,
                repo_id,
                licence=licence,
                results=results,
                private=private,
                token=token,
                commit_message=commit_message,
            )


def _downloaded(where: str, revision: str | None, token: str | bool | None) -> Path:
    """The folder of a repository on the hub.

    Raises:
        UserError: if it cannot be read, or holds no model of this package.
    """
    if revision is not None:
        if "@" in where:
            raise UserError(f"{where}: names its revision, and {revision!r} is given, too; choose one")
        where = f"{where}@{revision}"
    folder = hub.download(where, token=token)
    if not (folder / hub.WEIGHTS).is_file():
        raise UserError(f"{where}: holds no model of gmsdi ({hub.CONFIG} and {hub.WEIGHTS}); use gmsdi.load for others")
    return folder
