"""The forward kernel: out and log-sum-exp by query block, one sweep over the keys."""

import triton.language as tl

from theria.attention.triton.kernel import Kernel
from theria.attention.triton.tiles import gather, load_rows, query_block, row_max, row_sum, store_rows, tile_logits


@Kernel
def forward_kernel(  # type: ignore[no-untyped-def]
    q, k, v, out, lse, scale, mask, mask_b, mask_h, mask_t, mask_m, H, HK, T, M,
    D: tl.constexpr, DV: tl.constexpr, CAUSAL: tl.constexpr, MASK: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """One program a query block and (batch, head). q, out: (B, H, T, ·); k, v: (B, HK, M, ·); lse: (B, H, T)."""
    head, key_head, rows, end = query_block(T, M, H, HK, CAUSAL, BLOCK_T)
    factor = tl.load(scale)
    mask += (head // H) * mask_b + (head % H) * mask_h
    q_rows = load_rows(q + head * T * D, rows, T, D, BLOCK_D)
    largest = tl.full([BLOCK_T], float("-inf"), lse.dtype.element_ty)
    total = tl.full([BLOCK_T], 0.0, lse.dtype.element_ty)
    summed = tl.full([BLOCK_T, BLOCK_DV], 0.0, lse.dtype.element_ty)
    for start in range(0, end, BLOCK_M):
        columns = start + tl.arange(0, BLOCK_M)
        k_rows = load_rows(k + key_head * M * D, columns, M, D, BLOCK_D)
        v_rows = load_rows(v + key_head * M * DV, columns, M, DV, BLOCK_DV)
        logits = tile_logits(
            q_rows, k_rows, rows[:, None], columns[None, :], T, M, factor, mask, mask_t, mask_m, CAUSAL, MASK, False
        )
        grown = tl.maximum(largest, row_max(logits))
        # as long as a row has seen no key its maximum is −∞, and −∞ − (−∞) would be NaN
        finite = tl.where(grown == float("-inf"), 0.0, grown)
        weights = tl.exp(logits - finite[:, None])
        shrink = tl.exp(largest - finite)
        total = total * shrink + row_sum(weights)
        summed = gather(weights, v_rows, summed * shrink[:, None])
        largest = grown
    some = total > 0
    divisor = tl.where(some, total, 1.0)
    tl.store(lse + head * T + rows, tl.where(some, largest + tl.log(divisor), float("-inf")), mask=rows < T)
    store_rows(out + head * T * DV, rows, T, DV, BLOCK_DV, summed / divisor[:, None])
