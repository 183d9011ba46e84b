"""The forward kernel: out and log-sum-exp by query block, one sweep over the keys."""

import triton.language as tl

from theria.attention.triton.kernel import Kernel
from theria.attention.triton.tiles import (
    gather,
    load_number,
    load_rows,
    load_slope,
    query_block,
    row_max,
    row_sum,
    store_rows,
    tile_kept,
    tile_logits,
    tile_range,
)


@Kernel
def forward_kernel(  # type: ignore[no-untyped-def]
    q, k, v, out, lse,
    scale, seed, dropout, cap, slopes, slopes_b, slopes_h,
    mask, mask_b, mask_h, mask_t, mask_m, H, HK, T, M, left, right,
    D: tl.constexpr, DV: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, MASK: tl.constexpr,
    DROPOUT: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, EDGES: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """One program a query block and (batch, head). q, out: (B, H, T, ·); k, v: (B, HK, M, ·); lse: (B, H, T)."""
    head, key_head, first, begin, whole, cut, end = query_block(T, M, H, HK, left, right, LEFT, RIGHT, BLOCK_T, BLOCK_M)
    rows = first + tl.arange(0, BLOCK_T)
    factor = load_number(scale)
    limit = load_number(cap)
    slope = load_slope(slopes, slopes_b, slopes_h, head, H, ALIBI)
    mask += (head // H) * mask_b + (head % H) * mask_h
    q_rows = load_rows(q + head * T * D, first, T, D, BLOCK_T, BLOCK_D)
    largest = tl.full([BLOCK_T], float("-inf"), lse.dtype.element_ty)
    total = tl.full([BLOCK_T], 0.0, lse.dtype.element_ty)
    summed = tl.full([BLOCK_T, BLOCK_DV], 0.0, lse.dtype.element_ty)
    for edge in tl.static_range(EDGES):
        lower, upper = tile_range(edge, begin, whole, cut, end, False)
        for start in range(lower, upper, BLOCK_M):
            columns = start + tl.arange(0, BLOCK_M)
            k_rows = load_rows(k + key_head * M * D, start, M, D, BLOCK_M, BLOCK_D)
            v_rows = load_rows(v + key_head * M * DV, start, M, DV, BLOCK_M, BLOCK_DV)
            logits, _ = tile_logits(
                q_rows, k_rows, rows[:, None], columns[None, :], T, M, left, right, factor, limit, slope,
                mask, mask_t, mask_m, LEFT, RIGHT, MASK, CAP, ALIBI, edge, False, PRECISION,
            )  # fmt: skip
            grown = tl.maximum(largest, row_max(logits))
            # as long as a row has seen no key its maximum is −∞, and −∞ − (−∞) would be NaN
            finite = tl.where(grown == float("-inf"), 0.0, grown)
            weights = tl.exp(logits - finite[:, None])
            shrink = tl.exp(largest - finite)
            total = total * shrink + row_sum(weights)
            kept = tile_kept(seed, dropout, head, rows[:, None], columns[None, :], DROPOUT, lse.dtype.element_ty)
            summed = gather(weights * kept, v_rows, summed * shrink[:, None], PRECISION)
            largest = grown
    some = total > 0
    divisor = tl.where(some, total, 1.0)
    tl.store(lse + head * T + rows, tl.where(some, largest + tl.log(divisor), float("-inf")), mask=rows < T)
    store_rows(out + head * T * DV, first, T, DV, BLOCK_T, BLOCK_DV, summed / divisor[:, None])
