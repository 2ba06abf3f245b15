"""Audio as arrays and files.

`reading` opens files and reads them block by block, those of libsndfile itself and others by `ffmpeg`; `completeness`
tells whether a file is cut off, `checks` what is taken for audio at all; `signals` resamples and cuts; `writing`
writes.
"""

from gmsdi.io.audio.reading import SUFFIXES, Source, as_source, opened, read
from gmsdi.io.audio.signals import Audio, Samples, fit, resample, resampled, rounded, to_int16
from gmsdi.io.audio.writing import Encoding, Target, mark_of, marked, write, write_all, writing

__all__ = [
    "SUFFIXES",
    "Audio",
    "Encoding",
    "Samples",
    "Source",
    "Target",
    "as_source",
    "fit",
    "mark_of",
    "marked",
    "opened",
    "read",
    "resample",
    "resampled",
    "rounded",
    "to_int16",
    "write",
    "write_all",
    "writing",
]
