"""theria-lint: find what may cut the autograd graph in attention code, run it, and report what is true."""

from theria.version import __version__

__all__ = ["__version__"]
