"""The linter: finds what may cut the graph in attention code, runs it, and says what is true."""

__version__ = "0.1.0"
