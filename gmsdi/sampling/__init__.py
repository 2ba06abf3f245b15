"""Schedules, samplers, noise and guidance: everything between a denoiser and a sample, and nothing about sources."""
