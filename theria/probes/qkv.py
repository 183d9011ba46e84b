"""Random q, k and v in a layout, contiguous or strided."""

from __future__ import annotations

import torch
from torch import Tensor

from theria.probes.layouts import LAYOUTS, Shape, from_bhtd
from theria.probes.point import draw


def draw_qkv(
    shape: Shape, *, layout: str, dtype: torch.dtype, device: str, seed: int, strided: bool = False
) -> dict[str, Tensor]:
    """Random q, k, v in a layout, contiguous or (``strided``) a view of storage with another axis order.

    Raises:
        ValueError: for an unknown layout.
    """
    if layout not in (*LAYOUTS, "btd", "td"):
        raise ValueError(f"layout {layout!r} is unknown; choose bhtd, bthd, btd or td")
    generator = torch.Generator().manual_seed(seed)
    batch = 1 if layout == "td" else shape.batch
    heads = 1 if layout in ("btd", "td") else shape.heads
    sizes = {
        "q": (batch, heads, shape.queries, shape.dim),
        "k": (batch, heads, shape.keys, shape.dim),
        "v": (batch, heads, shape.keys, shape.value_dim),
    }
    tensors = {name: from_bhtd(draw(size, generator), layout).to(device, dtype) for name, size in sizes.items()}
    if strided:
        return {name: _strided(tensor) for name, tensor in tensors.items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _strided(tensor: Tensor) -> Tensor:
    """The same numbers with the two axes before the last swapped in memory, as after a head split."""
    return tensor.transpose(-3, -2).contiguous().transpose(-3, -2) if tensor.dim() > 2 else tensor.t().contiguous().t()
