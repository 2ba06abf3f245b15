"""The four tasks on songs: files or arrays of any rate, number of channels and length.

A song is resampled to the model's rate and back. A model of one channel separates the channels of a song one by one,
with the same noise. A song that is louder or softer by a factor gives stems that are, if the model knows its `level`;
and where the song is silent, so are they.

Songs of any length are separated in little memory: in blocks of `BLOCK` seconds, each of which is sampled as a whole,
and which overlap as windows do and are cross-faded. A `Separation` reads a song block by block and hands its stems out
in the same way; `separate` and `extract` collect them.

`model` is a `gmsdi.models.protocol.Model`, what `gmsdi.load` takes, or a `Session`, whose model and batch are used.
"""

from gmsdi.song.blocks import BLOCK, Separation
from gmsdi.song.generating import GENERATION, GENERATION_GUIDANCE, GenerationMethod, accompany, generate
from gmsdi.song.separating import extract, require_extractor, separate, separation
from gmsdi.song.signals import AnyModel, AnySource

__all__ = [
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
    "require_extractor",
    "separate",
    "separation",
]
