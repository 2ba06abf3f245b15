"""Models of others as models of this package: by their parameterisation, or by their checkpoints.

`pipelines` opens those of diffusers, one module per family; `adp` takes over audio-diffusion-pytorch's; `priors` makes
one model of several of single stems.
"""

from gmsdi.models.adapters.parameterisations import Adapted, from_eps, from_flow, from_v
from gmsdi.models.adapters.priors import priors

__all__ = ["Adapted", "from_eps", "from_flow", "from_v", "priors"]
