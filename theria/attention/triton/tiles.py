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
def query_block(  # type: ignore[no-untyped-def]
    T, M, H, HK, left, right, LEFT: tl.constexpr, RIGHT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr
):
    """What a program by query block works on: its head, the key head, its first row, and the keys that its rows see.

    The keys are four ends: some row sees a key from ``begin`` to ``end``, every row each from ``whole`` to ``cut``.
    """
    blocks = (T + BLOCK_T - 1) // BLOCK_T
    head = (tl.program_id(0) // blocks).to(tl.int64)
    key_head = (head // H) * HK + (head % H) // (H // HK)
    block = tl.program_id(0) % blocks
    if RIGHT and not LEFT:
        block = blocks - 1 - block  # the longest first, so that none is left over at the end
    first = block * BLOCK_T
    begin = 0
    whole = 0
    cut = M // BLOCK_M * BLOCK_M
    end = M
    if RIGHT:
        cut = tl.minimum(cut, (first + right + 1) // BLOCK_M * BLOCK_M)
        end = tl.minimum(M, first + BLOCK_T + right)
    if LEFT:
        begin = tl.maximum(first - left, 0) // BLOCK_M * BLOCK_M
        whole = (tl.maximum(first + BLOCK_T - 1 - left, 0) + BLOCK_M - 1) // BLOCK_M * BLOCK_M
        cut = tl.maximum(cut, whole)
    return head, key_head, first, begin, whole, cut, end


@Kernel
def key_block(  # type: ignore[no-untyped-def]
    T, M, left, right, LEFT: tl.constexpr, RIGHT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr
):
    """What a program by key block works on: its key head, its first column, and the queries that see its columns.

    The queries are four ends, as the keys of ``query_block`` are.
    """
    blocks = (M + BLOCK_M - 1) // BLOCK_M
    key_head = (tl.program_id(0) // blocks).to(tl.int64)
    first = (tl.program_id(0) % blocks) * BLOCK_M
    begin = 0
    whole = 0
    cut = T
    end = T
    if RIGHT:
        begin = tl.maximum(first - right, 0) // BLOCK_T * BLOCK_T
        whole = (tl.maximum(first + BLOCK_M - 1 - right, 0) + BLOCK_T - 1) // BLOCK_T * BLOCK_T
    if LEFT:
        cut = tl.maximum(whole, tl.minimum(T, (first + left + 1) // BLOCK_T * BLOCK_T))
        end = tl.minimum(T, first + BLOCK_M + left)
    return key_head, first, begin, whole, cut, end


@Kernel
def tile_range(edge: tl.constexpr, begin, whole, cut, end, BY_KEY: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where tiles begin and end, of the four ends of ``query_block`` or ``key_block``: first those that are seen whole.

    Then those at the edge that a causal mask has, which is the later one by queries and the earlier one by keys; then
    those at the other, which windows alone have.
    """
    lower = whole
    upper = cut
    if edge == (2 if BY_KEY else 1):
        lower = cut
        upper = end
    if edge == (1 if BY_KEY else 2):
        lower = begin
        upper = whole
    return lower, upper


@Kernel
def load_number(x):  # type: ignore[no-untyped-def]
    """A number, which is itself given or, where float32 is too coarse for it, in a tensor of one element."""
    number = x
    if x.dtype.is_ptr():
        number = tl.load(x)
    return number


@Kernel
def load_slope(slopes, slopes_b, slopes_h, head, H, ALIBI: tl.constexpr):  # type: ignore[no-untyped-def]
    """The slope of a head, of which there are H in a batch; nothing without ``ALIBI``."""
    slope = 0.0
    if ALIBI:
        slope = tl.load(slopes + (head // H) * slopes_b + (head % H) * slopes_h)
    return slope


@Kernel
def load_rows(base, first, count, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """ROWS rows of a contiguous (count, WIDTH) matrix from ``first`` on as (ROWS, BLOCK), zero outside."""
    rows = tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)[None, :]
    inside = rows < count - first
    if WIDTH != BLOCK:
        inside = inside & (columns < WIDTH)
    return tl.load(base + first * WIDTH + (rows * WIDTH + columns), mask=inside, other=0.0)


@Kernel
def store_rows(base, first, count, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, values):  # type: ignore[no-untyped-def]
    """The counterpart of ``load_rows``, converting to the dtype of the matrix."""
    rows = tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)[None, :]
    inside = (rows < count - first) & (columns < WIDTH)
    offsets = rows * WIDTH + columns
    tl.store(base + first * WIDTH + offsets, values.to(base.dtype.element_ty), mask=inside)


@Kernel
def load_lse(base, rows, count):  # type: ignore[no-untyped-def]
    """A row's log-sum-exp; 0 instead of −∞ for a row without keys, whose weights then are exp(−∞ − 0) = 0."""
    lse = tl.load(base + rows, mask=rows < count, other=0.0)
    return tl.where(lse == float("-inf"), 0.0, lse)


@Kernel
def pair(of_queries, of_keys, KEYS_FIRST: tl.constexpr, PRECISION: tl.constexpr):  # type: ignore[no-untyped-def]
    """The product of two row blocks over their width, (queries, keys) or its transpose."""
    if KEYS_FIRST:
        product = tl.dot(of_keys, tl.trans(of_queries), input_precision=PRECISION)
    else:
        product = tl.dot(of_queries, tl.trans(of_keys), input_precision=PRECISION)
    return product


@Kernel
def gather(weights, rows, accumulator, PRECISION: tl.constexpr):  # type: ignore[no-untyped-def]
    """accumulator + weights · rows, the weights rounded to the dtype of the rows."""
    return tl.dot(weights.to(rows.dtype), rows, accumulator, input_precision=PRECISION, out_dtype=accumulator.dtype)


@Kernel
def tile_kept(  # type: ignore[no-untyped-def]
    seed, dropout, head, queries, keys, DROPOUT: tl.constexpr, LIKE: tl.constexpr
):
    """What the weights of a tile are multiplied by: 1 without dropout, else as ``theria.attention.dropout`` says."""
    kept = 1.0
    if DROPOUT:
        a = (keys + 0 * queries).to(tl.uint32)
        b = (queries + 0 * keys).to(tl.uint32)
        d = tl.full(a.shape, 0, tl.uint32)
        c = d + head.to(tl.uint32)
        key = tl.load(seed).to(tl.uint32)
        other_key = tl.load(seed + 1).to(tl.uint32)
        for _ in tl.static_range(10):
            left = a.to(tl.uint64) * 0xD2511F53
            right = c.to(tl.uint64) * 0xCD9E8D57
            a = (right >> 32).to(tl.uint32) ^ b ^ key
            b = right.to(tl.uint32)
            c = (left >> 32).to(tl.uint32) ^ d ^ other_key
            d = left.to(tl.uint32)
            key = (key + 0x9E3779B9).to(tl.uint32)
            other_key = (other_key + 0xBB67AE85).to(tl.uint32)
        # p is a multiple of 2⁻²⁴, so that float32 has all of this exactly
        one = tl.full(a.shape, 1.0, LIKE)
        kept = tl.where((a >> 8).to(tl.float32) >= dropout * 16777216.0, one / (1.0 - dropout), 0.0)
    return kept


@Kernel
def tanh(x):  # type: ignore[no-untyped-def]
    """tanh in the precision of x, by its continued fraction where the exponentials would cancel."""
    square = x * x
    near = x * (135135 + square * (17325 + square * (378 + square)))
    near = near / (135135 + square * (62370 + square * (3150 + square * 28)))
    shrink = tl.exp(-2 * tl.abs(x))
    far = (1 - shrink) / (1 + shrink)
    return tl.where(square < 0.25, near, tl.where(x < 0, -far, far))


@Kernel
def tile_logits(  # type: ignore[no-untyped-def]
    q, k, queries, keys, T, M, left, right, scale, cap, slope, mask, mask_t, mask_m,
    LEFT: tl.constexpr, RIGHT: tl.constexpr, MASK: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr,
    EDGE: tl.constexpr, KEYS_FIRST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(S, h): the scores scale · q kᵀ, with ``CAP`` cap · h, and what is added to them; −∞ for keys that are not seen.

    Without ``EDGE`` every query of the tile sees every key, if the mask lets it. A query that does not exist has rows
    of zeros, which leave nothing behind whatever its weights are.
    """
    logits = pair(q, k, KEYS_FIRST, PRECISION) * scale
    capped = logits
    if CAP:
        capped = tanh(logits / cap)
        logits = cap * capped
    if ALIBI:
        distance = tl.abs(queries + (M - T) - keys).to(logits.dtype)
        logits -= tl.where((queries < T) & (keys < M), slope * distance, 0.0)
    if EDGE:
        seen = keys < M
        if RIGHT:
            seen = seen & (keys <= queries + right)
        if LEFT:
            seen = seen & (queries <= keys + left)
        logits = tl.where(seen, logits, float("-inf"))
    if MASK:
        inside = (queries < T) & (keys < M)
        offsets = queries.to(tl.int64) * mask_t + keys.to(tl.int64) * mask_m
        if MASK == 1:
            shown = tl.load(mask + offsets, mask=inside, other=0) != 0
            logits = tl.where(shown, logits, float("-inf"))
        else:
            logits = logits + tl.load(mask + offsets, mask=inside, other=0.0).to(logits.dtype)
    return logits, capped


@Kernel
def tile_logits_dot(  # type: ignore[no-untyped-def]
    q, a, k, b, queries, keys, T, M, scale, capped, e, e_t, e_m,
    CAP: tl.constexpr, HAS_E: tl.constexpr, KEYS_FIRST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(U̇, Ṡ): the scores' derivative scale · (a kᵀ + q bᵀ), and that of the logits."""
    scores_dot = (pair(a, k, KEYS_FIRST, PRECISION) + pair(q, b, KEYS_FIRST, PRECISION)) * scale
    logits_dot = through_cap(scores_dot, capped, CAP)
    if HAS_E:
        inside = (queries < T) & (keys < M)
        offsets = queries.to(tl.int64) * e_t + keys.to(tl.int64) * e_m
        logits_dot = logits_dot + tl.load(e + offsets, mask=inside, other=0.0).to(logits_dot.dtype)
    return scores_dot, logits_dot


@Kernel
def through_cap(x, capped, CAP: tl.constexpr):  # type: ignore[no-untyped-def]
    """From a derivative of scores to one of logits, or from a gradient for logits to one for scores."""
    if CAP:
        x = (1 - capped * capped) * x
    return x


@Kernel
def through_cap_twice(dlogits, x, scores_dot, capped, cap, CAP: tl.constexpr):  # type: ignore[no-untyped-def]
    """What Q and K get of (dS, X)."""
    if CAP:
        slope = 1 - capped * capped
        x = slope * (x - 2 / cap * capped * dlogits * scores_dot)
        dlogits = slope * dlogits
    return dlogits, x


@Kernel
def first_order_tile(  # type: ignore[no-untyped-def]
    dout, v, logits, lse, kept, delta, KEYS_FIRST: tl.constexpr, PRECISION: tl.constexpr
):
    """(P, dS)."""
    weights = tl.exp(logits - lse)
    return weights, weights * (pair(dout, v, KEYS_FIRST, PRECISION) * kept - delta)


@Kernel
def second_order_tile(  # type: ignore[no-untyped-def]
    dout, v, c, weights, kept, logits_dot, delta, t, r, KEYS_FIRST: tl.constexpr, PRECISION: tl.constexpr
):
    """(dS, X)."""
    dweights = pair(dout, v, KEYS_FIRST, PRECISION) * kept
    g = dweights * (logits_dot - t) - delta * logits_dot + pair(dout, c, KEYS_FIRST, PRECISION) * kept
    return weights * (dweights - delta), weights * (g - r)


@Kernel
def add_to_mask_gradient(  # type: ignore[no-untyped-def]
    gradient, values, queries, keys, T, M, g_t, g_m, WIDE_T: tl.constexpr, WIDE_M: tl.constexpr
):
    """Add a (queries, keys) tile of the logits' gradient to the mask's, summed where the mask is broadcast.

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
