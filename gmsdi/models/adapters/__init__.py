"""Adapters for third-party models, by their parameterisation or from their checkpoints.

`pipelines` opens those of diffusers, with one module per family; `adp` converts those of audio-diffusion-pytorch;
`priors` combines several models of single stems into one.
"""

from gmsdi.models.adapters.parameterisations import Adapted, from_eps, from_flow, from_v
from gmsdi.models.adapters.priors import priors

__all__ = ["Adapted", "from_eps", "from_flow", "from_v", "priors"]
