"""The four tasks on songs: files or arrays of any rate, number of channels and length.

A song is resampled to the model's rate and back. A model of one channel separates the channels of a song one by one,
with the same noise. If the model knows its `level`, the stems of a louder or softer song are louder or softer by
the same factor. Where the song is silent, its stems are silent.

Memory does not grow with the length of a song: it is separated in blocks of `BLOCK` seconds, each sampled as a whole.
Neighbouring blocks overlap as windows do, and are cross-faded. A `Separation` reads a song and yields its stems block
by block; `separate` and `extract` collect them.

`model` is a `gmsdi.models.protocol.Model`, anything that `gmsdi.load` takes, or a `Session`, of which the model and
batch are used.
"""

from gmsdi.song.blocks import BLOCK, Separation
from gmsdi.song.generating import (
    ACCOMPANIMENT_GUIDANCE,
    GENERATION,
    GENERATION_GUIDANCE,
    GenerationMethod,
    accompany,
    generate,
)
from gmsdi.song.separating import extract, separate, separation
from gmsdi.song.signals import AnyModel, AnySource, require_seconds

__all__ = [
    "ACCOMPANIMENT_GUIDANCE",
    "BLOCK",
    "GENERATION",
    "GENERATION_GUIDANCE",
    "AnyModel",
    "AnySource",
    "GenerationMethod",
    "Separation",
    "accompany",
    "extract",
    "generate",
    "require_seconds",
    "separate",
    "separation",
]
