"""Which lengths overlapping windows fill. No torch, so that a configuration can be checked without it."""

from __future__ import annotations

OVERLAP = 0.25
"""Overlap of neighbouring windows of a longer signal, as a share of the window."""


def overlap_of(window: int) -> int:
    """The overlap of neighbouring windows, in steps of a state."""
    return max(1, round(OVERLAP * window))


def fills(length: int, window: int) -> bool:
    """Whether one or more overlapping windows fill a length exactly (`gmsdi.sampling.session.over_windows`)."""
    return length >= window and (length - window) % (window - overlap_of(window)) == 0
