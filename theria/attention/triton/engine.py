"""Launches the kernels: what the triton backend computes, as an ``Engine``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from theria.attention.canonical_problem import AttentionSettings
from theria.attention.dtypes import accumulator
from theria.attention.engine_protocol import Directions, Gradients, Saved
from theria.attention.execution_record import record
from theria.attention.triton import blocks
from theria.attention.triton.double_backward import double_backward_kernel
from theria.attention.triton.forward import forward_kernel
from theria.attention.triton.jvp import jvp_kernel, row_statistics_kernel
from theria.attention.triton.kernel import interprets
from theria.attention.triton.operands import Strided, mask_operand, operand, result, strided
from theria.attention.triton.vjp import vjp_key_kernel, vjp_query_kernel


class TritonEngine:
    """Fused kernels on CUDA tensors, and on CPU tensors through the interpreter."""

    name = "triton"

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, settings: AttentionSettings
    ) -> tuple[Tensor, Tensor]:
        """See ``Engine``."""
        _check(q, k, v)
        record(self.name)
        launch = _Launch(q, k, v, mask, settings, second_order=False)
        out = result(q, (*q.shape[:3], v.shape[3]))
        lse = launch.row_statistic()
        forward_kernel[launch.over_queries](
            operand(q), operand(k), operand(v), out, lse, *launch.common, **launch.options
        )
        return out.to(q.dtype), lse

    def vjp(self, saved: Saved, dout: Tensor, settings: AttentionSettings, *, mask_gradient: bool) -> Gradients:
        """See ``Engine``."""
        launch = _Launch(saved.q, saved.k, saved.v, saved.mask, settings, second_order=False)
        q, k, v, out, dout = (operand(x) for x in (saved.q, saved.k, saved.v, saved.out, dout))
        lse = saved.lse.contiguous()
        dq, dk, dv = (result(x, tuple(x.shape)) for x in (saved.q, saved.k, saved.v))
        delta = launch.row_statistic()
        dmask, dmask_operand, wide = launch.mask_gradient(saved.mask if mask_gradient else None)
        vjp_query_kernel[launch.over_queries](
            q, k, v, out, lse, dout, dq, delta, *dmask_operand, *launch.common,
            MASK_GRADIENT=mask_gradient, **wide, **launch.options,
        )  # fmt: skip
        vjp_key_kernel[launch.over_keys](q, k, v, lse, dout, delta, dk, dv, *launch.common, **launch.options)
        return _cast(saved, dq, dk, dv, dmask)

    def jvp(self, saved: Saved, directions: Directions, settings: AttentionSettings) -> Tensor:
        """See ``Engine``."""
        launch = _Launch(saved.q, saved.k, saved.v, saved.mask, settings, second_order=True)
        inputs, statistics = launch.second_order_inputs(saved, directions), launch.row_statistics()
        flags = {"HAS_E": directions.mask is not None, "GRADIENTS": False}
        out_dot = result(saved.q, tuple(saved.out.shape))
        unused = inputs[0]
        row_statistics_kernel[launch.over_queries](
            *inputs, unused, *statistics, *launch.common, **flags, **launch.options
        )
        _, gmask_operand, wide = launch.mask_gradient(None)
        jvp_kernel[launch.over_queries](
            *inputs, unused, *statistics, out_dot, unused, *gmask_operand, *launch.common,
            MASK_GRADIENT=False, **flags, **wide, **launch.options,
        )  # fmt: skip
        return out_dot.to(saved.q.dtype)

    def double_backward(
        self, saved: Saved, dout: Tensor, directions: Directions, settings: AttentionSettings, *, mask_gradient: bool
    ) -> tuple[Gradients, Tensor]:
        """See ``Engine``."""
        launch = _Launch(saved.q, saved.k, saved.v, saved.mask, settings, second_order=True)
        inputs = (*launch.second_order_inputs(saved, directions), operand(dout), *launch.row_statistics())
        has_e = directions.mask is not None
        gq, gk, gv = (result(x, tuple(x.shape)) for x in (saved.q, saved.k, saved.v))
        out_dot = result(saved.q, tuple(saved.out.shape))
        gmask, gmask_operand, wide = launch.mask_gradient(saved.mask if mask_gradient else None)
        row_statistics_kernel[launch.over_queries](
            *inputs, *launch.common, HAS_E=has_e, GRADIENTS=True, **launch.options
        )
        jvp_kernel[launch.over_queries](
            *inputs, out_dot, gq, *gmask_operand, *launch.common,
            HAS_E=has_e, GRADIENTS=True, MASK_GRADIENT=mask_gradient, **wide, **launch.options,
        )  # fmt: skip
        double_backward_kernel[launch.over_keys](*inputs, gk, gv, *launch.common, HAS_E=has_e, **launch.options)
        return _cast(saved, gq, gk, gv, gmask), out_dot.to(saved.q.dtype)


class _Launch:
    """Grids, arguments and options that the kernels of one computation have in common."""

    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, settings: AttentionSettings, *, second_order: bool
    ) -> None:
        (batch, heads, queries, width), (key_heads, keys, value_width) = q.shape, (*k.shape[1:3], v.shape[3])
        self._shape = (batch, heads, queries)
        self._like = q
        sizes = blocks.choose(
            max(width, value_width),
            q.dtype,
            rows=max(queries, keys),
            interpreted=interprets(q),
            second_order=second_order,
        )
        self.over_queries = (_ceil(queries, sizes.queries) * batch * heads,)
        self.over_keys = (_ceil(keys, sizes.keys) * batch * key_heads,)
        # a kernel's float argument would be rounded to float32
        scale = torch.full((1,), settings.scale, dtype=accumulator(q.dtype), device=q.device)
        shown = mask_operand(mask, scale)
        self.common = (scale, *shown.strided, heads, key_heads, queries, keys)
        self.options: dict[str, Any] = {
            "D": width, "DV": value_width, "CAUSAL": settings.is_causal, "MASK": shown.kind,
            "BLOCK_T": sizes.queries, "BLOCK_M": sizes.keys,
            "BLOCK_D": blocks.padded(width), "BLOCK_DV": blocks.padded(value_width),
            "num_warps": sizes.warps, "num_stages": sizes.stages,
        }  # fmt: skip

    def row_statistic(self) -> Tensor:
        """An empty (B, H, T) tensor in the accumulator dtype."""
        return torch.empty(self._shape, dtype=accumulator(self._like.dtype), device=self._like.device)

    def row_statistics(self) -> tuple[Tensor, Tensor, Tensor]:
        """Room for δ, t and r."""
        return self.row_statistic(), self.row_statistic(), self.row_statistic()

    def second_order_inputs(self, saved: Saved, directions: Directions) -> tuple[Any, ...]:
        """q, k, v and lse, then A, B, C, E and E's strides."""
        e = self._stand_in() if directions.mask is None else strided(directions.mask.contiguous())
        tensors = (saved.q, saved.k, saved.v, saved.lse, directions.q, directions.k, directions.v)
        return (*(operand(x) for x in tensors), *e)

    def mask_gradient(self, mask: Tensor | None) -> tuple[Tensor | None, Strided, dict[str, bool]]:
        """Zeros of the mask's shape to add to, the same with strides, and which of its last dimensions are not 1."""
        if mask is None:
            return None, self._stand_in(), {"WIDE_T": False, "WIDE_M": False}
        gradient = torch.zeros(mask.shape, dtype=accumulator(self._like.dtype), device=mask.device)
        return gradient, strided(gradient), {"WIDE_T": mask.shape[2] > 1, "WIDE_M": mask.shape[3] > 1}

    def _stand_in(self) -> Strided:
        """A valid pointer for a kernel that reads nothing there."""
        scale: Tensor = self.common[0]
        return (scale, 0, 0, 0, 0)


def _ceil(count: int, size: int) -> int:
    return (count + size - 1) // size


def _cast(saved: Saved, dq: Tensor, dk: Tensor, dv: Tensor, dmask: Tensor | None) -> Gradients:
    """Back to the dtypes of the inputs."""
    dtype = saved.q.dtype
    if dmask is not None and saved.mask is not None:
        dmask = dmask.to(saved.mask.dtype)
    return dq.to(dtype), dk.to(dtype), dv.to(dtype), dmask


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Refuses what the kernels do not have, by the name of the argument."""
    if q.device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"q is on {q.device}: backend='triton' runs on CUDA and CPU tensors, backend='custom' anywhere"
        )
    largest = blocks.largest_head(q.dtype, interpreted=interprets(q))
    for name, x in (("q", q), ("v", v)):
        if x.shape[-1] > largest:
            raise ValueError(
                f"{name} has head dimension {x.shape[-1]}: backend='triton' goes up to {largest} for {q.dtype} on "
                f"{q.device.type}, backend='custom' has no limit"
            )
    for name, x in (("q", q), ("k", k)):
        if not x.numel():
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}: backend='triton' takes no empty tensors, backend='reference' does"
            )
