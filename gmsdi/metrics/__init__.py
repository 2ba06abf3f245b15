"""Scores of separated stems (SI-SDRi, BSS Eval) and of generated music (Fréchet audio distance, coherence)."""
