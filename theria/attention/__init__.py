"""Softmax attention with right first and second derivatives, on three backends."""

from theria.attention.registry import attention, backend_names, executed_backends

__all__ = ["attention", "backend_names", "executed_backends"]
