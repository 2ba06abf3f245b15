"""Generalized Multi-Source Diffusion Inference for text-conditioned music diffusion models.

    model = gmsdi.load("mini")
    stems = gmsdi.separate(model, "song.wav", ["Bass", "Drums", "Guitar", "Piano"])
    stems.save("song")

`load` is `gmsdi.models.registry.load`; `separate`, `extract`, `generate` and `accompany` are those of `gmsdi.song`;
`GMSDI`, with `from_pretrained` and `push_to_hub`, is `gmsdi.models.published.GMSDI`. They are imported when they are
used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmsdi.models.published import GMSDI
    from gmsdi.models.registry import load
    from gmsdi.song import accompany, extract, generate, separate

__version__ = "0.1.0"
__all__ = ["GMSDI", "accompany", "extract", "generate", "load", "separate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imports rather than names in strings, so that `gmsdi.study.sources` follows them.
    if name == "GMSDI":
        from gmsdi.models.published import GMSDI

        return GMSDI
    if name == "load":
        from gmsdi.models.registry import load

        return load
    from gmsdi import song

    return getattr(song, name)
