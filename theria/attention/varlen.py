"""Packed sequences: attention within each of many sequences that lie end to end in one tensor."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, Unpack, overload

import torch
from torch import Tensor

from theria.attention.registry import AttentionOptions, attention


@overload
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    *,
    return_lse: Literal[False] = False,
    **options: Unpack[AttentionOptions],
) -> Tensor: ...


@overload
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    *,
    return_lse: Literal[True],
    **options: Unpack[AttentionOptions],
) -> tuple[Tensor, Tensor]: ...


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    *,
    return_lse: bool = False,
    **options: Any,
) -> Any:
    """Attention of packed sequences, each to itself, with first and second derivatives on every backend.

    The layout and the names are those of ``flash_attn_varlen_func``, and so is the alignment: in a sequence with T
    queries and M keys the last query stands beside the last key, for ``is_causal``, ``window`` and ``alibi_slopes``.
    The sequences are padded to the longest on the way: memory and time are those of a batch of that length. Reading
    the lengths waits for the device, and cannot be captured in a CUDA graph or compiled as one graph.

    Args:
        q: (total queries, H, D).
        k: (total keys, Hk, D).
        v: (total keys, Hk, Dv).
        cu_seqlens_q: (sequences + 1,), int32 or int64: where each sequence begins in q, and at last where it ends.
        cu_seqlens_k: the same in k and v; as in q if None.
        max_seqlen_q: at least the longest sequence, to pad to; found if None.
        max_seqlen_k: the same of k and v.
        return_lse: return the log-sum-exp too.
        **options: what `attention` takes by name, but for ``attn_mask``; ``enable_gqa`` is True unless it is given, and
            ``alibi_slopes`` are (H,) or (sequences, H).

    Returns:
        (total queries, H, Dv); with ``return_lse`` a pair: this, and (total queries, H).

    Raises:
        ValueError: an argument that does not fit.
    """
    if options.pop("attn_mask", None) is not None:
        raise ValueError(
            "attn_mask was given with cu_seqlens_q: packed sequences take none, pad them and call attention"
        )
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.dim() != 3:
            raise ValueError(f"{name} has shape {tuple(x.shape)}: packed sequences are (total, heads, head dimension)")
    starts = _read_starts("q", cu_seqlens_q, q)
    key_starts = starts if cu_seqlens_k is None else _read_starts("k", cu_seqlens_k, k)
    if cu_seqlens_k is None and k.shape[0] != q.shape[0]:
        raise ValueError(f"k has {k.shape[0]} rows and q has {q.shape[0]}: pass cu_seqlens_k")
    if v.shape[0] != k.shape[0]:
        raise ValueError(f"k has {k.shape[0]} keys and v has {v.shape[0]}: they must be equal")
    if len(starts) != len(key_starts):
        raise ValueError(
            f"cu_seqlens_q has {len(starts) - 1} sequences and cu_seqlens_k has {len(key_starts) - 1}: "
            "they must be equal"
        )
    queries = _longest("max_seqlen_q", max_seqlen_q, starts)
    keys = _longest("max_seqlen_k", max_seqlen_k, key_starts)
    left, right = options.pop("window", (None, None))
    if options.pop("is_causal", False):
        right = 0
    if (left, right) != (None, None) or options.get("alibi_slopes") is not None:
        queries = keys = max(queries, keys)  # then places count from the same end
    places, key_places = _find_places(starts, queries, q.device), _find_places(key_starts, keys, k.device)
    count = len(starts) - 1
    shown = torch.zeros(count * keys, dtype=torch.bool, device=k.device).index_fill(0, key_places, True)
    out, lse = attention(
        _pad(q, places, count, queries), _pad(k, key_places, count, keys), _pad(v, key_places, count, keys),
        attn_mask=shown.reshape(count, 1, 1, keys), window=(left, right), return_lse=True,
        **{"enable_gqa": True, **options},
    )  # fmt: skip
    out = out.transpose(1, 2).flatten(0, 1).index_select(0, places)
    return (out, lse.transpose(1, 2).flatten(0, 1).index_select(0, places)) if return_lse else out


def _read_starts(name: str, cu_seqlens: Tensor, x: Tensor) -> list[int]:
    """Where sequences begin, and where the last ends."""
    argument = f"cu_seqlens_{name}"
    if cu_seqlens.dtype not in (torch.int32, torch.int64) or cu_seqlens.dim() != 1 or len(cu_seqlens) < 2:
        raise ValueError(
            f"{argument} is {cu_seqlens.dtype} of shape {tuple(cu_seqlens.shape)}: it must be int32 or int64, "
            "(sequences + 1,)"
        )
    starts: list[int] = cu_seqlens.tolist()
    if starts[0] != 0 or starts[-1] != x.shape[0] or any(a > b for a, b in pairwise(starts)):
        raise ValueError(
            f"{argument} is {_shorten(starts)}: it must start at 0, never fall, and end at {name}'s {x.shape[0]} rows"
        )
    return starts


def _shorten(starts: list[int]) -> str:
    return str(starts) if len(starts) <= 8 else f"[{', '.join(map(str, starts[:4]))}, …, {starts[-1]}]"


def _longest(argument: str, given: int | None, starts: list[int]) -> int:
    longest = max(b - a for a, b in pairwise(starts))
    if given is not None and given < longest:
        raise ValueError(f"{argument}={given}, and the longest sequence has {longest}")
    return max(1, longest if given is None else given)


def _find_places(starts: list[int], length: int, device: torch.device) -> Tensor:
    """Where each row goes in sequences that end at the same place of ``length``, laid end to end."""
    ends = torch.tensor(starts[1:])
    lengths = ends - torch.tensor(starts[:-1])
    shifts = torch.arange(1, len(starts)) * length - ends
    return (torch.arange(starts[-1]) + shifts.repeat_interleave(lengths)).to(device)


def _pad(x: Tensor, places: Tensor, count: int, length: int) -> Tensor:
    """(total, H, D) → (count, H, length, D)."""
    padded = x.new_zeros(count * length, *x.shape[1:]).index_copy(0, places, x)
    return padded.reshape(count, length, *x.shape[1:]).transpose(1, 2)
