"""Launches the kernels: what the triton backend computes, as an ``Engine``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from triton.runtime.errors import OutOfResources

from theria.attention.canonical_problem import AttentionSettings
from theria.attention.dtypes import accumulator
from theria.attention.engine_protocol import Cotangents, Directions, Gradients, Saved
from theria.attention.execution_record import record
from theria.attention.triton import blocks, first_order
from theria.attention.triton.double_backward import double_backward_kernel
from theria.attention.triton.forward import forward_kernel
from theria.attention.triton.jvp import jvp_kernel, row_statistics_kernel
from theria.attention.triton.kernel import Kernel, interprets
from theria.attention.triton.operands import Strided, mask_operand, operand, product_precision, result, strided
from theria.attention.triton.vjp import vjp_key_kernel, vjp_query_kernel


class TritonEngine:
    """Fused kernels on CUDA tensors, and on CPU tensors through the interpreter."""

    name = "triton"

    def __init__(self) -> None:
        #: By variant of a kernel, the first of the sizes that `blocks.choose` offers that fits the GPU.
        self._fitting: dict[tuple[Any, ...], int] = {}

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, settings: AttentionSettings
    ) -> tuple[Tensor, Tensor]:
        """See ``Engine``."""
        _check(q, k, v)
        record(self.name)
        if kernel := first_order.choose_kernel(q, k, v, mask, settings):
            return first_order.compute_forward(kernel, q, k, v, settings)
        launch = _Launch(q, k, v, mask, settings, self._fitting)
        out = result(q, (*q.shape[:3], v.shape[3]))
        lse = launch.row_statistic()
        launch.by_query(forward_kernel, "forward", operand(q), operand(k), operand(v), out, lse)
        return out.to(q.dtype), lse

    def vjp(
        self, saved: Saved, cotangents: Cotangents, settings: AttentionSettings, *, mask_gradient: bool
    ) -> Gradients:
        """See ``Engine``."""
        inputs = (saved.q, saved.k, saved.v)
        kernel = first_order.choose_kernel(*inputs, saved.mask, settings)
        if kernel and cotangents.lse is None:
            return *first_order.compute_vjp(kernel, inputs, saved.out, saved.lse, cotangents.out, settings), None
        launch = _Launch(saved.q, saved.k, saved.v, saved.mask, settings, self._fitting)
        q, k, v, out, dout = (operand(x) for x in (saved.q, saved.k, saved.v, saved.out, cotangents.out))
        lse = saved.lse.contiguous()
        dq, dk, dv = (result(x, tuple(x.shape)) for x in (saved.q, saved.k, saved.v))
        delta = launch.row_statistic()
        dlse, has_dlse = launch.lse_cotangent(cotangents)
        dmask, dmask_operand, wide = launch.mask_gradient(saved.mask if mask_gradient else None)
        launch.by_query(
            vjp_query_kernel, "vjp_query", q, k, v, out, lse, dout, dlse, dq, delta, *dmask_operand,
            MASK_GRADIENT=mask_gradient, **has_dlse, **wide,
        )  # fmt: skip
        launch.by_key(vjp_key_kernel, "vjp_key", q, k, v, lse, dout, delta, dk, dv)
        return _cast(saved, dq, dk, dv, dmask)

    def jvp(self, saved: Saved, directions: Directions, settings: AttentionSettings) -> tuple[Tensor, Tensor]:
        """See ``Engine``."""
        launch = _Launch(saved.q, saved.k, saved.v, saved.mask, settings, self._fitting)
        inputs, statistics = launch.second_order_inputs(saved, directions), launch.row_statistics()
        flags = {"HAS_E": directions.mask is not None, "GRADIENTS": False}
        out_dot = result(saved.q, tuple(saved.out.shape))
        unused = inputs[0]
        launch.by_query(
            row_statistics_kernel, "statistics", *inputs, unused, *statistics, unused, HAS_DLSE=False, **flags
        )
        _, gmask_operand, wide = launch.mask_gradient(None)
        launch.by_query(
            jvp_kernel, "jvp", *inputs, unused, *statistics, out_dot, unused, *gmask_operand,
            MASK_GRADIENT=False, **flags, **wide,
        )  # fmt: skip
        return out_dot.to(saved.q.dtype), statistics[1]

    def double_backward(
        self,
        saved: Saved,
        cotangents: Cotangents,
        directions: Directions,
        settings: AttentionSettings,
        *,
        mask_gradient: bool,
    ) -> tuple[Gradients, Tensor, Tensor]:
        """See ``Engine``."""
        launch = _Launch(saved.q, saved.k, saved.v, saved.mask, settings, self._fitting)
        statistics = launch.row_statistics()
        inputs = (*launch.second_order_inputs(saved, directions), operand(cotangents.out), *statistics)
        has_e = directions.mask is not None
        gq, gk, gv = (result(x, tuple(x.shape)) for x in (saved.q, saved.k, saved.v))
        out_dot = result(saved.q, tuple(saved.out.shape))
        dlse, has_dlse = launch.lse_cotangent(cotangents)
        gmask, gmask_operand, wide = launch.mask_gradient(saved.mask if mask_gradient else None)
        launch.by_query(row_statistics_kernel, "statistics", *inputs, dlse, HAS_E=has_e, GRADIENTS=True, **has_dlse)
        launch.by_query(
            jvp_kernel, "jvp", *inputs, out_dot, gq, *gmask_operand,
            HAS_E=has_e, GRADIENTS=True, MASK_GRADIENT=mask_gradient, **wide,
        )  # fmt: skip
        launch.by_key(double_backward_kernel, "double_backward", *inputs, gk, gv, HAS_E=has_e)
        return _cast(saved, gq, gk, gv, gmask), out_dot.to(saved.q.dtype), statistics[1]


class _Launch:
    """What the kernels of one computation have in common: the problem, and how large their tiles are."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        settings: AttentionSettings,
        fitting: dict[tuple[Any, ...], int],
    ) -> None:
        self._fitting = fitting
        self._shape = q.shape[:3]
        self._like = q
        self._key_heads, self._keys = k.shape[1:3]
        self._widths = (q.shape[3], v.shape[3])
        self._left, self._right = settings.span
        self._interpreted = interprets(q)
        mask_kind, shown = mask_operand(mask, q)
        seed = q if settings.seed is None else settings.seed
        slopes = self._stand_in() if settings.slopes is None else strided(settings.slopes[:, :, None, None])
        self._problem = (
            self._number(settings.scale),
            seed,
            settings.dropout_p,
            self._number(settings.softcap or 1.0),
            *slopes[:3],
            *shown,
            q.shape[1],
            self._key_heads,
            q.shape[2],
            self._keys,
            self._left or 0,
            self._right or 0,
        )
        self._flags = {
            "LEFT": self._left is not None,
            "RIGHT": self._right is not None,
            "MASK": mask_kind,
            "DROPOUT": settings.seed is not None,
            "CAP": settings.softcap is not None,
            "ALIBI": settings.slopes is not None,
        }
        self._precision = "ieee" if self._interpreted else product_precision(q.dtype, max(self._widths))

    def _number(self, x: float) -> Tensor | float:
        """A compiled kernel's float argument is float32, and the interpreter takes a number for one of Python's."""
        in_memory = self._like.dtype == torch.float64 or self._interpreted
        return self._like.new_full((1,), x, dtype=accumulator(self._like.dtype)) if in_memory else x

    def by_query(self, kernel: Kernel, task: blocks.Task, *args: Any, **flags: Any) -> None:
        """Launch a kernel with one program a block of queries and (batch, head)."""
        batch, heads, queries = self._shape
        self._run(kernel, task, lambda sizes: _ceil(queries, sizes.queries) * batch * heads, args, flags)

    def by_key(self, kernel: Kernel, task: blocks.Task, *args: Any, **flags: Any) -> None:
        """Launch a kernel with one program a block of keys and (batch, key head)."""
        heads = self._shape[0] * self._key_heads
        self._run(kernel, task, lambda sizes: _ceil(self._keys, sizes.keys) * heads, args, flags)

    def _run(
        self,
        kernel: Kernel,
        task: blocks.Task,
        count_programs: Callable[[blocks.Blocks], int],
        args: tuple[Any, ...],
        flags: dict[str, Any],
    ) -> None:
        """Launch with the first sizes that fit this GPU."""
        width, value_width = self._widths
        if self._interpreted:
            candidates: tuple[blocks.Blocks, ...] = (blocks.choose_interpreted(self._shape[2], self._keys),)
        else:
            crowded = self._flags["CAP"] and self._flags["ALIBI"]
            candidates = blocks.choose(task, max(self._widths), self._like.dtype, crowded=crowded)
        variant = (
            kernel, self._like.dtype, self._like.device, *self._widths,
            *self._flags.values(), *flags.values(),
        )  # fmt: skip
        first = self._fitting.get(variant, 0)
        for i, sizes in enumerate(candidates[first:], first):
            try:
                kernel[(count_programs(sizes),)](
                    *args, *self._problem,
                    D=width, DV=value_width,
                    EDGES=self._count_edges(task, sizes), PRECISION=self._precision,
                    BLOCK_T=sizes.queries, BLOCK_M=sizes.keys,
                    BLOCK_D=blocks.padded(width), BLOCK_DV=blocks.padded(value_width),
                    num_warps=sizes.warps, num_stages=sizes.stages, **self._flags, **flags,
                )  # fmt: skip
            except OutOfResources:
                if i + 1 == len(candidates):
                    raise
            else:
                self._fitting[variant] = i
                return

    def _count_edges(self, task: blocks.Task, sizes: blocks.Blocks) -> int:
        """1 where every tile is seen whole, 2 with tiles at the right edge, 3 with tiles at the left one too."""
        if self._left is not None:
            return 3
        ragged = task not in blocks.BY_KEY and self._keys % sizes.keys != 0
        return 2 if self._right is not None or ragged else 1

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

    def lse_cotangent(self, cotangents: Cotangents) -> tuple[Tensor, dict[str, bool]]:
        """dl for a kernel, and whether there is any."""
        dlse = cotangents.lse
        return (self._like if dlse is None else dlse.contiguous()), {"HAS_DLSE": dlse is not None}

    def mask_gradient(self, mask: Tensor | None) -> tuple[Tensor | None, Strided, dict[str, bool]]:
        """Zeros of the mask's shape to add to, the same with strides, and which of its last dimensions are not 1."""
        if mask is None:
            return None, self._stand_in(), {"WIDE_T": False, "WIDE_M": False}
        gradient = torch.zeros(mask.shape, dtype=accumulator(self._like.dtype), device=mask.device)
        return gradient, strided(gradient), {"WIDE_T": mask.shape[2] > 1, "WIDE_M": mask.shape[3] > 1}

    def _stand_in(self) -> Strided:
        """A valid pointer for a kernel that reads nothing there."""
        return (self._like, 0, 0, 0, 0)


def _ceil(count: int, size: int) -> int:
    return (count + size - 1) // size


def _cast(saved: Saved, dq: Tensor, dk: Tensor, dv: Tensor, dmask: Tensor | None) -> Gradients:
    """Back to the dtypes of the inputs."""
    dtype = saved.q.dtype
    if dmask is not None and saved.mask is not None:
        dmask = dmask.to(saved.mask.dtype)
    return dq.to(dtype), dk.to(dtype), dv.to(dtype), dmask


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Refuse what the kernels do not have, by the name of the argument."""
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
