"""The last pass of the double backward, by key block; the two before it are those of the JVP."""

import triton.language as tl

from theria.attention.triton.kernel import Kernel
from theria.attention.triton.tiles import (
    gather,
    key_block,
    load_lse,
    load_number,
    load_rows,
    load_slope,
    second_order_tile,
    store_rows,
    through_cap_twice,
    tile_kept,
    tile_logits,
    tile_logits_dot,
    tile_range,
)


@Kernel
def double_backward_kernel(  # type: ignore[no-untyped-def]
    q, k, v, lse, a, b, c, e, e_b, e_h, e_t, e_m, dout, delta, t, r, gk, gv,
    scale, seed, dropout, cap, slopes, slopes_b, slopes_h,
    mask, mask_b, mask_h, mask_t, mask_m, H, HK, T, M, left, right,
    D: tl.constexpr, DV: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, MASK: tl.constexpr,
    DROPOUT: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, EDGES: tl.constexpr, PRECISION: tl.constexpr,
    HAS_E: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """scale · (Xᵀ Q + dSᵀ A) and Ṗᵀ dO by key block, summed over the query heads that share a key head."""
    key_head, first, begin, whole, cut, end = key_block(T, M, left, right, LEFT, RIGHT, BLOCK_T, BLOCK_M)
    columns = first + tl.arange(0, BLOCK_M)
    group = H // HK
    factor = load_number(scale)
    limit = load_number(cap)
    k_rows = load_rows(k + key_head * M * D, first, M, D, BLOCK_M, BLOCK_D)
    b_rows = load_rows(b + key_head * M * D, first, M, D, BLOCK_M, BLOCK_D)
    v_rows = load_rows(v + key_head * M * DV, first, M, DV, BLOCK_M, BLOCK_DV)
    c_rows = load_rows(c + key_head * M * DV, first, M, DV, BLOCK_M, BLOCK_DV)
    gk_rows = tl.full([BLOCK_M, BLOCK_D], 0.0, lse.dtype.element_ty)
    gv_rows = tl.full([BLOCK_M, BLOCK_DV], 0.0, lse.dtype.element_ty)
    for member in range(group):
        head = (key_head // HK) * H + (key_head % HK) * group + member
        slope = load_slope(slopes, slopes_b, slopes_h, head, H, ALIBI)
        head_mask = mask + (head // H) * mask_b + (head % H) * mask_h
        head_e = e + (head // H) * e_b + (head % H) * e_h
        for edge in tl.static_range(EDGES):
            lower, upper = tile_range(edge, begin, whole, cut, end, True)
            for start in range(lower, upper, BLOCK_T):
                rows = start + tl.arange(0, BLOCK_T)
                q_rows = load_rows(q + head * T * D, start, T, D, BLOCK_T, BLOCK_D)
                a_rows = load_rows(a + head * T * D, start, T, D, BLOCK_T, BLOCK_D)
                dout_rows = load_rows(dout + head * T * DV, start, T, DV, BLOCK_T, BLOCK_DV)
                row_lse = load_lse(lse + head * T, rows, T)[None, :]
                row_delta = tl.load(delta + head * T + rows, mask=rows < T, other=0.0)[None, :]
                row_t = tl.load(t + head * T + rows, mask=rows < T, other=0.0)[None, :]
                row_r = tl.load(r + head * T + rows, mask=rows < T, other=0.0)[None, :]
                logits, capped = tile_logits(
                    q_rows, k_rows, rows[None, :], columns[:, None], T, M, left, right, factor, limit, slope,
                    head_mask, mask_t, mask_m, LEFT, RIGHT, MASK, CAP, ALIBI, edge, True, PRECISION,
                )  # fmt: skip
                scores_dot, logits_dot = tile_logits_dot(
                    q_rows, a_rows, k_rows, b_rows, rows[None, :], columns[:, None], T, M, factor, capped,
                    head_e, e_t, e_m, CAP, HAS_E, True, PRECISION,
                )  # fmt: skip
                weights = tl.exp(logits - row_lse)
                kept = tile_kept(seed, dropout, head, rows[None, :], columns[:, None], DROPOUT, lse.dtype.element_ty)
                dlogits, x = second_order_tile(
                    dout_rows, v_rows, c_rows, weights, kept, logits_dot, row_delta, row_t, row_r, True, PRECISION
                )
                gv_rows = gather(weights * (logits_dot - row_t) * kept, dout_rows, gv_rows, PRECISION)
                dscores, x = through_cap_twice(dlogits, x, scores_dot, capped, limit, CAP)
                gk_rows = gather(x, q_rows, gk_rows, PRECISION)
                gk_rows = gather(dscores, a_rows, gk_rows, PRECISION)
    store_rows(gk + key_head * M * D, first, M, D, BLOCK_M, BLOCK_D, gk_rows * factor)
    store_rows(gv + key_head * M * DV, first, M, DV, BLOCK_M, BLOCK_DV, gv_rows)
