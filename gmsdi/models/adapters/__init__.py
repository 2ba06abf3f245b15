"""Models of others as models of this package: by their parameterisation (here), or by their checkpoints (`adp`)."""

from gmsdi.models.adapters.parameterisations import Adapted, from_eps, from_flow, from_v

__all__ = ["Adapted", "from_eps", "from_flow", "from_v"]
