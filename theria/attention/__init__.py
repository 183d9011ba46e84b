"""Softmax attention with right first and second derivatives, on three backends."""

from theria.attention.drop_in import sdpa
from theria.attention.everywhere import everywhere
from theria.attention.execution_record import executed_backends
from theria.attention.functions import DerivativeOrderError
from theria.attention.registry import attention, backend_names
from theria.attention.varlen import varlen_attention

__all__ = [
    "DerivativeOrderError",
    "attention",
    "backend_names",
    "everywhere",
    "executed_backends",
    "sdpa",
    "varlen_attention",
]
