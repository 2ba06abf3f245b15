"""What is taken for audio: sample rates, shapes and values that make sense."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmsdi.errors import UserError
from gmsdi.io.arrays import as_array
from gmsdi.io.audio.signals import Samples

RATES = (1_000, 1_000_000)
"""The lowest and the highest sample rate that are taken, in Hz."""
MAX_CHANNELS = 32
"""An array with more channels than this is taken for one whose axes are the wrong way round."""
_LOUDEST = 1e6  # a sample beyond it is no audio: floats of 16-bit integers are within 2¹⁵


def checked(samples: NDArray[np.floating], name: str, rate: int, begin: int = 0) -> Samples:
    """`samples` as float32 `[C, T]`.

    Args:
        samples: `[C, T]`, of any floating type.
        name: of what holds them, for messages.
        rate: their sample rate, in Hz.
        begin: how many samples of a channel came before.

    Raises:
        UserError: if there are none, or they are not all finite, or no audio by their size; it names the first second
            at which they are not.
    """
    if samples.ndim != 2 or samples.size == 0:
        raise UserError(f"{name}: holds no audio (shape {samples.shape}; channels x samples are expected)")
    peaks = np.abs(samples).max(axis=0)  # NaN where a sample is
    if not (fine := peaks <= _LOUDEST).all():
        place = int(np.argmin(fine))
        peak, second = float(peaks[place]), f"{(begin + place) / rate:.3f} s"
        what = f"a sample of {peak:.3g} (full scale is 1)" if math.isfinite(peak) else "NaN or infinite samples, first"
        raise UserError(f"{name}: holds {what} at {second}; repair or exclude it")
    return np.ascontiguousarray(samples, dtype=np.float32)


def require_rate(rate: Any, name: str) -> int:
    """A sample rate as a whole number.

    Raises:
        UserError: if it is none, or out of range.
    """
    number = isinstance(rate, int | float | np.integer | np.floating) and not isinstance(rate, bool)
    if not number or not RATES[0] <= rate <= RATES[1] or rate != int(rate):
        raise UserError(
            f"{name}: sample rate is {rate!r}; it must be a whole number of Hz from {RATES[0]} to {RATES[1]}"
        )
    return int(rate)


def amplitudes(source: Any, name: str, rate: int) -> Samples:
    """An array as float32 `[C, T]`, full scale ±1.

    Raises:
        UserError: for what is no array, another number of axes or type, or if the axes seem to be the wrong way round.
    """
    try:
        array = as_array(source)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{name}: a {type(source).__name__} that is no array ({error})") from error
    if array.dtype in (np.int16, np.int32):
        array = array / np.float64(-np.iinfo(array.dtype).min)
    elif array.dtype.kind != "f":
        raise UserError(f"{name}: an array of {array.dtype}; give floats within ±1, int16 or int32")
    array = np.atleast_2d(array)
    if array.ndim == 2 and array.shape[0] > MAX_CHANNELS and array.shape[0] > array.shape[1]:
        raise UserError(f"{name}: an array of shape {array.shape}, but channels come first; give its transpose")
    with np.errstate(over="ignore"):
        return checked(array.astype(np.float32), name, rate)
