"""What a meta-gradient can fail of, told apart by the graph and not by the words of an exception."""

from __future__ import annotations


class UnusedParameterError(RuntimeError):
    """The loss depends on a parameter, and autograd says that it does not: the attention cuts the graph to it."""


class OnceDifferentiableError(RuntimeError):
    """The graph of the inner gradients holds the error node that ``@once_differentiable`` leaves there."""
