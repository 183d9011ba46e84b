"""What a module's forward is given beside the tensors that it is differentiated in, and the shape of the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from theria_lint.dynamic.worker.calling.arguments import CALL, Values
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.sizes import grid, side

ANYTHING = "*"
"""Stands for the first positional argument of a forward that names none."""

FEATURES = {"btd": -1, "bhtd": 1, "bthd": 1, "td": -1, "bhwc": -1, "bcfhw": 1, "bxywwc": -1, "bhwtd": -1}
"""The layouts of a module's input, the likeliest first, and the axis of the features in each."""


DEGREE = 3
"""How many neighbours a position of a graph has: itself and one on either side."""


def x_shape(scene: Scene) -> tuple[int, ...]:
    """The shape of a module's input in the scene's layout.

    A sequence (B,T,C) or (T,C), channels first (B,C,T), images (B,C,S,S) and (B,S,S,C), a video (B,C,2,S,S), windows of
    an image (B,2,2,S,S,C), or windows of a sequence with heads apart (B,H,2,T,D).
    """
    b, t, c, s = scene.shape.batch, scene.shape.queries, scene.channels, side(scene)
    return {
        "btd": (b, t, c),
        "td": (t, c),
        "bthd": (b, c, t),
        "bhtd": (b, c, s, s),
        "bhwc": (b, s, s, c),
        "bcfhw": (b, c, 2, s, s),
        "bxywwc": (b, 2, 2, s // 2 or 1, s // 2 or 1, c),
        "bhwtd": (b, scene.shape.heads, 2, t, scene.shape.dim),
    }[scene.layout]


def _masks(name: str, scene: Scene) -> list[Any]:
    """Nothing is masked, in the forms that masks have."""
    s = scene.shape
    scores = torch.zeros(s.batch, 1, s.queries, s.keys, dtype=scene.dtype, device=scene.device)
    one, pairs, batch = (
        torch.ones(shape, dtype=torch.bool, device=scene.device)
        for shape in ((s.batch, s.queries), (s.queries, s.keys), (s.batch, s.queries, s.keys))
    )
    return [None, one, scores, pairs, batch]


def _rotations(name: str, scene: Scene) -> list[Any]:
    """Nothing, the cosines and sines of rotary embeddings, their angles, or complex numbers of length one."""
    s = scene.shape
    angles = scene.tensor("angles", (s.queries, s.dim))
    batched = angles.expand(s.batch, -1, -1)
    pairs = [(batched.cos(), batched.sin()), (angles.sin(), angles.cos())]
    turned = _turned(angles)
    found = [
        None,
        *pairs,
        angles,
        scene.tensor(name, x_shape(scene)),
        turned,
        scene.tensor(name, (1, s.queries, scene.channels)),
    ]
    return [turned, *found[:-2]] if "cis" in name else found


def _turned(angles: Tensor) -> Tensor:
    """A complex number for every two channels."""
    half = angles[:, : angles.shape[1] // 2]
    return torch.polar(torch.ones_like(half), half)


def _waves(name: str, scene: Scene) -> list[Any]:
    """The cosines or sines of rotary embeddings, of all channels or of half: for a sequence, a batch, or heads."""
    angles = scene.tensor("angles", (scene.shape.queries, scene.shape.dim))
    waves = angles.cos() if "cos" in name else angles.sin()
    half = waves[:, : waves.shape[1] // 2]
    return [waves, waves.expand(scene.shape.batch, -1, -1), half, waves[None, :, None], half[None, :, None], None]


def _positions(name: str, scene: Scene) -> list[Any]:
    """The numbers of the positions, for one sequence or for the batch."""
    numbers = torch.arange(scene.shape.queries, device=scene.device)
    return [numbers, numbers.expand(scene.shape.batch, -1), numbers[:, None].to(scene.dtype)]


def _grids(name: str, scene: Scene) -> list[Any]:
    """Height and width of what a sequence is laid out from, or of an image."""
    return [grid(scene), (side(scene), side(scene))]


def _neighbours(scene: Scene) -> Tensor:
    """Which positions are neighbours on a ring, themselves included: (T,T) of bool."""
    numbers = torch.arange(scene.shape.queries, device=scene.device)
    apart = (numbers[:, None] - numbers).remainder(len(numbers))
    return (apart <= 1) | (apart == len(numbers) - 1)


def _edges(name: str, scene: Scene) -> list[Any]:
    """The two ends of every edge of a graph, (2,E) or (E,2)."""
    pairs = _neighbours(scene).nonzero()
    return [pairs.T, pairs]


def _numbers(name: str, scene: Scene) -> list[Any]:
    """Numbers of positions: of all, in another order, for each position; or of one for each."""
    s = scene.shape
    rows = torch.arange(s.queries, device=scene.device)
    others = ((rows[:, None] + rows + 1) % s.queries).expand(s.batch, -1, -1)
    return [others, others[..., 0], others[0], rows]


def _levels(name: str, scene: Scene) -> list[Any]:
    """Height and width of the one level of a pyramid that a sequence is, or where it starts."""
    return [torch.tensor([0] if "start" in name else [[1, scene.shape.queries]], device=scene.device)]


def _adjacencies(name: str, scene: Scene) -> list[Any]:
    """The edges of a graph as a matrix of zeros and ones, for one graph or for the batch, as numbers or as a mask."""
    mask = _neighbours(scene)
    ones = mask.to(scene.dtype)
    batch = scene.shape.batch
    return [ones, ones.expand(batch, -1, -1), mask, mask.expand(batch, -1, -1), ones[..., None], ones[None, None]]


def _constant(value: Any) -> Callable[[str, Scene], list[Any]]:
    return lambda name, scene: [value]


FORWARD: tuple[tuple[str, Values], ...] = (
    (r"^(h|height)$", lambda n, s: [grid(s)[0], side(s)]),
    (r"^(w|width)$", lambda n, s: [grid(s)[1], side(s)]),
    (r"spatial_shapes$|level_start_ind\w*$", _levels),
    (r"^(x_|input_|feat_|fmap_|spatial_)?(size|shapes?|hw|resolution|dims)$", _grids),
    (r"edge_?ind(ex|ices)|^edge_?(list|idx)$", _edges),
    (r"_(ind(ex|ices)|idx|ids)$|^(ind(ex|ices)|idx)$|neighbou?rs?", _numbers),
    (r"^adj", _adjacencies),
    (r"mask", _masks),
    (r"^(position_embeddings|\w*rot(ary)?(_pos)?_?emb\w*|pos_?emb\w*|rope|rel_pos|freqs(_cis)?)$", _rotations),
    (r"^(cos|sin)$|^(cos|sin)_|_(cos|sin)$", _waves),
    (r"^(pos|positions|position_ids|coords|coordinates|input_positions|input_pos|cache_position)$", _positions),
    (r"^(start|current|cur|cache)_?(pos|position|idx|index|len)$|^offset$|step$|^epoch$", _constant(0)),
    *CALL,
)
"""By what a parameter of a module's forward is called: its candidate values."""
