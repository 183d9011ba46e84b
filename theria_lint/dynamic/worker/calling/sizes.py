"""Sizes that follow from a scene's: sides of an image, and parts that are smaller than the whole."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt

from theria.probes.sweep import ODD, ROUND, Shape
from theria_lint.dynamic.worker.calling.scene import Scene

SIZES: tuple[Shape, ...] = (
    ODD,
    replace(ODD, keys=ODD.queries),
    replace(ODD, queries=8, keys=8, dim=8, value_dim=8),
    ROUND,
    Shape(1, 2, 64, 64, 16, 16),
    Shape(1, 2, 64, 64, 64, 64),
    Shape(1, 1, 128, 128, 64, 64),
)
"""Sizes to try, from the most telling to the most accommodating."""

KERNEL_SIZES = (Shape(1, 2, 6, 6, 8, 8), *SIZES[1:])
"""Sizes for kernels: as many keys as queries, for few check the lengths; and few programs, for interpreting one takes
milliseconds."""

KERNEL_SIZES_ON_GPU = (Shape(1, 2, 20, 20, 16, 16), *SIZES[3:])
"""Sizes for kernels that are compiled, which takes seconds for each: tensor cores want 16 channels."""

ONE_PROGRAM = Shape(1, 1, 6, 6, 8, 8)
"""The size that is tried first where it is known which axis is that of heads."""

SEVERAL_CHUNKS = SIZES[2]
"""A length that is a multiple of the length of short chunks."""

SIDES = {64: 8, 128: 14}
"""The side of an image by the number of queries: windows of 7 and 8 are common defaults."""


def side(scene: Scene) -> int:
    """The height and width of an image."""
    return SIDES.get(scene.shape.queries, 4)


def grid(scene: Scene) -> tuple[int, int]:
    """Height and width whose product is the number of positions in a sequence."""
    root = isqrt(scene.shape.queries)
    return (root, root) if root * root == scene.shape.queries else (1, scene.shape.queries)


def part(scene: Scene) -> int:
    """The largest proper part that divides the number of queries; all of them where that is prime."""
    length = scene.shape.queries
    return next((length // n for n in range(2, length) if length % n == 0), length)


def few(scene: Scene) -> int:
    """Some of the positions of a part, never all: what selects tokens has to select."""
    return max(1, part(scene) // 2)
