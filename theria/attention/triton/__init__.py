"""The triton backend: fused kernels for forward, VJP, JVP and double backward.

No (T × M) tensor is kept in memory, except the gradient of an additive mask that is that large itself.
CUDA tensors run compiled kernels; CPU tensors run the same kernels through Triton's interpreter.
"""

from theria.attention.triton.engine import TritonEngine

__all__ = ["TritonEngine"]
