"""theria-lint: find what may cut the autograd graph in attention code, run it, and report what is true."""

# That of theria/version.py, which a test holds it to. With -m this module runs before `__main__` has taken the working
# directory off the path: it imports nothing.
__version__ = "0.1.0"
