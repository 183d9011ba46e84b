"""From the arguments of ``attention`` to one canonical 4-D problem that every backend takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import zip_longest
from typing import NoReturn

import torch
from torch import Tensor

from theria.attention.dtypes import accumulator, autocast

Window = tuple[int | None, int | None]
"""Keys before a query's own place that it sees, and keys behind it; None is without end."""


@dataclass(frozen=True, slots=True, eq=False)
class AttentionSettings:
    """What has no derivative: factor of the logits, whether query t sees keys 0 … t only, share of weights dropped.

    ``seed`` says which weights are dropped (`dropout.with_seed`), None where none are or the backend draws them itself.
    ``softcap`` is the c of c·tanh(score / c) + mask. ``slopes`` (B|1, H), in the accumulator dtype, are those of ALiBi
    where the backend computes it itself (`alibi.apply_alibi`).
    """

    scale: float
    is_causal: bool
    dropout_p: float = 0.0
    seed: Tensor | None = None
    window: Window = (None, None)
    softcap: float | None = None
    slopes: Tensor | None = None

    @property
    def span(self) -> Window:
        """How many keys before its own place, and how many behind it, a query sees."""
        left, right = self.window
        return (left, 0) if self.is_causal else (left, right)


@dataclass(frozen=True, slots=True)
class Problem:
    """One batch of attentions.

    ``q`` (B, H, T, D), ``k`` (B, Hk, M, D), ``v`` (B, Hk, M, Dv) of one dtype, with H a multiple of Hk; ``mask``
    (B|1, H|1, T|1, M|1), boolean (True takes part) or additive. ``output_shape`` is the shape that the caller
    expects, (…, T, Dv). ``slopes`` (B|1, H) are those of ALiBi, until they are part of the mask or of the settings.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    settings: AttentionSettings
    output_shape: tuple[int, ...]
    slopes: Tensor | None = None


def canonical(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None,
    is_causal: bool,
    attn_mask: Tensor | None,
    enable_gqa: bool,
    dropout_p: float = 0.0,
    window: Window = (None, None),
    softcap: float | None = None,
    alibi_slopes: Tensor | None = None,
) -> Problem:
    """Check the arguments and bring them to a ``Problem``; views wherever strides allow it.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit together.
        TypeError: a scale or a cap that is a tensor.
    """
    q, k, v = autocast(q), autocast(k), autocast(v)
    attn_mask = None if attn_mask is None else autocast(attn_mask)
    _check_tensors(q, k, v)
    if is_causal and attn_mask is not None:
        raise ValueError(
            "is_causal=True and attn_mask were both given: pass one of them (fold the triangle into attn_mask)"
        )
    if not 0 <= dropout_p <= 1:
        raise ValueError(f"dropout_p={dropout_p}: it is a probability, between 0 and 1")
    if any(side is not None and side < 0 for side in window):
        raise ValueError(
            f"window={window}: it is (keys before, keys behind), none of them negative; None is without end"
        )
    if isinstance(softcap, Tensor):
        raise TypeError("softcap is a tensor, which no backend differentiates: pass a number")
    if softcap is not None and not 0 < softcap < math.inf:
        raise ValueError(f"softcap={softcap}: it is a bound of the scores, above 0; None is for none")
    if isinstance(scale, Tensor):
        raise TypeError("scale is a tensor, which no backend differentiates: multiply q by it and pass scale=1.0")
    rank = q.dim()
    q, k, v = _with_heads(q), _with_heads(k), _with_heads(v)
    q, k, v = _match_heads(q, k, v, enable_gqa)
    lead = _lead(q, k, v)
    settings = AttentionSettings(
        1 / math.sqrt(q.shape[-1]) if scale is None else float(scale),
        is_causal,
        dropout_p,
        None,
        window,
        None if softcap is None else float(softcap),
    )
    shape = (*lead, q.shape[-3], q.shape[-2])
    mask = None if attn_mask is None else _canonical_mask(attn_mask, q, (*shape, k.shape[-2]))
    slopes = None if alibi_slopes is None else _canonical_slopes(alibi_slopes, q, lead)
    q, k, v = (_flatten(x, lead) for x in (q, k, v))
    return Problem(q, k, v, mask, settings, (*shape, v.shape[-1])[-rank:], slopes)


def _check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    if not q.is_floating_point():
        raise ValueError(f"q is {q.dtype}: attention takes float64, float32, float16 or bfloat16")
    for name, x in (("k", k), ("v", v)):
        if x.dtype != q.dtype:
            raise ValueError(f"{name} is {x.dtype} and q is {q.dtype}: give q, k and v one dtype")
        if x.device != q.device:
            raise ValueError(f"{name} is on {x.device} and q is on {q.device}: put q, k and v on one device")
        if x.dim() != q.dim():
            raise ValueError(f"{name} has {x.dim()} dimensions and q has {q.dim()}: give q, k and v the same number")
    if q.dim() < 2:
        raise ValueError(f"q has shape {tuple(q.shape)}: attention takes (…, T, D)")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"q has head dimension {q.shape[-1]} and k has {k.shape[-1]}: they must be equal")
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"k has {k.shape[-2]} keys and v has {v.shape[-2]}: they must be equal")


def _with_heads(x: Tensor) -> Tensor:
    return x.unsqueeze(0) if x.dim() == 2 else x


def _match_heads(q: Tensor, k: Tensor, v: Tensor, enable_gqa: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Leave H a multiple of Hk = Hv: grouped if asked for, otherwise broadcast."""
    heads, key_heads, value_heads = q.shape[-3], k.shape[-3], v.shape[-3]
    if 0 < heads == key_heads == value_heads:
        return q, k, v
    if enable_gqa:
        for name, count in (("k", key_heads), ("v", value_heads)):
            if not count or heads % count:
                raise ValueError(f"enable_gqa=True, and {name}'s {count} heads do not divide q's {heads}")
        if key_heads != value_heads:
            k, v = (x.repeat_interleave(heads // x.shape[-3], -3) for x in (k, v))
        return q, k, v
    widest = max(heads, key_heads, value_heads)
    for name, count in (("q", heads), ("k", key_heads), ("v", value_heads)):
        if count not in (1, widest):
            _refuse_heads(name, count, widest)
    q, k, v = (x if x.shape[-3] == widest else x.expand(*x.shape[:-3], widest, *x.shape[-2:]) for x in (q, k, v))
    return q, k, v


def _refuse_heads(name: str, count: int, widest: int) -> NoReturn:
    raise ValueError(
        f"{name} has {count} heads beside {widest}: pass enable_gqa=True if queries share key heads in groups"
    )


def _lead(q: Tensor, k: Tensor, v: Tensor) -> tuple[int, ...]:
    """The batch dimensions that those of q, k and v broadcast to: ``torch.broadcast_shapes`` would import sympy."""
    if q.shape[:-3] == k.shape[:-3] == v.shape[:-3]:
        return tuple(q.shape[:-3])
    lead: list[int] = []
    for sizes in zip_longest(*(reversed(x.shape[:-3]) for x in (q, k, v)), fillvalue=1):
        wide = [size for size in sizes if size != 1]
        if any(size != wide[0] for size in wide):
            shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
            raise ValueError(f"the batch dimensions of q, k and v do not broadcast: {shapes}")
        lead.insert(0, wide[0] if wide else 1)
    return tuple(lead)


def _flatten(x: Tensor, lead: tuple[int, ...]) -> Tensor:
    """(…, H, T, D) with its batch dimensions broadcast to ``lead`` and made one; itself where it is so already."""
    if x.dim() == 4 and x.shape[:1] == lead:
        return x
    return x.expand(*lead, *x.shape[-3:]).reshape(math.prod(lead), *x.shape[-3:])


def _canonical_mask(mask: Tensor, q: Tensor, logits_shape: tuple[int, ...]) -> Tensor:
    """The mask as (B|1, H|1, T|1, M|1), broadcast dimensions kept at 1 where all batch dimensions are."""
    if mask.dtype not in (torch.bool, torch.float32, q.dtype):
        raise ValueError(f"attn_mask is {mask.dtype}: it must be torch.bool, torch.float32 or q's {q.dtype}")
    if mask.device != q.device:
        raise ValueError(f"attn_mask is on {mask.device} and q is on {q.device}: put it on q's device")
    rank = len(logits_shape)
    padded = (1,) * (rank - mask.dim()) + tuple(mask.shape)
    if len(padded) != rank or any(m not in (1, n) for m, n in zip(padded, logits_shape, strict=True)):
        raise ValueError(f"attn_mask has shape {tuple(mask.shape)}, which does not broadcast to {logits_shape}")
    mask = mask.reshape(padded)
    lead, tail = padded[:-3], padded[-3:]
    if math.prod(lead) == 1:
        return mask.reshape(1, *tail)
    return mask.expand(*logits_shape[:-3], *tail).reshape(math.prod(logits_shape[:-3]), *tail)


def _canonical_slopes(slopes: Tensor, q: Tensor, lead: tuple[int, ...]) -> Tensor:
    """The slopes as (B|1, H), in the accumulator dtype."""
    check_per_head("alibi_slopes", slopes, q)
    heads = q.shape[-3]
    if slopes.shape not in ((heads,), (*lead, heads)):
        shapes = " or ".join(str(shape) for shape in dict.fromkeys(((heads,), (*lead, heads))))
        raise ValueError(f"alibi_slopes has shape {tuple(slopes.shape)}: it has a slope for each head, {shapes}")
    return slopes.to(accumulator(q.dtype)).reshape(-1, heads)


def check_per_head(name: str, x: Tensor, q: Tensor) -> None:
    """Raise ValueError for what cannot be computed with q, whatever its shape."""
    if not x.is_floating_point():
        raise ValueError(f"{name} is {x.dtype}: it must be floating-point")
    if x.device != q.device:
        raise ValueError(f"{name} is on {x.device} and q is on {q.device}: put it on q's device")
