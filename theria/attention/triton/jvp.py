"""The JVP kernel, which also is the first pass of the double backward: it leaves the statistics of the rows."""

import triton.language as tl

from theria.attention.triton.kernel import Kernel
from theria.attention.triton.tiles import (
    gather,
    load_lse,
    load_rows,
    row_sum,
    store_rows,
    tile_logits,
    tile_logits_dot,
)


@Kernel
def jvp_kernel(  # type: ignore[no-untyped-def]
    q, k, v, out, lse, a, b, c, e, e_b, e_h, e_t, e_m, dout, out_dot, delta, t, r,
    scale, mask, mask_b, mask_h, mask_t, mask_m, H, HK, T, M,
    D: tl.constexpr, DV: tl.constexpr, CAUSAL: tl.constexpr, MASK: tl.constexpr,
    HAS_E: tl.constexpr, STATISTICS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """Ȯ = (P∘Ṡ) V + P C − t·O by query block, in one sweep over the keys.

    With ``STATISTICS`` also δ, t and r = rowsum(P∘G), each (B, H, T). Since dO · (P∘Ṡ) V = rowsum(P∘dP∘Ṡ) and
    dO · P C = rowsum(P∘dO Cᵀ), r = dO · Ȯ − t·δ: no score-shaped product with dO is needed here.
    """
    blocks = (T + BLOCK_T - 1) // BLOCK_T
    head = (tl.program_id(0) // blocks).to(tl.int64)
    key_head = (head // H) * HK + (head % H) // (H // HK)
    rows = (tl.program_id(0) % blocks) * BLOCK_T + tl.arange(0, BLOCK_T)
    factor = tl.load(scale)
    mask += (head // H) * mask_b + (head % H) * mask_h
    e += (head // H) * e_b + (head % H) * e_h
    q_rows = load_rows(q + head * T * D, rows, T, D, BLOCK_D)
    a_rows = load_rows(a + head * T * D, rows, T, D, BLOCK_D)
    row_lse = load_lse(lse + head * T, rows, T)
    row_t = tl.full([BLOCK_T], 0.0, lse.dtype.element_ty)
    summed = tl.full([BLOCK_T, BLOCK_DV], 0.0, lse.dtype.element_ty)
    end = M
    if CAUSAL:
        end = tl.minimum(M, (tl.program_id(0) % blocks + 1) * BLOCK_T)
    for start in range(0, end, BLOCK_M):
        columns = start + tl.arange(0, BLOCK_M)
        k_rows = load_rows(k + key_head * M * D, columns, M, D, BLOCK_D)
        b_rows = load_rows(b + key_head * M * D, columns, M, D, BLOCK_D)
        v_rows = load_rows(v + key_head * M * DV, columns, M, DV, BLOCK_DV)
        c_rows = load_rows(c + key_head * M * DV, columns, M, DV, BLOCK_DV)
        logits = tile_logits(
            q_rows, k_rows, rows[:, None], columns[None, :], T, M, factor, mask, mask_t, mask_m, CAUSAL, MASK, False
        )
        logits_dot = tile_logits_dot(
            q_rows, a_rows, k_rows, b_rows, rows[:, None], columns[None, :], T, M, factor, e, e_t, e_m, HAS_E, False
        )
        weights = tl.exp(logits - row_lse[:, None])
        row_t += row_sum(weights * logits_dot)
        summed = gather(weights * logits_dot, v_rows, summed)
        summed = gather(weights, c_rows, summed)
    out_rows = load_rows(out + head * T * DV, rows, T, DV, BLOCK_DV).to(lse.dtype.element_ty)
    out_dot_rows = summed - row_t[:, None] * out_rows
    store_rows(out_dot + head * T * DV, rows, T, DV, BLOCK_DV, out_dot_rows)
    if STATISTICS:
        dout_rows = load_rows(dout + head * T * DV, rows, T, DV, BLOCK_DV).to(lse.dtype.element_ty)
        row_delta = row_sum(dout_rows * out_rows)
        tl.store(delta + head * T + rows, row_delta, mask=rows < T)
        tl.store(t + head * T + rows, row_t, mask=rows < T)
        tl.store(r + head * T + rows, row_sum(dout_rows * out_dot_rows) - row_t * row_delta, mask=rows < T)
