"""Generalized Multi-Source Diffusion Inference for text-conditioned music diffusion models.

    model = gmsdi.load("mini")
    stems = gmsdi.separate(model, "song.wav", ["Bass", "Drums", "Guitar", "Piano"])
    stems.save("song")

`load` is `gmsdi.models.registry.load`; `separate`, `extract`, `generate` and `accompany` are those of `gmsdi.song`;
`GMSDI`, with `from_pretrained` and `push_to_hub`, is `gmsdi.models.published.GMSDI`. They are imported when they are
used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmsdi.models.published import GMSDI
    from gmsdi.models.registry import load
    from gmsdi.song import accompany, extract, generate, separate

__version__ = "0.1.0"
__all__ = ["GMSDI", "accompany", "extract", "generate", "load", "separate"]
_HOMES = {"GMSDI": "gmsdi.models.published", "load": "gmsdi.models.registry"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "gmsdi.song")), name)
