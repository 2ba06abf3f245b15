"""Scores of separations (SI-SDRi) and of generations (Fréchet audio distance)."""
