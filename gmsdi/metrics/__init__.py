"""Scores of separated stems (SI-SDRi, BSS Eval) and of generated music (Fréchet audio distance, coherence)."""

SUBWINDOW = 4.0
"""Seconds of a sub-window in MSDM's protocol for SI-SDRi."""
HOP = 2.0
"""Seconds from one sub-window to the next. A signal that is no longer than their overlap has no sub-window."""
