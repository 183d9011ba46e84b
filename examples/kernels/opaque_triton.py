"""A fused kernel whose backward launches kernels: autograd sees nothing there, and says nothing."""

import torch
import triton
import triton.language as tl


@triton.jit
def forward_kernel(Q, K, V, OUT, LSE, T, M, scale, D: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr):
    head, rows, columns, d = tl.program_id(0), tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_M), tl.arange(0, D)
    on_t, on_m = rows[:, None] < T, columns[:, None] < M
    q = tl.load(Q + (head * T + rows[:, None]) * D + d, mask=on_t, other=0.0)
    k = tl.load(K + (head * M + columns[:, None]) * D + d, mask=on_m, other=0.0)
    v = tl.load(V + (head * M + columns[:, None]) * D + d, mask=on_m, other=0.0)
    logits = tl.sum(q[:, None, :] * k[None, :, :], axis=2) * scale
    logits = tl.where(columns[None, :] < M, logits, -float("inf"))
    row_max = tl.max(logits, axis=1)
    weights = tl.exp(logits - row_max[:, None])
    total = tl.sum(weights, axis=1)
    out = tl.sum(weights[:, :, None] * v[None, :, :], axis=1) / total[:, None]
    tl.store(OUT + (head * T + rows[:, None]) * D + d, out, mask=on_t)
    tl.store(LSE + head * T + rows, row_max + tl.log(total), mask=rows < T)


@triton.jit
def backward_kernel(
    Q, K, V, OUT, LSE, DO, DQ, DK, DV, T, M, scale, D: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr
):
    head, rows, columns, d = tl.program_id(0), tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_M), tl.arange(0, D)
    on_t, on_m = rows[:, None] < T, columns[:, None] < M
    at_t, at_m = (head * T + rows[:, None]) * D + d, (head * M + columns[:, None]) * D + d
    q, do = tl.load(Q + at_t, mask=on_t, other=0.0), tl.load(DO + at_t, mask=on_t, other=0.0)
    out = tl.load(OUT + at_t, mask=on_t, other=0.0)
    k, v = tl.load(K + at_m, mask=on_m, other=0.0), tl.load(V + at_m, mask=on_m, other=0.0)
    lse = tl.load(LSE + head * T + rows, mask=rows < T, other=0.0)
    logits = tl.sum(q[:, None, :] * k[None, :, :], axis=2) * scale
    inside = (rows[:, None] < T) & (columns[None, :] < M)
    weights = tl.where(inside, tl.exp(logits - lse[:, None]), 0.0)
    d_weights = tl.sum(do[:, None, :] * v[None, :, :], axis=2)
    d_logits = weights * (d_weights - tl.sum(do * out, axis=1)[:, None]) * scale
    tl.store(DQ + at_t, tl.sum(d_logits[:, :, None] * k[None, :, :], axis=1), mask=on_t)
    tl.store(DK + at_m, tl.sum(d_logits[:, :, None] * q[:, None, :], axis=0), mask=on_m)
    tl.store(DV + at_m, tl.sum(weights[:, :, None] * do[:, None, :], axis=0), mask=on_m)


def launch_sizes(q, k):
    """The grid, the lengths and the block sizes for q (B,H,T,D) and k (B,H,M,D)."""
    batch, heads, queries, dim = q.shape
    keys = k.shape[-2]
    blocks = {"D": dim, "BLOCK_T": triton.next_power_of_2(queries), "BLOCK_M": triton.next_power_of_2(keys)}
    return (batch * heads,), queries, keys, dim**-0.5, blocks


class FusedAttention(torch.autograd.Function):
    """Softmax attention in one kernel each way, for short sequences."""

    @staticmethod
    def forward(ctx, q, k, v):
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        grid, queries, keys, scale, blocks = launch_sizes(q, k)
        out, lse = torch.empty_like(q), q.new_empty(q.shape[:-1])
        forward_kernel[grid](q, k, v, out, lse, queries, keys, scale, **blocks)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx, grad_output):
        q, k, v, out, lse = ctx.saved_tensors
        grid, queries, keys, scale, blocks = launch_sizes(q, k)
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        backward_kernel[grid](q, k, v, out, lse, grad_output.contiguous(), dq, dk, dv, queries, keys, scale, **blocks)
        return dq, dk, dv


def fused_attention(q, k, v):
    """Softmax attention of q (B,H,T,D), k (B,H,M,D), v (B,H,M,D), D a power of two."""
    return FusedAttention.apply(q, k, v)
