"""Define trial specs (layout, sizes, dtype, device), bound calls and call strategies."""

from __future__ import annotations

import ast
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from theria.probes.derivatives import list_leaves
from theria.probes.layouts import LAYOUTS, ODD, PACKED, ROUND, Shape, key_layout, query_layout, total
from theria.probes.point import draw, trial
from theria.probes.qkv import draw_qkv
from theria_lint.reasons import CodedError, ReasonCode
from theria_lint.worker.find_call.magnitudes import Magnitudes
from theria_lint.worker.find_call.signatures import (
    Symbols,
    compute_sizes,
)
from theria_lint.worker.find_call.tensor_forms import TensorForm
from theria_lint.worker.fresh_state import FreshCall, TargetState
from theria_lint.worker.library_messages import is_about_none

CONSTRUCTOR_PREFIX = "__init__:"
"""Stands before the names of a constructor's parameters in a choice, and where flags are turned."""

ENTRY, ATTRIBUTE, GLOBAL = "config.", "self.", "global:"
"""What stands before the name of an entry of a configuration, an attribute, a constant of the module that is turned."""

HEADS_AXIS = {"bhtd": 1, "bthd": 2, "thd": 1, "htd": 0, "1thd": 2, "1htd": 1}
"""The axis of heads of a query by its layout; before it stands the 3 of a packed qkv, and the 2 of a packed kv."""


@dataclass(frozen=True)
class TrialSpec:
    """One set of choices: what every value given to the target is made from.

    ``shape`` holds the sizes of one sequence, ``layout`` one of the names in `theria.probes.layouts`.
    ``base`` is the attention function that wrappers are given. ``strided``: the inputs are views of storage with
    another axis order. ``evaluating``: modules are in evaluation mode. ``masking``: switches for a causal mask are on.
    ``small``: sizes that a constructor has defaults for are chosen too, ``narrow``: so are widths, one for each stage,
    that its defaults hold. ``image_channels``: how many an image has, if not those that the sizes give.
    ``written``: what the target's text says of the shapes of its arguments, by name.
    ``gentle``: keys of length one, for recurrences that diverge.
    ``choice``: which candidate some parameters take in this spec, whatever the way says. ``given``: the forms of
    arguments that are None otherwise. ``learned`` names arguments that are inputs too, ``whole``: all that the target
    returns is its output, not the attention among it alone; ``output``: that tensor of what it returns is.
    ``weights``: the shapes of the parameters of the module that is called, for such that are given to it;
    ``axes``: what its forward's text says of the axes of its arguments, that of the first under ``*``.
    ``called``: the target has been called before with other numbers, and differentiated if ``learning``: not so a
    variant, which records what its author keeps out of the graph, and may keep a graph that nobody kept.
    ``turned``: flags with other values than their defaults, by place (see `worker.configurations.flags`). ``cut``: what
    becomes of axes of a size in a recorded
    call; ``cut_widths``: of numbers given to the constructor too. ``directional``: it is too slow for more than second
    derivatives along a few directions. ``inside``: the classes of the layers that are being built around this one.
    ``dropping``: there is dropout, which draws the same for the same seed.
    ``magnitudes``: by what the inputs, the parameters and the gradient are multiplied.
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
    narrow: bool = False
    image_channels: int | None = None
    text_shapes: Mapping[str, Symbols] = field(default_factory=dict)
    gentle: bool = False
    choice: Mapping[str, int] = field(default_factory=dict)
    given: Mapping[str, TensorForm] = field(default_factory=dict)
    learned: tuple[str, ...] = ()
    whole: bool = False
    output: int | None = None
    called: bool = False
    learning: bool = True
    weights: tuple[tuple[int, ...], ...] = ()
    axes: Mapping[str, Symbols] = field(default_factory=dict)
    turned: Mapping[str, Any] = field(default_factory=dict)
    cut: Mapping[int, int] = field(default_factory=dict)
    cut_widths: bool = False
    directional: bool = False
    inside: tuple[type, ...] = ()
    dropping: bool = False
    magnitudes: Magnitudes = field(default_factory=Magnitudes)

    def draw_given(self) -> dict[str, Any]:
        """What is given to arguments that are None otherwise, by name."""
        return {name: form.draw(name, self.spread, self.draw_tensor) for name, form in self.given.items()}

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

IMAGE_SIDES = {64: 8, 128: 14, 32 * 32: 32, 64 * 64: 64}
"""The side of an image by the number of queries: windows of 7 and 8 are common defaults."""

LARGE_IMAGES = (32 * 32, 64 * 64)
"""The numbers of queries for images that are left over after patches of four and several stages, each half as wide."""


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


DROPPED = 0.25
"""The part that is dropped where something is."""


def make_dropout(name: str, spec: TrialSpec) -> list[Any]:
    """The part to drop: none, unless the spec has dropout. Layers are dropped by generators that nobody seeds."""
    return [DROPPED if spec.dropping and "layer" not in name.lower() else 0.0]


def read_flag(hints: Mapping[str, Any]) -> dict[str, Any]:
    """What the linter wants to be turned, by its place."""
    flag = hints.get("flag")
    return {flag["place"]: ast.literal_eval(flag["literal"])} if flag else {}


Cut = Mapping[int, int]
"""What becomes of the axes of a size, by that size."""

RECORDED = "recorded:"
"""The name in a trial's choice under which the number of a recorded call stands."""

