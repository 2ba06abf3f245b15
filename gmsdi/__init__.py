"""Generalized Multi-Source Diffusion Inference for text-conditioned music diffusion models.

    model = gmsdi.load("mini")
    stems = gmsdi.separate(model, "song.wav", ["Bass", "Drums", "Guitar", "Piano"])
    stems.save("song")

`load` is `gmsdi.models.registry.load`; `separate`, `extract`, `generate` and `accompany` are those of `gmsdi.song`.
They are imported when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmsdi.models.registry import load
    from gmsdi.song import accompany, extract, generate, separate

__version__ = "0.1.0"
__all__ = ["accompany", "extract", "generate", "load", "separate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("gmsdi.models.registry" if name == "load" else "gmsdi.song"), name)
