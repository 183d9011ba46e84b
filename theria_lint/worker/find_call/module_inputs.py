"""Build the tensors that a module's forward is differentiated in: which parameters take one, of which shape."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from theria_lint.reasons import CodedError, ReasonCode
from theria_lint.static import attention_names
from theria_lint.worker.find_call.argument_values import CALL_VALUES, ValueMaker, make_masks, offer_values
from theria_lint.worker.find_call.call_strategy import TrialSpec, compute_grid_size, compute_image_side
from theria_lint.worker.find_call.choose_arguments import assign_roles, has_values_for_name, looks_like_tensor
from theria_lint.worker.find_call.signatures import (
    POSITIONAL,
    NoSuchChoiceError,
    Parameters,
    Symbols,
    find_shape_statements,
    read_source_text,
)

ANYTHING = "*"
"""Stands for the first positional argument of a forward that names none."""

FEATURE_AXES = {"btd": -1, "bhtd": 1, "bthd": 1, "td": -1, "bhwc": -1, "bcfhw": 1, "bxywwc": -1, "bhwtd": -1}
"""The layouts of a module's input, the likeliest first, and the axis of the features in each."""

IMAGE_LAYOUTS = frozenset(("bhtd", "bhwc", "bcfhw", "bxywwc"))
"""Those of images and videos."""

NEIGHBOUR_COUNT = 3
"""How many neighbours a position of a graph has: itself and one on either side."""