MAX_CANDIDATES = 10
"""How many values a parameter may be tried with."""

_TELLING_LENGTH = 7
"""The length of a word that is hardly in a complaint by chance."""


@dataclass(frozen=True)
class BoundCall:
    """A target bound to everything but its differentiable inputs.

    ``function`` takes the inputs by position, and any of ``extras`` by name: floating tensors beside them that it is
    called with otherwise. ``expected`` is the shape that the output of attention would have, None where nothing is
    known of it; ``layout`` that of q, k, v, None for other inputs; ``module`` what was built; ``fresh`` what gives the
    target its state back before each call, ``start`` that state where it is known already; ``discrete`` names the
    tensors of whole numbers or truth values beside them; ``sizes`` are the lengths of what an input is made of that
    holds all parameters.
    """

    function: Callable[..., Any]
    inputs: dict[str, Tensor]
    expected: tuple[int, ...] | None = None
    layout: str | None = None
    module: torch.nn.Module | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    fresh: FreshCall | None = None
    discrete: tuple[str, ...] = ()
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    start: TargetState | None = None

    def renew_state(self, home: str, *, called: bool, learning: bool) -> BoundCall:
        """The call with the target's state as it was at first each time, or as a call with other numbers leaves it.

        ``learning``: that call is differentiated, as a step of training is.
        """
        rehearse = partial(self._call_before, learning=learning) if called else None
        fresh = FreshCall(self.function, self.module, home, rehearse, self.start)
        return replace(self, function=fresh, fresh=fresh)

    def _call_before(self, *, learning: bool) -> None:
        leaves = [(tensor.detach() / 2).requires_grad_() for tensor in self.inputs.values()]
        returned = self.function(*leaves)
        if not learning:
            return
        recorded = [tensor.sum() for tensor in list_tensors(returned) if tensor.requires_grad]
        with suppress(Exception):  # what a backward raises, that of the call that counts raises too
            torch.autograd.grad(recorded, list_leaves(recorded))

    def compute_output(self, *arguments: Tensor) -> Tensor:
        """The attention output among what the target returns."""
        return select_output(self.function(*arguments), self.expected, arguments)

    def with_all_outputs(self) -> BoundCall:
        """The call whose output is all that the target returns and that is in the graph, end to end in one vector."""
        function = self.function

        def whole(*values: Tensor, **others: Tensor) -> Tensor:
            found = [t for t in list_tensors(function(*values, **others)) if t.requires_grad]
            if not found:
                raise CodedError(ReasonCode.NOTHING_IN_GRAPH)
            return torch.cat([t.reshape(-1).to(found[0].dtype) for t in found])

        return replace(self, function=whole, expected=None, layout=None)

    def with_output(self, number: int) -> BoundCall:
        """The call whose output is one of the tensors that the target returns."""
        function = self.function

        def one(*values: Tensor, **others: Tensor) -> Tensor:
            return list(list_tensors(function(*values, **others)))[number]

        return replace(self, function=one, expected=None, layout=None)

    def multiply_gradient(self, factor: float) -> BoundCall:
        """The call whose output is multiplied: so is the gradient that comes back to the target."""
        compute = self.compute_output
        return replace(self, function=lambda *values: compute(*values) * factor, expected=None, layout=None)

    def join_extras(self, names: Sequence[str]) -> BoundCall:
        """The call with some of its extras among its inputs."""
        names = [name for name in names if name in self.extras]
        if not names:
            return self
        function, count = self.function, len(self.inputs)

        def joint(*values: Tensor) -> Any:
            return function(*values[:count], **dict(zip(names, values[count:], strict=True)))

        inputs = {**self.inputs, **{name: self.extras[name] for name in names}}
        return replace(self, function=joint, inputs=inputs, layout=None, extras={})


