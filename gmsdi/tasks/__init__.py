"""The four tasks on tensors of audio, one seed per item: separate, extract, generate, accompany.

They take and return signals `[..., C, T]` at the model's rate, whether its space is waveforms or latents. A `Session`
holds the model and how it is sampled. For files of any rate see `gmsdi.song`.
"""

from gmsdi.tasks.accompaniment import GivenNoise, accompany, accompany_conditioned
from gmsdi.tasks.generation import (
    TotalNoise,
    drawn_order,
    generate,
    generate_extracted,
    generate_sequential,
    sample,
)
from gmsdi.tasks.separation import Average, extract, filtered, separate

__all__ = [
    "Average",
    "GivenNoise",
    "TotalNoise",
    "accompany",
    "accompany_conditioned",
    "drawn_order",
    "extract",
    "filtered",
    "generate",
    "generate_extracted",
    "generate_sequential",
    "sample",
    "separate",
]
