"""The former place of `gmsdi.inference.wiener`."""

from gmsdi.inference.wiener import share_out, wiener

__all__ = ["share_out", "wiener"]
