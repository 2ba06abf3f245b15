"""Published weights of other people's networks: found or downloaded, verified, and read without running their code."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gmsdi.errors import UserError
from gmsdi.io.transfer import Entry, ProgressBar, check, fetch


@dataclass(frozen=True)
class Weights:
    """A published file.

    Attributes:
        url: Where it can be downloaded.
        sha256: Digest of its content, 64 hexadecimal digits.
        megabytes: Its size, for messages.
    """

    url: str
    sha256: str
    megabytes: int

    @property
    def filename(self) -> str:
        """The last part of the URL."""
        return self.url.rsplit("/", 1)[-1]

    def file(self, path: str | Path | None = None) -> Path:
        """Return a file with this content: `path`, or else a download, which is kept.

        Downloads are in the cache of `torch.hub` (`~/.cache/torch/hub/checkpoints`, or below TORCH_HOME), so that a
        file that another library has downloaded is reused.

        Raises:
            UserError: if `path` is not a file, the content has a different digest, or the download fails.
        """
        entry = Entry(self.filename, self.url, f"sha256:{self.sha256}")
        if path is not None:
            file = Path(path).expanduser()
            if not file.is_file():
                raise UserError(f"{file}: no such file; download {self.url} there")
            check(entry, file, f"download {self.url} again, or give no path to have that done")
            return file
        import torch

        file = Path(torch.hub.get_dir()) / "checkpoints" / self.filename
        if not file.exists():
            print(f"Downloading {self.url} ({self.megabytes} MB) to {file}", file=sys.stderr, flush=True)
        return fetch(entry, file, progress=ProgressBar() if sys.stderr.isatty() else None)


def pinned(published: Weights, sha256: str | None) -> Weights:
    """The same file with another digest, for weights trained or converted elsewhere; None keeps the digest."""
    return published if sha256 is None else replace(published, sha256=sha256.lower())


def read_torch(file: Path, *, mmap: bool = False) -> Any:
    """Read a file by `torch.save`: tensors, containers and NumPy scalars, on the CPU; no other pickled objects.

    Args:
        file: The file to read.
        mmap: Leave the tensors in the file until they are used; needs the format of PyTorch 1.6 or later.

    Raises:
        UserError: if it is not such a file or contains other objects.
    """
    import torch

    # Training scripts store losses and scores as NumPy scalars, whose type has had two names.
    scalar: Any = np.float64(0).__reduce__()[0]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    dtypes = [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64)]
    try:
        with torch.serialization.safe_globals([*names, np.dtype, *dtypes]):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file}: not a file of weights ({reason}); download it again") from error
