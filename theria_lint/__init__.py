"""theria-lint: find what may cut the autograd graph in attention code, run it, and report what is true."""

__version__ = "0.1.0"
