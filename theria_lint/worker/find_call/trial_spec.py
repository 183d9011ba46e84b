"""Define a trial spec (layout, sizes, dtype, device) and draw the tensors that belong to it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from theria.probes.layouts import LAYOUTS, ODD, PACKED, ROUND, Shape, key_layout, query_layout, total
from theria.probes.point import draw
from theria.probes.qkv import draw_qkv
from theria_lint.worker.find_call.shape_hints import Symbols, compute_sizes

CONSTRUCTOR_PREFIX = "__init__:"
"""Stands before the names of a constructor's parameters in a choice, and where flags are turned."""

ENTRY, ATTRIBUTE, GLOBAL = "config.", "self.", "global:"
"""What stands before the name of an entry of a configuration, an attribute, a constant of the module that is turned."""


@dataclass(frozen=True)
class TrialSpec:
    """One set of choices: what every value given to the target is made from.

    ``shape`` holds the sizes of one sequence, ``layout`` one of the names in `theria.probes.layouts`.
    ``base`` is the attention function that wrappers are given. ``strided``: the inputs are views of storage with
    another axis order. ``evaluating``: modules are in evaluation mode. ``masking``: switches for a causal mask are on.
    ``small``: sizes that a constructor has defaults for are chosen too. ``written``: what the target's text says of
    the shapes of its arguments, by name. ``gentle``: keys of length one, for recurrences that diverge.
    ``choice``: which candidate some parameters take in this spec, whatever the way says. ``learned`` names arguments
    that are inputs too, ``whole``: all that the target returns is its output, not the attention among it alone;
    ``output``: that tensor of what it returns is.
    ``weights``: the shapes of the parameters of the module that is called, for such that are given to it;
    ``axes``: what its forward's text says of the axes of its arguments, that of the first under ``*``.
    ``called``: the target has been called before with other numbers. ``turned``: flags with other values than their
    defaults, by place (see `theria_lint.worker.find_call.flags`). ``cut``: what becomes of axes of a size in a recorded
    call; ``directional``: it is too slow for more than second derivatives along a few directions.
    """

    shape: Shape
    layout: str
    dtype: torch.dtype
    device: str
    base: Callable[..., Any]
    seed: int = 0
    strided: bool = False
    evaluating: bool = False
    masking: bool = False
    small: bool = False
    text_shapes: Mapping[str, Symbols] = field(default_factory=dict)
    gentle: bool = False
    choice: Mapping[str, int] = field(default_factory=dict)
    learned: tuple[str, ...] = ()
    whole: bool = False
    output: int | None = None
    called: bool = False
    weights: tuple[tuple[int, ...], ...] = ()
    axes: Mapping[str, Symbols] = field(default_factory=dict)
    turned: Mapping[str, Any] = field(default_factory=dict)
    cut: Mapping[int, int] = field(default_factory=dict)
    directional: bool = False

    def list_turned(self, prefix: str = "") -> dict[str, Any]:
        """The flags that are turned at places with a prefix, by their names; without one, those of the call."""
        if prefix:
            return {place.removeprefix(prefix): v for place, v in self.turned.items() if place.startswith(prefix)}
        return {place: v for place, v in self.turned.items() if place.isidentifier()}

    @property
    def channels(self) -> int:
        """The width of a module's input: all heads side by side."""
        return self.shape.heads * self.shape.dim

    @property
    def packed(self) -> bool:
        """Whether sequences of different lengths lie end to end."""
        return self.layout in PACKED

    @property
    def spread(self) -> Shape:
        """The sizes of the tensors: those of one sequence, unless several are packed in one."""
        shape = self.shape
        return replace(shape, batch=1, queries=total(shape.queries), keys=total(shape.keys)) if self.packed else shape

    @property
    def key_heads(self) -> int:
        """How many heads k and v have."""
        if ":" not in self.layout:
            return self.shape.heads
        return max(1, self.shape.heads // 2) if "h" in key_layout(self.layout) else 1

    def make_qkv(self) -> dict[str, Tensor]:
        """Random q, k, v in the spec's layout; (B,H,T,D) in one of a module's input that has no such tensors."""
        layout = PACKED.get(self.layout, query_layout(self.layout))
        layout = layout if layout in (*LAYOUTS, "btd", "td") else "bhtd"
        tensors = draw_qkv(
            self.spread,
            layout=layout,
            dtype=self.dtype,
            device=self.device,
            seed=self.seed,
            strided=self.strided,
        )
        if self.gentle:
            tensors["k"] /= tensors["k"].norm(dim=-1, keepdim=True).clamp_min(1e-3)
        return {name: self._arrange_axes(name, tensor) for name, tensor in tensors.items()}

    def _arrange_axes(self, name: str, tensor: Tensor) -> Tensor:
        """Without the axis of one batch, or with fewer heads, where the layout has it so."""
        if self.packed:
            return tensor if self.layout.startswith("1") else tensor[0]
        if ":" not in self.layout or name == "q":
            return tensor
        axis = LAYOUTS[query_layout(self.layout)].index(1)
        fewer = tensor.narrow(axis, 0, self.key_heads) if "h" in key_layout(self.layout) else tensor.select(axis, 0)
        return fewer if self.strided else fewer.contiguous()

    def find_written_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape that the target's text gives to an argument, in the spec's sizes."""
        symbols = self.text_shapes.get(name)
        return compute_sizes(symbols, self.spread) if symbols else None

    def draw_tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A random tensor that depends on its name, so that two arguments differ."""
        generator = torch.Generator().manual_seed(self.seed + zlib.crc32(name.encode()))
        return draw(shape, generator).to(self.device, self.dtype)


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

IMAGE_SIDES = {64: 8, 128: 14}
"""The side of an image by the number of queries: windows of 7 and 8 are common defaults."""


def compute_image_side(spec: TrialSpec) -> int:
    """The height and width of an image."""
    return IMAGE_SIDES.get(spec.shape.queries, 4)


def compute_grid_size(spec: TrialSpec) -> tuple[int, int]:
    """Height and width whose product is the number of positions in a sequence."""
    root = isqrt(spec.shape.queries)
    return (root, root) if root * root == spec.shape.queries else (1, spec.shape.queries)


def compute_part_length(spec: TrialSpec) -> int:
    """The largest proper part that divides the number of queries; all of them where that is prime."""
    length = spec.shape.queries
    return next((length // n for n in range(2, length) if length % n == 0), length)


def compute_selected_count(spec: TrialSpec) -> int:
    """Some of the positions of a part, never all: what selects tokens has to select."""
    return max(1, compute_part_length(spec) // 2)
