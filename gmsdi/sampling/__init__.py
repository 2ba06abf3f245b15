"""Schedules, samplers, noise and guidance: all that turns a denoiser into samples. Nothing here knows of sources."""
