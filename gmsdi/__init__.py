"""Generalized Multi-Source Diffusion Inference for text-conditioned music diffusion models."""

__version__ = "0.1.0"
