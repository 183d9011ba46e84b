"""Helpers that all kernels share: loading tiles, and what one (queries × keys) tile contributes.

Notation of ``theria.attention.custom``. Index vectors of queries and keys come in two-dimensional shapes that broadcast
to the tile, so that a helper serves both orientations: (queries, keys), and (keys, queries) with ``KEYS_FIRST``.
``MASK`` is 0 without a mask, 1 for a boolean and 2 for an additive one. ``tl.reduce`` with the combiners of
``tl.standard`` is what ``tl.sum`` and ``tl.max`` call, and what the interpreter can run when it was chosen at launch.
"""

import triton.language as tl

from theria.attention.triton.kernel import Kernel


@Kernel
def row_sum(x):  # type: ignore[no-untyped-def]
    """Sums (R, C) over its columns."""
    return tl.reduce(x, 1, tl.standard._sum_combine)


@Kernel
def row_max(x):  # type: ignore[no-untyped-def]
    """The maximum of (R, C) over its columns."""
    return tl.reduce(x, 1, tl.standard._elementwise_max)


@Kernel
def query_block(T, M, H, HK, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr):  # type: ignore[no-untyped-def]
    """What a program by query block works on: its head, the key head, its rows, and the end of the keys they see."""
    blocks = (T + BLOCK_T - 1) // BLOCK_T
    head = (tl.program_id(0) // blocks).to(tl.int64)
    key_head = (head // H) * HK + (head % H) // (H // HK)
    first = (tl.program_id(0) % blocks) * BLOCK_T
    end = M
    if CAUSAL:
        end = tl.minimum(M, first + BLOCK_T)
    return head, key_head, first + tl.arange(0, BLOCK_T), end


@Kernel
def key_block(M, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr):  # type: ignore[no-untyped-def]
    """What a program by key block works on: its key head, its columns, and the first query block that sees them."""
    blocks = (M + BLOCK_M - 1) // BLOCK_M
    key_head = (tl.program_id(0) // blocks).to(tl.int64)
    first = (tl.program_id(0) % blocks) * BLOCK_M
    begin = 0
    if CAUSAL:
        begin = first // BLOCK_T * BLOCK_T
    return key_head, first + tl.arange(0, BLOCK_M), begin


@Kernel
def load_rows(base, rows, count, WIDTH: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows of a contiguous (count, WIDTH) matrix as (R, BLOCK), zero outside."""
    columns = tl.arange(0, BLOCK)
    inside = (rows[:, None] < count) & (columns[None, :] < WIDTH)
    return tl.load(base + rows[:, None].to(tl.int64) * WIDTH + columns[None, :], mask=inside, other=0.0)


@Kernel
def store_rows(base, rows, count, WIDTH: tl.constexpr, BLOCK: tl.constexpr, values):  # type: ignore[no-untyped-def]
    """The counterpart of ``load_rows``, converting to the dtype of the matrix."""
    columns = tl.arange(0, BLOCK)
    inside = (rows[:, None] < count) & (columns[None, :] < WIDTH)
    offsets = rows[:, None].to(tl.int64) * WIDTH + columns[None, :]
    tl.store(base + offsets, values.to(base.dtype.element_ty), mask=inside)


@Kernel
def load_lse(base, rows, count):  # type: ignore[no-untyped-def]
    """A row's log-sum-exp; 0 instead of −∞ for a row without keys, whose weights then are exp(−∞ − 0) = 0."""
    lse = tl.load(base + rows, mask=rows < count, other=0.0)
    return tl.where(lse == float("-inf"), 0.0, lse)


@Kernel
def pair(of_queries, of_keys, KEYS_FIRST: tl.constexpr):  # type: ignore[no-untyped-def]
    """The product of two row blocks over their width, (queries, keys) or its transpose."""
    if KEYS_FIRST:
        product = tl.dot(of_keys, tl.trans(of_queries), input_precision="ieee")
    else:
        product = tl.dot(of_queries, tl.trans(of_keys), input_precision="ieee")
    return product


@Kernel
def gather(weights, rows, accumulator):  # type: ignore[no-untyped-def]
    """accumulator + weights · rows, the weights rounded to the dtype of the rows."""
    return tl.dot(weights.to(rows.dtype), rows, accumulator, input_precision="ieee", out_dtype=accumulator.dtype)


@Kernel
def tile_logits(  # type: ignore[no-untyped-def]
    q, k, queries, keys, T, M, scale, mask, mask_t, mask_m,
    CAUSAL: tl.constexpr, MASK: tl.constexpr, KEYS_FIRST: tl.constexpr,
):  # fmt: skip
    """scale · q kᵀ + mask; −∞ where the query may not see the key or one of them does not exist."""
    seen = (queries < T) & (keys < M)
    if CAUSAL:
        seen = seen & (keys <= queries)
    offsets = queries.to(tl.int64) * mask_t + keys.to(tl.int64) * mask_m
    if MASK == 1:
        seen = seen & (tl.load(mask + offsets, mask=seen, other=0) != 0)
    logits = pair(q, k, KEYS_FIRST) * scale
    if MASK == 2:
        logits = logits + tl.load(mask + offsets, mask=seen, other=0.0).to(logits.dtype)
    return tl.where(seen, logits, float("-inf"))


@Kernel
def tile_logits_dot(  # type: ignore[no-untyped-def]
    q, a, k, b, queries, keys, T, M, scale, e, e_t, e_m, HAS_E: tl.constexpr, KEYS_FIRST: tl.constexpr
):
    """Ṡ = scale · (a kᵀ + q bᵀ) + e."""
    logits_dot = (pair(a, k, KEYS_FIRST) + pair(q, b, KEYS_FIRST)) * scale
    if HAS_E:
        inside = (queries < T) & (keys < M)
        offsets = queries.to(tl.int64) * e_t + keys.to(tl.int64) * e_m
        logits_dot = logits_dot + tl.load(e + offsets, mask=inside, other=0.0).to(logits_dot.dtype)
    return logits_dot


@Kernel
def first_order_tile(dout, v, logits, lse, delta, KEYS_FIRST: tl.constexpr):  # type: ignore[no-untyped-def]
    """(P, dS)."""
    weights = tl.exp(logits - lse)
    return weights, weights * (pair(dout, v, KEYS_FIRST) - delta)


@Kernel
def second_order_tile(  # type: ignore[no-untyped-def]
    dout, v, c, weights, logits_dot, delta, t, r, KEYS_FIRST: tl.constexpr
):
    """(dS, X)."""
    dweights = pair(dout, v, KEYS_FIRST)
    g = dweights * (logits_dot - t) - delta * logits_dot + pair(dout, c, KEYS_FIRST)
    return weights * (dweights - delta), weights * (g - r)


@Kernel
def add_to_mask_gradient(  # type: ignore[no-untyped-def]
    gradient, values, queries, keys, T, M, g_t, g_m, WIDE_T: tl.constexpr, WIDE_M: tl.constexpr
):
    """Adds a (queries, keys) tile of the logits' gradient to the mask's, summed where the mask is broadcast.

    The tiles of other heads and batches may meet at the same places: hence atomic.
    """
    inside = (queries < T) & (keys < M)
    values = tl.where(inside, values, 0.0)
    offsets = queries.to(tl.int64) * g_t + keys.to(tl.int64) * g_m
    if WIDE_T and WIDE_M:
        tl.atomic_add(gradient + offsets, values, mask=inside, sem="relaxed")
    elif WIDE_T:
        rows = queries.to(tl.int64) * g_t
        tl.atomic_add(gradient + rows, row_sum(values)[:, None], mask=queries < T, sem="relaxed")
    elif WIDE_M:
        columns = keys.to(tl.int64) * g_m
        tl.atomic_add(gradient + columns, row_sum(tl.trans(values))[None, :], mask=keys < M, sem="relaxed")
    else:
        total = row_sum(tl.trans(row_sum(values)[:, None]))
        tl.atomic_add(gradient + tl.arange(0, 1), total, sem="relaxed")
