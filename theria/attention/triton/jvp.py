"""Two passes by query block that the JVP and the double backward share: the statistics of the rows, then Ȯ.

Ȯ = Ṗ V + P C is summed from Ṗ = P∘(Ṡ − t), which takes a pass of its own to know t first. In half precision the sum
without t, (P∘Ṡ) V − t·O, rounds P∘Ṡ before it cancels, and so does r = dO·Ȯ − t·δ after it.
"""

import triton.language as tl

from theria.attention.triton.kernel import Kernel
from theria.attention.triton.tiles import (
    add_to_mask_gradient,
    gather,
    load_lse,
    load_number,
    load_rows,
    load_slope,
    pair,
    query_block,
    row_sum,
    second_order_tile,
    store_rows,
    through_cap_twice,
    tile_kept,
    tile_logits,
    tile_logits_dot,
    tile_range,
)


@Kernel
def row_statistics_kernel(  # type: ignore[no-untyped-def]
    q, k, v, lse, a, b, c, e, e_b, e_h, e_t, e_m, dout, delta, t, r, dlse,
    scale, seed, dropout, cap, slopes, slopes_b, slopes_h,
    mask, mask_b, mask_h, mask_t, mask_m, H, HK, T, M, left, right,
    D: tl.constexpr, DV: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, MASK: tl.constexpr,
    DROPOUT: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, EDGES: tl.constexpr, PRECISION: tl.constexpr,
    HAS_E: tl.constexpr, HAS_DLSE: tl.constexpr, GRADIENTS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """t and, with ``GRADIENTS``, δ − dl and r, each (B, H, T), summed in the dtype of ``lse``.

    r = rowsum(P∘G) = rowsum(P∘dP∘Ṡ) − t·δ − t·(δ − dl) + rowsum(P∘(dO Cᵀ)).
    """
    head, key_head, first, begin, whole, cut, end = query_block(T, M, H, HK, left, right, LEFT, RIGHT, BLOCK_T, BLOCK_M)
    rows = first + tl.arange(0, BLOCK_T)
    factor = load_number(scale)
    limit = load_number(cap)
    slope = load_slope(slopes, slopes_b, slopes_h, head, H, ALIBI)
    mask += (head // H) * mask_b + (head % H) * mask_h
    e += (head // H) * e_b + (head % H) * e_h
    q_rows = load_rows(q + head * T * D, first, T, D, BLOCK_T, BLOCK_D)
    a_rows = load_rows(a + head * T * D, first, T, D, BLOCK_T, BLOCK_D)
    if GRADIENTS:
        dout_rows = load_rows(dout + head * T * DV, first, T, DV, BLOCK_T, BLOCK_DV)
    row_lse = load_lse(lse + head * T, rows, T)
    row_t = tl.full([BLOCK_T], 0.0, lse.dtype.element_ty)
    row_delta = tl.full([BLOCK_T], 0.0, lse.dtype.element_ty)
    row_g = tl.full([BLOCK_T], 0.0, lse.dtype.element_ty)
    for edge in tl.static_range(EDGES):
        lower, upper = tile_range(edge, begin, whole, cut, end, False)
        for start in range(lower, upper, BLOCK_M):
            columns = start + tl.arange(0, BLOCK_M)
            k_rows = load_rows(k + key_head * M * D, start, M, D, BLOCK_M, BLOCK_D)
            b_rows = load_rows(b + key_head * M * D, start, M, D, BLOCK_M, BLOCK_D)
            logits, capped = tile_logits(
                q_rows, k_rows, rows[:, None], columns[None, :], T, M, left, right, factor, limit, slope,
                mask, mask_t, mask_m, LEFT, RIGHT, MASK, CAP, ALIBI, edge, False, PRECISION,
            )  # fmt: skip
            _, logits_dot = tile_logits_dot(
                q_rows, a_rows, k_rows, b_rows, rows[:, None], columns[None, :], T, M, factor, capped,
                e, e_t, e_m, CAP, HAS_E, False, PRECISION,
            )  # fmt: skip
            weights = tl.exp(logits - row_lse[:, None])
            row_t += row_sum(weights * logits_dot)
            if GRADIENTS:
                v_rows = load_rows(v + key_head * M * DV, start, M, DV, BLOCK_M, BLOCK_DV)
                c_rows = load_rows(c + key_head * M * DV, start, M, DV, BLOCK_M, BLOCK_DV)
                kept = tile_kept(seed, dropout, head, rows[:, None], columns[None, :], DROPOUT, lse.dtype.element_ty)
                dweights = pair(dout_rows, v_rows, False, PRECISION) * kept
                row_delta += row_sum(weights * dweights)
                row_g += row_sum(weights * (dweights * logits_dot + pair(dout_rows, c_rows, False, PRECISION) * kept))
    tl.store(t + head * T + rows, row_t, mask=rows < T)
    if GRADIENTS:
        row_r = row_g - row_t * row_delta
        if HAS_DLSE:
            row_delta -= tl.load(dlse + head * T + rows, mask=rows < T, other=0.0)
        tl.store(delta + head * T + rows, row_delta, mask=rows < T)
        tl.store(r + head * T + rows, row_r - row_t * row_delta, mask=rows < T)


@Kernel
def jvp_kernel(  # type: ignore[no-untyped-def]
    q, k, v, lse, a, b, c, e, e_b, e_h, e_t, e_m, dout, delta, t, r, out_dot,
    gq, gmask, gmask_b, gmask_h, gmask_t, gmask_m,
    scale, seed, dropout, cap, slopes, slopes_b, slopes_h,
    mask, mask_b, mask_h, mask_t, mask_m, H, HK, T, M, left, right,
    D: tl.constexpr, DV: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, MASK: tl.constexpr,
    DROPOUT: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, EDGES: tl.constexpr, PRECISION: tl.constexpr,
    HAS_E: tl.constexpr, GRADIENTS: tl.constexpr,
    MASK_GRADIENT: tl.constexpr, WIDE_T: tl.constexpr, WIDE_M: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """Ȯ = Ṗ V + P C by query block; with ``GRADIENTS`` scale · (X K + dS B), with ``MASK_GRADIENT`` also X."""
    head, key_head, first, begin, whole, cut, end = query_block(T, M, H, HK, left, right, LEFT, RIGHT, BLOCK_T, BLOCK_M)
    rows = first + tl.arange(0, BLOCK_T)
    factor = load_number(scale)
    limit = load_number(cap)
    slope = load_slope(slopes, slopes_b, slopes_h, head, H, ALIBI)
    mask += (head // H) * mask_b + (head % H) * mask_h
    e += (head // H) * e_b + (head % H) * e_h
    gmask += (head // H) * gmask_b + (head % H) * gmask_h
    q_rows = load_rows(q + head * T * D, first, T, D, BLOCK_T, BLOCK_D)
    a_rows = load_rows(a + head * T * D, first, T, D, BLOCK_T, BLOCK_D)
    row_lse = load_lse(lse + head * T, rows, T)[:, None]
    row_t = tl.load(t + head * T + rows, mask=rows < T, other=0.0)[:, None]
    if GRADIENTS:
        dout_rows = load_rows(dout + head * T * DV, first, T, DV, BLOCK_T, BLOCK_DV)
        row_delta = tl.load(delta + head * T + rows, mask=rows < T, other=0.0)[:, None]
        row_r = tl.load(r + head * T + rows, mask=rows < T, other=0.0)[:, None]
    gq_rows = tl.full([BLOCK_T, BLOCK_D], 0.0, lse.dtype.element_ty)
    out_dot_rows = tl.full([BLOCK_T, BLOCK_DV], 0.0, lse.dtype.element_ty)
    for edge in tl.static_range(EDGES):
        lower, upper = tile_range(edge, begin, whole, cut, end, False)
        for start in range(lower, upper, BLOCK_M):
            columns = start + tl.arange(0, BLOCK_M)
            k_rows = load_rows(k + key_head * M * D, start, M, D, BLOCK_M, BLOCK_D)
            b_rows = load_rows(b + key_head * M * D, start, M, D, BLOCK_M, BLOCK_D)
            v_rows = load_rows(v + key_head * M * DV, start, M, DV, BLOCK_M, BLOCK_DV)
            c_rows = load_rows(c + key_head * M * DV, start, M, DV, BLOCK_M, BLOCK_DV)
            logits, capped = tile_logits(
                q_rows, k_rows, rows[:, None], columns[None, :], T, M, left, right, factor, limit, slope,
                mask, mask_t, mask_m, LEFT, RIGHT, MASK, CAP, ALIBI, edge, False, PRECISION,
            )  # fmt: skip
            scores_dot, logits_dot = tile_logits_dot(
                q_rows, a_rows, k_rows, b_rows, rows[:, None], columns[None, :], T, M, factor, capped,
                e, e_t, e_m, CAP, HAS_E, False, PRECISION,
            )  # fmt: skip
            weights = tl.exp(logits - row_lse)
            kept = tile_kept(seed, dropout, head, rows[:, None], columns[None, :], DROPOUT, lse.dtype.element_ty)
            out_dot_rows = gather(weights * (logits_dot - row_t) * kept, v_rows, out_dot_rows, PRECISION)
            out_dot_rows = gather(weights * kept, c_rows, out_dot_rows, PRECISION)
            if GRADIENTS:
                dlogits, x = second_order_tile(
                    dout_rows, v_rows, c_rows, weights, kept, logits_dot, row_delta, row_t, row_r, False, PRECISION
                )
                if MASK_GRADIENT:
                    add_to_mask_gradient(
                        gmask, x, rows[:, None], columns[None, :], T, M, gmask_t, gmask_m, WIDE_T, WIDE_M
                    )
                dscores, x = through_cap_twice(dlogits, x, scores_dot, capped, limit, CAP)
                gq_rows = gather(x, k_rows, gq_rows, PRECISION)
                gq_rows = gather(dscores, b_rows, gq_rows, PRECISION)
    store_rows(out_dot + head * T * DV, first, T, DV, BLOCK_T, BLOCK_DV, out_dot_rows)
    if GRADIENTS:
        store_rows(gq + head * T * D, first, T, D, BLOCK_T, BLOCK_D, gq_rows * factor)
