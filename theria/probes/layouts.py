"""The layouts of q, k and v: the order of their axes, heads shared among queries, sequences laid end to end.

A layout is a name. ``bhtd``, ``bthd``, ``btd`` and ``td`` hold sequences of one length. In ``thd``, ``htd``, ``1thd``
and ``1htd`` several sequences of different lengths lie end to end along t. ``bhtd:bgtd`` gives q's layout and that of
k and v, where heads of q share them: ``g`` is a smaller number of heads; ``bhtd:btd`` has none.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

LAYOUTS = {"bhtd": (0, 1, 2, 3), "bthd": (0, 2, 1, 3)}
"""Axis order of an input as a permutation of (B,H,T,D)."""

PACKED = {"thd": "bthd", "1thd": "bthd", "1htd": "bhtd", "htd": "bhtd"}
"""The layouts of sequences laid end to end, and what each is with an axis of one batch in front."""

SHARED = ("bhtd:bgtd", "bthd:btgd", "bhtd:btd", "bthd:btd")
"""The layouts in which heads of q share those of k and v."""

_PARTS = (1, 2, 1)
"""The lengths of packed sequences in units of the shortest: multiples of it, for kernels that want multiples."""


def total(length: int) -> int:
    """The number of positions of packed sequences, the shortest of which has ``length``."""
    return sum(_PARTS) * length


def sequence_lengths(positions: int) -> list[int]:
    """The lengths of the sequences that are packed in a ``total`` of positions."""
    return [part * (positions // sum(_PARTS)) for part in _PARTS]


def query_layout(layout: str) -> str:
    """The layout of q."""
    return layout.partition(":")[0]


def key_layout(layout: str) -> str:
    """The layout of k and v, by the same names."""
    return layout.rpartition(":")[2].replace("g", "h")


def to_bhtd(tensor: Tensor, layout: str) -> Tensor:
    """A tensor of some layout seen as (B,H,T,D); ``btd`` and ``td`` lack the axes of heads and batch."""
    if layout in PACKED:
        return to_bhtd(tensor if tensor.dim() == 4 else tensor[None], PACKED[layout])
    if layout in LAYOUTS:
        return tensor.permute(LAYOUTS[layout])
    return tensor.unsqueeze(1) if layout == "btd" else tensor[None, None]


def from_bhtd(tensor: Tensor, layout: str) -> Tensor:
    """The inverse of ``to_bhtd``."""
    if layout in PACKED:
        whole = from_bhtd(tensor, PACKED[layout])
        return whole if layout.startswith("1") else whole[0]
    if layout in LAYOUTS:
        return tensor.permute(LAYOUTS[layout])
    return tensor.squeeze(1) if layout == "btd" else tensor[0, 0]


@dataclass(frozen=True)
class Shape:
    """Sizes of q (B,H,T,D), k (B,H,M,D) and v (B,H,M,Dv)."""

    batch: int = 2
    heads: int = 2
    queries: int = 5
    keys: int = 7
    dim: int = 6
    value_dim: int = 6


ODD = Shape()
"""No size a power of two: pads and copies made inside a forward show."""

ROUND = Shape(1, 2, 16, 16, 16, 16)
"""Every size a power of two: a fast path that asks for it is taken."""