def copy_tensors(value: Any) -> Any:
    """A value with copies of the tensors in it: a call may write its output, or keys and values, into one."""
    if isinstance(value, Tensor):
        return value.clone()
    if type(value) in (tuple, list):
        return type(value)(map(copy_tensors, value))
    return {key: copy_tensors(part) for key, part in value.items()} if type(value) is dict else value


def list_discrete(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The arguments that are tensors without derivatives."""
    return tuple(n for n, v in arguments.items() if isinstance(v, Tensor) and not v.is_floating_point())


def compute_outputs(calls: Iterable[BoundCall], seed: int) -> list[Tensor]:
    """What some calls give, each with the same random numbers."""
    return [trial(made.compute_output, made.inputs, seed) for made in calls]


def select_output(returned: Any, expected: tuple[int, ...] | None, given: Sequence[Any] = ()) -> Tensor:
    """The tensor that is the attention output: the first of the expected shape, or else the first.

    What was ``given`` to the target is none, though it may stand among what is returned.

    Raises:
        CodedError: if nothing that was returned is a floating-point tensor of the target's own.
    """
    tensors = [t for t in list_tensors(returned) if t.numel() and not any(t is other for other in given)]
    if not tensors:
        raise CodedError(ReasonCode.NO_OUTPUT, kind=type(returned).__name__)
    return next((t for t in tensors if tuple(t.shape) == expected), tensors[0])


def list_tensors(returned: Any) -> Iterator[Tensor]:
    """The floating-point tensors in what a target returns: alone, in sequences, mappings and dataclasses."""
    if isinstance(returned, Tensor):
        yield from (returned,) if returned.is_floating_point() else ()
    elif isinstance(returned, Mapping):
        yield from (tensor for value in returned.values() for tensor in list_tensors(value))
    elif isinstance(returned, list | tuple):
        yield from (tensor for value in returned for tensor in list_tensors(value))
    elif is_dataclass(returned) and not isinstance(returned, type):
        yield from (tensor for field_ in fields(returned) for tensor in list_tensors(getattr(returned, field_.name)))
    elif _is_record(returned):
        yield from (
            tensor for value in vars(returned).values() if not _is_record(value) for tensor in list_tensors(value)
        )


def _is_record(returned: Any) -> bool:
    """Whether something is an object that only holds things: of a class of the target's own."""
    if isinstance(returned, type | torch.nn.Module) or not hasattr(returned, "__dict__"):
        return False
    return type(returned).__module__.partition(".")[0] not in ("torch", "builtins", "functools", "types")


CallMaker = Callable[[TrialSpec, Mapping[str, int]], BoundCall]
"""Makes a call in a spec, with the candidate that each parameter takes."""


@dataclass(frozen=True)
class CallStrategy:
    """One way to call a target: it serves several specs, so that sizes and strides can vary.

    ``choice`` says which candidate each parameter takes, by name, 0 where it says nothing; ``free`` names the
    parameters that need a value, ``optional`` those that could be given one, ``tensors`` those of the optional ones
    that look like tensors, ``unset`` those of the call that are None by default, be they q, k or v; ``joined`` names
    the extras that are inputs. ``packs``: arguments tell it where sequences of different lengths end; ``shares``: its
    text speaks of heads that share keys. ``siblings`` make the call with other tensors; ``unsure`` names what was given
    without much to go by, None where that is all of ``free``.
    ``watched``: to make the call another function is run, and what it gives the target is taken. ``home`` is the
    module that the target stands in; ``callers`` are those whose recorded calls it makes, in order, ``specs`` where it
    makes them, ``shown``: those calls stand in docs or tests that nobody ran; ``copying``: see `call_on_copies`;
    ``layoutless``: it gives nothing that has a layout; ``image_layouts``: those in which it gives images.
    """

    make: CallMaker
    free: tuple[str, ...]
    optional: tuple[str, ...] = ()
    choice: Mapping[str, int] = field(default_factory=dict)
    tensors: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    siblings: tuple[CallMaker, ...] = ()
    unsure: tuple[str, ...] | None = None
    takes_varlen: bool = False
    shares_keys: bool = False
    watched: bool = False
    home: str = ""
    callers: tuple[str, ...] = ()
    specs: tuple[TrialSpec, ...] = ()
    shown: bool = False
    copying: bool = False
    layoutless: bool = False
    image_layouts: frozenset[str] = frozenset()

    def call_on_copies(self, *, parameters: bool) -> CallStrategy:
        """The way with copies of the inputs: code that writes into q is given what a projection made, not a leaf.

        So are a module's ``parameters``: code that writes into them is given what a network made.
        """

        def make(spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
            made = self.make(spec, choice)
            function, module = made.function, made.module if parameters else None

            def call(*values: Tensor, **others: Tensor) -> Any:
                for part in module.modules() if module is not None else ():
                    for name, parameter in part._parameters.items():
                        if parameter is not None:
                            part._parameters[name] = parameter.clone()  # type: ignore[assignment]
                return function(*(value.clone() for value in values), **others)

            return replace(made, function=call)

        return replace(self, make=make, copying=True)

    def __call__(self, spec: TrialSpec) -> BoundCall:
        """The call in a spec."""
        magnitudes = spec.magnitudes
        made = self.make(spec, {**self.choice, **spec.choice})
        if magnitudes.scale_parameters(made.module):
            made = replace(made, start=None)
        made = made.renew_state(self.home, called=spec.called, learning=spec.learning)
        made = made.join_extras((*self.joined, *spec.learned))
        scaled = {name: magnitudes.scale_input(name, t, spec.draw_tensor) for name, t in made.inputs.items()}
        made = replace(made, inputs=scaled)
        if spec.output is not None:
            made = made.with_output(spec.output)
        elif spec.whole:
            made = made.with_all_outputs()
        return made.multiply_gradient(magnitudes.gradient) if magnitudes.gradient != 1 else made

    def list_variations(self, complaint: str) -> Iterator[CallStrategy]:
        """The ways that differ from this one in one parameter or, with arguments that were chosen, in the tensors.

        The optional ones only if a complaint names them or, for tensors, if something that is needed may be None.
        """
        if self.choice:
            yield from (replace(self, make=make) for make in self.siblings if make is not self.make)
        named = [n for n in self.optional if _mentions_parameter(complaint, n.removeprefix(CONSTRUCTOR_PREFIX))]
        lacking = is_about_none(complaint)
        missing = [n for n in self.tensors if n not in named] if lacking else []
        for name in (*self.free, *named, *missing):
            for index in range(MAX_CANDIDATES):
                if index != self.choice.get(name, 0):
                    yield replace(self, choice={**self.choice, name: index})


def _mentions_parameter(complaint: str, name: str) -> bool:
    """Whether a complaint names a parameter, or has a long word of its name."""
    said = set(re.findall(r"\w+", complaint))
    return name in said or any(len(word) >= _TELLING_LENGTH and word in said for word in name.split("_"))


def compute_expected_shape(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The shape of attention's output for these q and v."""
    return (*tensors["q"].shape[:-1], tensors["v"].shape[-1])
