"""Generalized Multi-Source Diffusion Inference: Section 3 of the paper.

Each procedure couples several signals that one text-conditioned model denoises, each with its own prompt. What the
paper writes as scores S is written here in derivative form, for the probability-flow ODE of Karras et al. 2022:

    dx/dσ = −σ·S(x, z, σ) = (x − D(x, σ, z))/σ.

A likelihood term (1/γ²)·(...) of a score thus becomes −(σ/γ²)·(...) in the derivative. Each procedure is one class,
its equation in the docstring and its code right below; the lower-case names are the same classes.

Throughout,

- the state x is `[B, S, ...]`: B independent items of S coupled rows, each a signal `[C, T]` or a latent of any shape
  with time last;
- `model(x [N, ...], sigma, prompts)` returns the denoised `[N, ...]` (`gmsdi.sampling.session.Session`, or
  `gmsdi.sampling.guidance.guided`); it is called once per evaluation of the derivative,
  with all coupled rows of all items;
- `prompts` are the K prompts of the sources, the same for every item, or a list of B such lists;
- a mixture that is given is a signal `[B, C, T]`, and `Derivative.signals` gives the sources as signals;
- sources are summed by `space` (`gmsdi.models.protocol.Space`); for waveforms this is Σ. In a space that is not
  additive they are summed as decoded signals, see `gmsdi.models.codecs.Latent`. For each item, an evaluation of the
  derivative then decodes and encodes this many signals:

      Total       K decoded, 1 encoded; none with γ_x = γ_y = ∞
      Partial     J decoded, 1 encoded; the I given ones are decoded once
      Separator   K − 1 decoded, 1 encoded; two calls of the model
      Extractor   K decoded, K encoded; two calls of the model; consistent ones twice as many signals
      Projected   K decoded, K encoded
      Conditioned J + 2 decoded, 3 encoded (2 and 2 if J = 1 or γ_x = ∞); two calls of the model

  In an additive space nothing is decoded or encoded, except by an Extractor whose `consistent` is a function: K
  decoded, K encoded;
- γ is a float, `math.inf` (the term is dropped) or a function of σ.

The results are `Derivative`s: callables `(x, sigma) -> dx/dσ` for any sampler of `gmsdi.sampling.samplers`.

The paper gives neither the values of γ, α and β, nor negative prompts for joint rows (z* is used), nor whether the
noise of the given sources is drawn anew in every step (see `Partial`).
"""

from gmsdi.inference.base import Consistency, Derivative, Guided, Join, Noise, Prompts, project
from gmsdi.inference.beyond import Conditioned, Copies, Projected, require_share
from gmsdi.inference.generation import Partial, Single, Total
from gmsdi.inference.separation import Extractor, Separator
from gmsdi.inference.wiener import ShareOut, Wiener
from gmsdi.stability import Gamma, check_stability, gamma_from_config, gamma_from_text, natural_gamma

single, total, partial = Single, Total, Partial
separator, extractor = Separator, Extractor
projected, conditioned = Projected, Conditioned

__all__ = [
    "Conditioned",
    "Consistency",
    "Copies",
    "Derivative",
    "Extractor",
    "Gamma",
    "Guided",
    "Join",
    "Noise",
    "Partial",
    "Projected",
    "Prompts",
    "Separator",
    "ShareOut",
    "Single",
    "Total",
    "Wiener",
    "check_stability",
    "conditioned",
    "extractor",
    "gamma_from_config",
    "gamma_from_text",
    "natural_gamma",
    "partial",
    "project",
    "projected",
    "require_share",
    "separator",
    "single",
    "total",
]
