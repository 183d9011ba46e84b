"""Sizes that follow from a scene's: sides of an image, and parts that are smaller than the whole."""

from __future__ import annotations

from math import isqrt

from theria_lint.dynamic.worker.calling.scene import Scene

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
