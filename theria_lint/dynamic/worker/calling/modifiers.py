"""What attention does to its logits and keys beside their product: masks, biases, slopes, sinks, rotations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from theria_lint.dynamic.worker.calling.scene import Scene

SHORT = 4
"""A length of blocks of which a short sequence has several."""


def _cut(length: int, width: int, scene: Scene) -> Tensor:
    """(length, width) of truth values: every row and column holds both, and the diagonal is true.

    So nothing is masked whole, whichever of the two says so.
    """
    row, column = torch.meshgrid(torch.arange(length), torch.arange(width), indexing="ij")
    return ((row == column) | ((row + column) % 2 == 0)).to(scene.device)


def masks(name: str, scene: Scene) -> list[Any]:
    """None, or what masks some keys of every query: as truth values, then as numbers to multiply by or to add."""
    s = scene.spread
    whole = _cut(s.queries, s.keys, scene)
    padding = _cut(s.batch, s.keys, scene)
    shapes = [whole, whole.expand(s.batch, 1, -1, -1), padding]
    return [None, *shapes, *(mask.to(scene.dtype) for mask in shapes)]


def block_masks(name: str, scene: Scene) -> list[Any]:
    """None, or which short blocks of keys a block of queries sees."""
    s = scene.spread
    blocks = _cut(-(-s.queries // SHORT), -(-s.keys // SHORT), scene)
    return [None, blocks, blocks.expand(s.batch, s.heads, -1, -1), blocks.to(torch.int32)]


def biases(name: str, scene: Scene) -> list[Any]:
    """None, or what is added to the logits: as the text says, by head, by sequence and head, or alike."""
    s = scene.spread
    shapes = [(s.heads, s.queries, s.keys), (s.batch, s.heads, s.queries, s.keys), (s.queries, s.keys)]
    written = scene.written_shape(name)
    return [None, *(scene.tensor(name, shape) for shape in dict.fromkeys([*([written] if written else []), *shapes]))]


def slopes(name: str, scene: Scene) -> list[Any]:
    """None, or a slope for each head, as ALiBi has them."""
    slopes = 2.0 ** -torch.arange(1, scene.shape.heads + 1, dtype=scene.dtype, device=scene.device)
    return [None, slopes, slopes.expand(scene.shape.batch, -1), slopes[:, None, None]]


def angles(name: str, scene: Scene) -> list[Any]:
    """None, or the cosines or sines of rotary embeddings: for whole heads or halves of them, by the axes of q."""
    s = scene.spread
    frequencies = 10000.0 ** -(torch.arange(s.dim // 2, dtype=torch.float64) / max(1, s.dim // 2))
    half = torch.outer(torch.arange(s.queries, dtype=torch.float64), frequencies)
    turned = (half.sin() if "sin" in name else half.cos()).to(scene.device, scene.dtype)
    tables = [torch.cat((turned, turned), -1), turned]
    return [None, *tables, *(table.expand(s.batch, -1, -1) for table in tables), *(t[:, None] for t in tables)]


def sinks(name: str, scene: Scene) -> list[Any]:
    """None, or a logit for each head."""
    return [None, scene.tensor(name, (scene.shape.heads,))]
