"""The VJP kernels: the gradient of q by query block, then those of k and v by key block."""

import triton.language as tl

from theria.attention.triton.kernel import Kernel
from theria.attention.triton.tiles import (
    add_to_mask_gradient,
    first_order_tile,
    gather,
    key_block,
    load_lse,
    load_number,
    load_rows,
    load_slope,
    query_block,
    row_sum,
    store_rows,
    through_cap,
    tile_kept,
    tile_logits,
    tile_range,
)


@Kernel
def vjp_query_kernel(  # type: ignore[no-untyped-def]
    q, k, v, out, lse, dout, dlse, dq, delta, dmask, dmask_b, dmask_h, dmask_t, dmask_m,
    scale, seed, dropout, cap, slopes, slopes_b, slopes_h,
    mask, mask_b, mask_h, mask_t, mask_m, H, HK, T, M, left, right,
    D: tl.constexpr, DV: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, MASK: tl.constexpr,
    DROPOUT: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, EDGES: tl.constexpr, PRECISION: tl.constexpr,
    HAS_DLSE: tl.constexpr, MASK_GRADIENT: tl.constexpr, WIDE_T: tl.constexpr, WIDE_M: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """dQ = scale · dS K, δ − dl (B, H, T) for the next kernel and, if asked for, the mask's gradient."""
    head, key_head, first, begin, whole, cut, end = query_block(T, M, H, HK, left, right, LEFT, RIGHT, BLOCK_T, BLOCK_M)
    rows = first + tl.arange(0, BLOCK_T)
    factor = load_number(scale)
    limit = load_number(cap)
    slope = load_slope(slopes, slopes_b, slopes_h, head, H, ALIBI)
    mask += (head // H) * mask_b + (head % H) * mask_h
    dmask += (head // H) * dmask_b + (head % H) * dmask_h
    q_rows = load_rows(q + head * T * D, first, T, D, BLOCK_T, BLOCK_D)
    dout_rows = load_rows(dout + head * T * DV, first, T, DV, BLOCK_T, BLOCK_DV)
    out_rows = load_rows(out + head * T * DV, first, T, DV, BLOCK_T, BLOCK_DV)
    row_lse = load_lse(lse + head * T, rows, T)
    row_delta = row_sum(dout_rows.to(lse.dtype.element_ty) * out_rows.to(lse.dtype.element_ty))
    if HAS_DLSE:
        row_delta -= tl.load(dlse + head * T + rows, mask=rows < T, other=0.0)
    tl.store(delta + head * T + rows, row_delta, mask=rows < T)
    summed = tl.full([BLOCK_T, BLOCK_D], 0.0, lse.dtype.element_ty)
    for edge in tl.static_range(EDGES):
        lower, upper = tile_range(edge, begin, whole, cut, end, False)
        for start in range(lower, upper, BLOCK_M):
            columns = start + tl.arange(0, BLOCK_M)
            k_rows = load_rows(k + key_head * M * D, start, M, D, BLOCK_M, BLOCK_D)
            v_rows = load_rows(v + key_head * M * DV, start, M, DV, BLOCK_M, BLOCK_DV)
            logits, capped = tile_logits(
                q_rows, k_rows, rows[:, None], columns[None, :], T, M, left, right, factor, limit, slope,
                mask, mask_t, mask_m, LEFT, RIGHT, MASK, CAP, ALIBI, edge, False, PRECISION,
            )  # fmt: skip
            kept = tile_kept(seed, dropout, head, rows[:, None], columns[None, :], DROPOUT, lse.dtype.element_ty)
            _, dlogits = first_order_tile(
                dout_rows, v_rows, logits, row_lse[:, None], kept, row_delta[:, None], False, PRECISION
            )
            summed = gather(through_cap(dlogits, capped, CAP), k_rows, summed, PRECISION)
            if MASK_GRADIENT:
                add_to_mask_gradient(
                    dmask, dlogits, rows[:, None], columns[None, :], T, M, dmask_t, dmask_m, WIDE_T, WIDE_M
                )
    store_rows(dq + head * T * D, first, T, D, BLOCK_T, BLOCK_D, summed * factor)


@Kernel
def vjp_key_kernel(  # type: ignore[no-untyped-def]
    q, k, v, lse, dout, delta, dk, dv,
    scale, seed, dropout, cap, slopes, slopes_b, slopes_h,
    mask, mask_b, mask_h, mask_t, mask_m, H, HK, T, M, left, right,
    D: tl.constexpr, DV: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, MASK: tl.constexpr,
    DROPOUT: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, EDGES: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """dK = scale · dSᵀ Q and dV = Pᵀ dO, summed over the query heads that share a key head."""
    key_head, first, begin, whole, cut, end = key_block(T, M, left, right, LEFT, RIGHT, BLOCK_T, BLOCK_M)
    columns = first + tl.arange(0, BLOCK_M)
    group = H // HK
    factor = load_number(scale)
    limit = load_number(cap)
    k_rows = load_rows(k + key_head * M * D, first, M, D, BLOCK_M, BLOCK_D)
    v_rows = load_rows(v + key_head * M * DV, first, M, DV, BLOCK_M, BLOCK_DV)
    dk_rows = tl.full([BLOCK_M, BLOCK_D], 0.0, lse.dtype.element_ty)
    dv_rows = tl.full([BLOCK_M, BLOCK_DV], 0.0, lse.dtype.element_ty)
    for member in range(group):
        head = (key_head // HK) * H + (key_head % HK) * group + member
        slope = load_slope(slopes, slopes_b, slopes_h, head, H, ALIBI)
        head_mask = mask + (head // H) * mask_b + (head % H) * mask_h
        for edge in tl.static_range(EDGES):
            lower, upper = tile_range(edge, begin, whole, cut, end, True)
            for start in range(lower, upper, BLOCK_T):
                rows = start + tl.arange(0, BLOCK_T)
                q_rows = load_rows(q + head * T * D, start, T, D, BLOCK_T, BLOCK_D)
                dout_rows = load_rows(dout + head * T * DV, start, T, DV, BLOCK_T, BLOCK_DV)
                row_lse = load_lse(lse + head * T, rows, T)
                row_delta = tl.load(delta + head * T + rows, mask=rows < T, other=0.0)
                logits, capped = tile_logits(
                    q_rows, k_rows, rows[None, :], columns[:, None], T, M, left, right, factor, limit, slope,
                    head_mask, mask_t, mask_m, LEFT, RIGHT, MASK, CAP, ALIBI, edge, True, PRECISION,
                )  # fmt: skip
                kept = tile_kept(seed, dropout, head, rows[None, :], columns[:, None], DROPOUT, lse.dtype.element_ty)
                weights, dlogits = first_order_tile(
                    dout_rows, v_rows, logits, row_lse[None, :], kept, row_delta[None, :], True, PRECISION
                )
                dv_rows = gather(weights * kept, dout_rows, dv_rows, PRECISION)
                dk_rows = gather(through_cap(dlogits, capped, CAP), q_rows, dk_rows, PRECISION)
    store_rows(dk + key_head * M * D, first, M, D, BLOCK_M, BLOCK_D, dk_rows * factor)
    store_rows(dv + key_head * M * DV, first, M, DV, BLOCK_M, BLOCK_DV, dv_rows)