def compute_input_shape(spec: TrialSpec) -> tuple[int, ...]:
    """The shape of a module's input in the spec's layout.

    A sequence (B,T,C) or (T,C), channels first (B,C,T), images (B,C,S,S) and (B,S,S,C), a video (B,C,2,S,S), windows of
    an image (B,2,2,S,S,C), or windows of a sequence with heads apart (B,H,2,T,D).
    """
    b, t, c, s = spec.shape.batch, spec.shape.queries, spec.channels, compute_image_side(spec)
    of_image = spec.image_channels or c
    return {
        "btd": (b, t, c),
        "td": (t, c),
        "bthd": (b, c, t),
        "bhtd": (b, of_image, s, s),
        "bhwc": (b, s, s, of_image),
        "bcfhw": (b, of_image, 2, s, s),
        "bxywwc": (b, 2, 2, s // 2 or 1, s // 2 or 1, c),
        "bhwtd": (b, spec.shape.heads, 2, t, spec.shape.dim),
    }[spec.layout]


def _make_open_masks(name: str, spec: TrialSpec) -> list[Any]:
    """Nothing is masked, in the forms that masks have; then some keys are."""
    s = spec.shape
    scores = torch.zeros(s.batch, 1, s.queries, s.keys, dtype=spec.dtype, device=spec.device)
    one, pairs, batch = (
        torch.ones(shape, dtype=torch.bool, device=spec.device)
        for shape in ((s.batch, s.queries), (s.queries, s.keys), (s.batch, s.queries, s.keys))
    )
    _, among, _, padding, *_ = make_masks(name, replace(spec, shape=replace(s, keys=s.queries)))
    return [None, one, scores, pairs, batch, padding, among, make_masks(name, spec)[3]]


def _make_rotary_embeddings(name: str, spec: TrialSpec) -> list[Any]:
    """Nothing, the cosines and sines of rotary embeddings, their angles, or complex numbers of length one."""
    s = spec.shape
    angles = spec.draw_tensor("angles", (s.queries, s.dim))
    batched = angles.expand(s.batch, -1, -1)
    pairs = [(batched.cos(), batched.sin()), (angles.sin(), angles.cos())]
    turned = _make_complex_rotations(angles)
    found = [None, *pairs, angles, spec.draw_tensor(name, compute_input_shape(spec))]
    distances = 2 * s.queries - 1  # from the last position to the first, and back
    rows = [(1, s.queries), (s.batch, distances), (s.queries,), (distances,)]
    shapes = [(*row, spec.channels) for row in rows]
    return [turned, *found] if "cis" in name else [*found, turned, *(spec.draw_tensor(name, shape) for shape in shapes)]


def _make_complex_rotations(angles: Tensor) -> Tensor:
    """A complex number for every two channels."""
    half = angles[:, : angles.shape[1] // 2]
    return torch.polar(torch.ones_like(half), half)


def _make_rotary_waves(name: str, spec: TrialSpec) -> list[Any]:
    """The cosines or sines of rotary embeddings, of all channels or of half: for a sequence, a batch, or heads."""
    angles = spec.draw_tensor("angles", (spec.shape.queries, spec.shape.dim))
    waves = angles.cos() if "cos" in name else angles.sin()
    half = waves[:, : waves.shape[1] // 2]
    return [waves, waves.expand(spec.shape.batch, -1, -1), half, waves[None, :, None], half[None, :, None], None]


def _make_position_ids(name: str, spec: TrialSpec) -> list[Any]:
    """The numbers of the positions, for one sequence or for the batch."""
    numbers = torch.arange(spec.shape.queries, device=spec.device)
    return [numbers, numbers.expand(spec.shape.batch, -1), numbers[:, None].to(spec.dtype)]


def _make_grid_sizes(name: str, spec: TrialSpec) -> list[Any]:
    """Height and width of what a sequence is laid out from, or of an image."""
    return [compute_grid_size(spec), (compute_image_side(spec), compute_image_side(spec))]


def _make_neighbour_mask(spec: TrialSpec) -> Tensor:
    """Which positions are neighbours on a ring, themselves included: (T,T) of bool."""
    numbers = torch.arange(spec.shape.queries, device=spec.device)
    apart = (numbers[:, None] - numbers).remainder(len(numbers))
    return (apart <= 1) | (apart == len(numbers) - 1)


def _make_graph_edges(name: str, spec: TrialSpec) -> list[Any]:
    """The two ends of every edge of a graph, (2,E) or (E,2); then without edges from a node to itself."""
    pairs = _make_neighbour_mask(spec).nonzero()
    apart = pairs[pairs[:, 0] != pairs[:, 1]]
    return [pairs.T, pairs, apart.T, apart]


def _make_position_indices(name: str, spec: TrialSpec) -> list[Any]:
    """Numbers of positions: of all, in another order, for each position; or of one for each."""
    s = spec.shape
    rows = torch.arange(s.queries, device=spec.device)
    others = ((rows[:, None] + rows + 1) % s.queries).expand(s.batch, -1, -1)
    return [others, others[..., 0], others[0], rows]


def _make_pyramid_levels(name: str, spec: TrialSpec) -> list[Any]:
    """Height and width of the one level of a pyramid that a sequence is, or where it starts."""
    return [torch.tensor([0] if "start" in name else [[1, spec.shape.queries]], device=spec.device)]


def _make_adjacency_matrices(name: str, spec: TrialSpec) -> list[Any]:
    """The edges of a graph as a matrix of zeros and ones, for one graph or for the batch, as numbers or as a mask."""
    mask = _make_neighbour_mask(spec)
    ones = mask.to(spec.dtype)
    batch = spec.shape.batch
    return [ones, ones.expand(batch, -1, -1), mask, mask.expand(batch, -1, -1), ones[..., None], ones[None, None]]


FORWARD_VALUES: tuple[tuple[str, ValueMaker], ...] = (
    (r"^(h|height)$", lambda n, s: [compute_grid_size(s)[0], compute_image_side(s)]),
    (r"^(w|width)$", lambda n, s: [compute_grid_size(s)[1], compute_image_side(s)]),
    (r"spatial_shapes$|level_start_ind\w*$", _make_pyramid_levels),
    (r"^(x_|input_|feat_|fmap_|spatial_)?(size|shapes?|hw|resolution|dims)$", _make_grid_sizes),
    (r"edge_?ind(ex|ices)|^edge_?(list|idx)$", _make_graph_edges),
    (r"_(ind(ex|ices)|idx|ids)$|^(ind(ex|ices)|idx)$|neighbou?rs?", _make_position_indices),
    (r"^adj", _make_adjacency_matrices),
    (r"mask", _make_open_masks),
    (
        r"^(position_embeddings|\w*rot(ary)?(_pos)?_?emb\w*|pos_?emb\w*|rope|rel_pos|freqs(_cis)?)$",
        _make_rotary_embeddings,
    ),
    (r"^(cos|sin)$|^(cos|sin)_|_(cos|sin)$", _make_rotary_waves),
    (r"^(pos|positions|position_ids|coords|coordinates|input_positions|input_pos|cache_position)$", _make_position_ids),
    (r"^(start|current|cur|cache)_?(pos|position|idx|index|len)$|^offset$|step$|^epoch$", offer_values(0)),
    *CALL_VALUES,
)
"""By what a parameter of a module's forward is called: its candidate values."""


Choice = Mapping[str, int]
Sizes = tuple[int, ...]

_COORDINATES = re.compile(r"^(xyz|pos|positions?|pts|points?|trans(lation)?s?|(rel_|abs_)?coo?rd?(inate)?s)(_\w|\d)?$")
_EDGES = re.compile(r"^edge_?(attr|feat|weight|emb|features|dist|vec)")
_FRAMES = re.compile(r"^(rot(ation)?s?|frames?|rotation_mat\w*)$")
_WEIGHTS = re.compile(
    r"^(fast_|new_|hyper_|slow_|meta_)?(w|ws|weights?|kernel|matrix|params?)(_?[qkvo])?$|^w_|_weights?$"
)
_KINDS = re.compile(r"segment|token_type|labels?$|targets?$")
"""What the names look like of a number for each token."""
_REFERENCES = re.compile(r"^reference_points$")
_PAIRS = re.compile(r"^(z|e|edges?|edge_(attrs?|feat\w*|emb\w*|weights?)|pairs?(_\w+)?|pair\w*|rel_?pos\w*)$")
_SPATIAL = re.compile(r"^(vec(tor)?s?|velocit\w*|v_feat\w*)$")
_VECTORS = re.compile(r"^(t|temb|t_emb|time\w*|vec|clip_?emb\w*|c|cond\w*|style|latents?|\w+_vec(tor)?)$")


@dataclass(frozen=True)
class ModuleInputs:
    """Arguments of a forward by the names of its parameters: tensors that are differentiated, alone or in lists.

    ``names`` maps a parameter to the name of its input, or to those of the list that it is given.
    """

    names: Mapping[str, str | tuple[str, ...]]
    tensors: dict[str, Tensor]

    def make_arguments(self, values: Iterable[Tensor]) -> dict[str, Any]:
        """The arguments for new values of the tensors."""
        by_input = dict(zip(self.tensors, values, strict=True))
        return {
            parameter: by_input[found] if isinstance(found, str) else [by_input[name] for name in found]
            for parameter, found in self.names.items()
        }


InputBuilder = Callable[[Parameters, TrialSpec, Choice], ModuleInputs]
"""Makes the tensors that a forward is differentiated in; a choice says which shape a parameter's tensor has."""


def list_input_builders(forward: Parameters) -> Iterator[InputBuilder]:
    """The likeliest first; each may raise what says that it does not suit the forward."""
    if attention_names.takes_qkv(list(forward)):
        yield from (build_wide_qkv, build_qkv_with_heads)
    yield build_single_input
    if _list_needed_parameters(forward)[1:]:
        yield from (build_needed_inputs, build_needed_inputs_with_heads)
    if any(_is_context(name) for name, p in forward.items() if p.default is not inspect.Parameter.empty):
        yield build_input_with_context
    yield build_input_list


def build_single_input(forward: Parameters, spec: TrialSpec, choice: Choice) -> ModuleInputs:
    """One tensor for the first parameter, and one for each that it needs to attend to."""
    name = find_first_parameter(forward)
    others = [other for other in _list_needed_parameters(forward) if other != name and _is_context(other)]
    shapes = {n: _list_context_shapes(n, spec) for n in others} | _list_chosen_shapes(forward, spec, choice)
    return _build_named_inputs({name: "x", **{n: n for n in shapes}}, shapes, spec, choice)


def build_needed_inputs(forward: Parameters, spec: TrialSpec, choice: Choice) -> ModuleInputs:
    """A tensor for every parameter that needs a value and whose name says nothing else."""
    first, *rest = _list_needed_parameters(forward)
    shapes = {n: _list_side_input_shapes(n, spec) for n in rest} | _list_chosen_shapes(forward, spec, choice)
    return _build_named_inputs({n: n for n in (first, *shapes)}, shapes, spec, choice)


def build_needed_inputs_with_heads(forward: Parameters, spec: TrialSpec, choice: Choice) -> ModuleInputs:
    """The same with heads apart, as q, k and v have them, and scores of each query for each key."""
    like = [tuple(spec.make_qkv()["q"].shape)]
    shapes = {
        name: _list_side_input_shapes(name, spec) if _is_scores(name) else like
        for name in _list_needed_parameters(forward)
    }
    return _build_named_inputs({name: name for name in shapes}, shapes, spec, {})


def build_input_with_context(forward: Parameters, spec: TrialSpec, choice: Choice) -> ModuleInputs:
    """One tensor for the first parameter, and one for what it may attend to."""
    given = build_single_input(forward, spec, choice)
    other = next(
        name
        for name in forward
        if _is_context(name) and name not in given.names and attention_names.get_role(name) is None
    )
    shape = _pick_shape(_list_context_shapes(other, spec), choice.get(other, 0))
    return ModuleInputs(
        {**given.names, other: other}, {**given.tensors, other: _draw_strided_tensor(other, shape, spec)}
    )


def build_input_list(forward: Parameters, spec: TrialSpec, choice: Choice) -> ModuleInputs:
    """A list of tensors for the first parameter: the outputs of earlier layers, or the levels of a pyramid."""
    tensors = {name: _draw_strided_tensor(name, compute_input_shape(spec), spec) for name in ("x0", "x1", "x2")}
    return ModuleInputs({find_first_parameter(forward): tuple(tensors)}, tensors)


def build_qkv_with_heads(forward: Parameters, spec: TrialSpec, choice: Choice) -> ModuleInputs:
    """q, k, v with the spec's heads."""
    roles = assign_roles(forward)
    tensors = spec.make_qkv()
    return ModuleInputs(dict(roles), {role: tensors[role] for role in roles.values()})


def build_wide_qkv(forward: Parameters, spec: TrialSpec, choice: Choice) -> ModuleInputs:
    """q, k, v as wide as the module, all heads side by side."""
    shape = replace(spec.shape, heads=1, dim=spec.channels, value_dim=spec.channels)
    return build_qkv_with_heads(
        forward, replace(spec, shape=shape, layout="btd" if spec.layout != "td" else "td"), choice
    )


def list_token_parameters(forward: Parameters) -> list[tuple[str, ...]]:
    """The parameters that may be given numbers of tokens together: the first alone, or all whose names say nothing."""
    try:
        first = find_first_parameter(forward)
    except CodedError:  # nothing can be given by position: the other ways to call it say so
        return []
    others = [
        name
        for name, parameter in forward.items()
        if parameter.default is inspect.Parameter.empty and _may_hold_tensor(parameter) and name != first
        if _KINDS.search(name.lower()) or not has_values_for_name(name, FORWARD_VALUES)
    ]
    return list(dict.fromkeys([(first,), (first, *others)]))


def make_token_ids(names: Iterable[str], spec: TrialSpec) -> dict[str, Tensor]:
    """Numbers of tokens, (B,T): what a language model is given."""
    numbers = torch.arange(spec.shape.batch * spec.shape.queries, device=spec.device) % 2
    return {name: numbers.view(spec.shape.batch, spec.shape.queries) for name in names}


def find_first_parameter(forward: Parameters) -> str:
    """The first parameter, `ANYTHING` where it has no name.

    Raises:
        TypeError: if nothing can be given by position.
    """
    name = next((n for n, p in forward.items() if p.kind in POSITIONAL), None)
    if name is None and not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in forward.values()):
        raise CodedError(ReasonCode.NO_TENSOR_BY_POSITION)
    return name or ANYTHING


def _build_named_inputs(
    names: Mapping[str, str], shapes: Mapping[str, list[Sizes]], spec: TrialSpec, choice: Choice
) -> ModuleInputs:
    """A tensor for each of the names: of one of its shapes, or like x."""
    tensors = {}
    for parameter, name in names.items():
        shape = (
            _pick_shape(shapes[parameter], choice.get(parameter, 0))
            if parameter in shapes
            else compute_input_shape(spec)
        )
        tensors[name] = _draw_strided_tensor(name, shape, spec)
    return ModuleInputs(names, tensors)


def list_optional_tensors(forward: Parameters) -> list[str]:
    """The optional parameters that may hold a tensor that is computed, those that are attended to first.

    A memory of earlier calls is none: its author may mean it to be a constant.
    """
    names = [name for name, p in forward.items() if p.default is None and _may_hold_tensor(p)]
    names = [name for name in names if not re.search(r"^mem|past|prev|cache|hx|label|target", name.lower())]
    attended = [name for name in names if _is_context(name)]
    others = [
        name
        for name in names
        if name not in attended and not _is_telling_name(name) and looks_like_tensor(forward[name])
    ]
    added = [name for name in names if name not in attended and _is_added(name)]
    return list(dict.fromkeys([*attended, *others, *added]))


def _list_chosen_shapes(forward: Parameters, spec: TrialSpec, choice: Choice) -> dict[str, list[Sizes]]:
    """The shapes of the optional tensors that were chosen to be given: the first choice is to give none."""
    names = [name for name in list_optional_tensors(forward) if choice.get(name)]
    return {n: [(), *(_list_context_shapes if _is_context(n) else _list_side_input_shapes)(n, spec)] for n in names}


def _pick_shape(shapes: list[Sizes], index: int) -> Sizes:
    shapes = list(dict.fromkeys(shapes))
    if index >= len(shapes):
        raise NoSuchChoiceError
    return shapes[index]


def _draw_strided_tensor(name: str, shape: Sizes, spec: TrialSpec) -> Tensor:
    """A random tensor, with its last two axes swapped in memory where the spec asks for strides."""
    tensor = spec.draw_tensor(name, shape)
    return tensor.mT.contiguous().mT if spec.strided and tensor.dim() > 1 else tensor


def _list_needed_parameters(forward: Parameters) -> list[str]:
    """The first parameter, and those after it that need a tensor as far as their names and annotations tell."""
    names = [n for n, p in forward.items() if p.default is inspect.Parameter.empty and _may_hold_tensor(p)]
    first = next((n for n, p in forward.items() if p.kind in POSITIONAL), None)
    rest = [
        n for n in names if n != first and (_is_context(n) or attention_names.get_role(n) or not _is_telling_name(n))
    ]
    return [first, *rest] if first is not None else rest


def _may_hold_tensor(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return not variadic and not re.search(r"\b(int|bool|str|float)\b", str(parameter.annotation).lower())


def _is_telling_name(name: str) -> bool:
    """Whether a name says what its parameter is given."""
    lower = name.lower().strip("_")
    return has_values_for_name(name, FORWARD_VALUES) and not (
        _is_scores(name) or _COORDINATES.search(lower) or _PAIRS.search(lower)
    )


def _is_context(name: str) -> bool:
    """Whether a name is that of something to attend to; a number of one, or its mask, is none."""
    if re.search(r"mask|past|ind(ex|ices)$|_idx$|_ids$|_len(gth)?s?$|cache|scale|bias", name.lower()):
        return False
    fragments = ("context", "memory", "encoder_hidden", "cond", "kv", "source", "key", "value", "other")
    return any(fragment in name.lower() for fragment in fragments) or name in ("y", "z", "c")


def _is_scores(name: str) -> bool:
    return bool(re.search(r"(attn_?|attention_?)(logits|scores|weights)$|^(sim|dots|logits|scores)$", name.lower()))


def _is_added(name: str) -> bool:
    """Whether a name is that of something that is added to the scores."""
    return bool(re.search(r"bias(es)?$|alibi|^(attn_|attention_)?mask$|^rel(ative)?_?pos(itions?)?$", name.lower()))


def _list_side_input_shapes(name: str, spec: TrialSpec) -> list[Sizes]:
    """The shapes that a tensor beside x may have, the likeliest first: its own, a pair's, a point's, a sequence's."""
    x, lower = compute_input_shape(spec), name.lower().strip("_")
    b, t, c = spec.shape.batch, spec.shape.queries, spec.channels
    pairs = (t, t, c) if len(x) == 2 else (b, t, t, c)
    points, numbers, vector = _with_feature_count(x, 3, spec), _with_feature_count(x, 1, spec), (b, c)
    if _is_scores(name):
        return [(b, spec.shape.heads, t, spec.shape.keys)]
    if _is_added(name):
        h, s = spec.shape.heads, t if len(x) == 3 else spec.shape.keys
        return [(t, s), (b, h, t, s), *([pairs] if _PAIRS.search(lower) else []), (h, t, s), (b, t, s)]
    if _FRAMES.search(lower):
        return [(*points, 3)]
    if (described := _find_described_shape(name, spec)) is not None:
        return [described, x, (*x, 3)]
    if _WEIGHTS.search(lower):
        return [*spec.weights, x]
    edges = [(NEIGHBOUR_COUNT * t, c), (NEIGHBOUR_COUNT * t, 1), (NEIGHBOUR_COUNT * t,)] if len(x) == 2 else []
    told = (
        (_EDGES, edges),
        (_COORDINATES, [points]),
        (_PAIRS, [pairs]),
        (_VECTORS, [vector]),
        (_SPATIAL, [(*x[:-1], 3, x[-1]), (*x, 3)]),
        (_REFERENCES, [(b, t, 1, 2)]),
    )
    likely = [shape for pattern, shapes in told if pattern.search(lower) for shape in shapes]
    return [*likely, x, pairs, points, vector, (b, spec.shape.keys, c), numbers, (1, t, c), (*x, 3)]


def _find_described_shape(name: str, spec: TrialSpec) -> Sizes | None:
    """The shape that the text gives to an argument in the terms of the first one's: ``x [N, C]; vec [N, 3, C]``."""
    symbols, known, x = spec.axes.get(name), spec.axes.get(ANYTHING), compute_input_shape(spec)
    if not symbols or not known or len(known) != len(x):
        return None
    sizes = dict(zip(known, x, strict=True))
    found = tuple(int(symbol) if symbol.isdigit() else sizes.get(symbol, 0) for symbol in symbols)
    return found if all(found) else None


def read_described_axes(forward: Any, parameters: Parameters) -> dict[str, Symbols]:
    """What the text of a forward says of the axes of its arguments, and of entries: ``features["1"] [N, C, 3]``."""
    text = re.sub(r"""(\w+)\[["'](\w+)["']\]""", r"\1_\2", read_source_text(forward))
    found: dict[str, Symbols] = {}
    for name, symbols in find_shape_statements(text):
        found.setdefault(name, symbols)
    first = next(iter(parameters), "")
    return {**found, **({ANYTHING: found[first]} if first in found else {})}


def _list_context_shapes(name: str, spec: TrialSpec) -> list[Sizes]:
    """The shapes that what is attended to may have: a sequence of its own length, or any other."""
    return [(spec.shape.batch, spec.shape.keys, spec.channels), *_list_side_input_shapes(name, spec)]


def _with_feature_count(x: Sizes, width: int, spec: TrialSpec) -> Sizes:
    """The shape of x with another number of features."""
    axis = FEATURE_AXES[spec.layout] % len(x)
    return (*x[:axis], width, *x[axis + 1 :])
