"""The tensors that a module's forward is differentiated in: which of its parameters hold them, and their shapes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from theria_lint.dynamic.worker.calling.inputs import ANYTHING, DEGREE, FEATURES, FORWARD, x_shape
from theria_lint.dynamic.worker.calling.parts import suggests
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.signatures import (
    POSITIONAL,
    NoSuchChoiceError,
    looks_like_tensor,
    roles_of,
)
from theria_lint.static import words

Parameters = Mapping[str, inspect.Parameter]
Choice = Mapping[str, int]
Sizes = tuple[int, ...]

_COORDINATES = re.compile(r"^(xyz|pos|positions?|pts|points?|trans(lation)?s?|(rel_|abs_)?coo?rd?(inate)?s)(_\w|\d)?$")
_EDGES = re.compile(r"^edge_?(attr|feat|weight|emb|features|dist|vec)")
_FRAMES = re.compile(r"^(rot(ation)?s?|frames?|rotation_mat\w*)$")
_REFERENCES = re.compile(r"^reference_points$")
_PAIRS = re.compile(r"^(z|e|edges?|edge_(attrs?|feat\w*|emb\w*|weights?)|pairs?(_\w+)?|pair\w*|rel_?pos\w*)$")
_VECTORS = re.compile(r"^(t|temb|t_emb|time\w*|vec|clip_?emb\w*|c|cond\w*|style|latents?|\w+_vec(tor)?)$")


@dataclass(frozen=True)
class Given:
    """Arguments of a forward by the names of its parameters: tensors that are differentiated, alone or in lists.

    ``names`` maps a parameter to the name of its input, or to those of the list that it is given.
    """

    names: Mapping[str, str | tuple[str, ...]]
    tensors: dict[str, Tensor]

    def arguments(self, values: Iterable[Tensor]) -> dict[str, Any]:
        """The arguments for new values of the tensors."""
        by_input = dict(zip(self.tensors, values, strict=True))
        return {
            parameter: by_input[found] if isinstance(found, str) else [by_input[name] for name in found]
            for parameter, found in self.names.items()
        }


Recipe = Callable[[Parameters, Scene, Choice], Given]
"""Makes the tensors that a forward is differentiated in; a choice says which shape a parameter's tensor has."""


def recipes(forward: Parameters) -> Iterator[Recipe]:
    """The likeliest first; each may raise what says that it does not suit the forward."""
    if words.takes_qkv(list(forward)):
        yield from (wide, heads_apart)
    yield one
    if _needed(forward)[1:]:
        yield from (all_needed, all_needed_with_heads)
    if any(_is_context(name) for name, p in forward.items() if p.default is not inspect.Parameter.empty):
        yield with_context
    yield several


def one(forward: Parameters, scene: Scene, choice: Choice) -> Given:
    """One tensor for the first parameter, and one for each that it needs to attend to."""
    name = first_of(forward)
    others = [other for other in _needed(forward) if other != name and _is_context(other)]
    shapes = {n: _context_shapes(n, scene) for n in others} | _asked(forward, scene, choice)
    return _given({name: "x", **{n: n for n in shapes}}, shapes, scene, choice)


def all_needed(forward: Parameters, scene: Scene, choice: Choice) -> Given:
    """A tensor for every parameter that needs a value and whose name says nothing else."""
    first, *rest = _needed(forward)
    shapes = {n: _shapes(n, scene) for n in rest} | _asked(forward, scene, choice)
    return _given({n: n for n in (first, *shapes)}, shapes, scene, choice)


def all_needed_with_heads(forward: Parameters, scene: Scene, choice: Choice) -> Given:
    """The same with heads apart, as q, k and v have them, and scores of each query for each key."""
    like = [tuple(scene.qkv()["q"].shape)]
    shapes = {name: _shapes(name, scene) if _is_scores(name) else like for name in _needed(forward)}
    return _given({name: name for name in shapes}, shapes, scene, {})


def with_context(forward: Parameters, scene: Scene, choice: Choice) -> Given:
    """One tensor for the first parameter, and one for what it may attend to."""
    given = one(forward, scene, choice)
    other = next(name for name in forward if _is_context(name) and name not in given.names and words.role(name) is None)
    shape = _chosen(_context_shapes(other, scene), choice.get(other, 0))
    return Given({**given.names, other: other}, {**given.tensors, other: _drawn(other, shape, scene)})


def several(forward: Parameters, scene: Scene, choice: Choice) -> Given:
    """A list of tensors for the first parameter: the outputs of earlier layers, or the levels of a pyramid."""
    tensors = {name: _drawn(name, x_shape(scene), scene) for name in ("x0", "x1", "x2")}
    return Given({first_of(forward): tuple(tensors)}, tensors)


def heads_apart(forward: Parameters, scene: Scene, choice: Choice) -> Given:
    """q, k, v with the scene's heads."""
    roles = roles_of(forward)
    tensors = scene.qkv()
    return Given(dict(roles), {role: tensors[role] for role in roles.values()})


def wide(forward: Parameters, scene: Scene, choice: Choice) -> Given:
    """q, k, v as wide as the module, all heads side by side."""
    shape = replace(scene.shape, heads=1, dim=scene.channels, value_dim=scene.channels)
    return heads_apart(forward, replace(scene, shape=shape, layout="btd" if scene.layout != "td" else "td"), choice)


def token_ids(forward: Parameters, scene: Scene) -> dict[str, Tensor]:
    """Numbers of tokens for the first parameter, (B,T): what a language model is given."""
    numbers = torch.arange(scene.shape.batch * scene.shape.queries, device=scene.device) % 2
    return {first_of(forward): numbers.view(scene.shape.batch, scene.shape.queries)}


def first_of(forward: Parameters) -> str:
    """The first parameter, `ANYTHING` where it has no name.

    Raises:
        TypeError: if nothing can be given by position.
    """
    name = next((n for n, p in forward.items() if p.kind in POSITIONAL), None)
    if name is None and not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in forward.values()):
        raise TypeError("its forward takes no tensor by position")
    return name or ANYTHING


def _given(names: Mapping[str, str], shapes: Mapping[str, list[Sizes]], scene: Scene, choice: Choice) -> Given:
    """A tensor for each of the names: of one of its shapes, or like x."""
    tensors = {}
    for parameter, name in names.items():
        shape = _chosen(shapes[parameter], choice.get(parameter, 0)) if parameter in shapes else x_shape(scene)
        tensors[name] = _drawn(name, shape, scene)
    return Given(names, tensors)


def optional_tensors(forward: Parameters) -> list[str]:
    """The optional parameters that may hold a tensor that is computed, those that are attended to first.

    A memory of earlier calls is none: its author may mean it to be a constant.
    """
    names = [name for name, p in forward.items() if p.default is None and _may_hold_tensor(p)]
    names = [name for name in names if not re.search(r"^mem|past|prev|cache|hx|label|target", name.lower())]
    attended = [name for name in names if _is_context(name)]
    others = [name for name in names if name not in attended and not _speaks(name) and looks_like_tensor(forward[name])]
    added = [name for name in names if name not in attended and _is_added(name)]
    return list(dict.fromkeys([*attended, *others, *added]))


def _asked(forward: Parameters, scene: Scene, choice: Choice) -> dict[str, list[Sizes]]:
    """The shapes of the optional tensors that were chosen to be given: the first choice is to give none."""
    names = [name for name in optional_tensors(forward) if choice.get(name)]
    return {n: [(), *(_context_shapes if _is_context(n) else _shapes)(n, scene)] for n in names}


def _chosen(shapes: list[Sizes], index: int) -> Sizes:
    shapes = list(dict.fromkeys(shapes))
    if index >= len(shapes):
        raise NoSuchChoiceError
    return shapes[index]


def _drawn(name: str, shape: Sizes, scene: Scene) -> Tensor:
    """A random tensor, with its last two axes swapped in memory where the scene asks for strides."""
    tensor = scene.tensor(name, shape)
    return tensor.mT.contiguous().mT if scene.strided and tensor.dim() > 1 else tensor


def _needed(forward: Parameters) -> list[str]:
    """The first parameter, and those after it that need a tensor as far as their names and annotations tell."""
    names = [n for n, p in forward.items() if p.default is inspect.Parameter.empty and _may_hold_tensor(p)]
    first = next((n for n, p in forward.items() if p.kind in POSITIONAL), None)
    rest = [n for n in names if n != first and (_is_context(n) or words.role(n) or not _speaks(n))]
    return [first, *rest] if first is not None else rest


def _may_hold_tensor(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return not variadic and not re.search(r"\b(int|bool|str|float)\b", str(parameter.annotation).lower())


def _speaks(name: str) -> bool:
    """Whether a name says what its parameter is given."""
    lower = name.lower().strip("_")
    return suggests(name, FORWARD) and not (_is_scores(name) or _COORDINATES.search(lower) or _PAIRS.search(lower))


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


def _shapes(name: str, scene: Scene) -> list[Sizes]:
    """The shapes that a tensor beside x may have, the likeliest first: its own, a pair's, a point's, a sequence's."""
    x, lower = x_shape(scene), name.lower().strip("_")
    b, t, c = scene.shape.batch, scene.shape.queries, scene.channels
    pairs = (t, t, c) if len(x) == 2 else (b, t, t, c)
    points, numbers, vector = _as_wide(x, 3, scene), _as_wide(x, 1, scene), (b, c)
    if _is_scores(name):
        return [(b, scene.shape.heads, t, scene.shape.keys)]
    if _is_added(name):
        h, s = scene.shape.heads, t if len(x) == 3 else scene.shape.keys
        return [(t, s), (b, h, t, s), *([pairs] if _PAIRS.search(lower) else []), (h, t, s), (b, t, s)]
    if _FRAMES.search(lower):
        return [(*points, 3)]
    edges = [(DEGREE * t, c), (DEGREE * t, 1), (DEGREE * t,)] if len(x) == 2 else []
    told = (
        (_EDGES, edges),
        (_COORDINATES, [points]),
        (_PAIRS, [pairs]),
        (_VECTORS, [vector]),
        (_REFERENCES, [(b, t, 1, 2)]),
    )
    likely = [shape for pattern, shapes in told if pattern.search(lower) for shape in shapes]
    return [*likely, x, pairs, points, vector, (b, scene.shape.keys, c), numbers, (1, t, c)]


def _context_shapes(name: str, scene: Scene) -> list[Sizes]:
    """The shapes that what is attended to may have: a sequence of its own length, or any other."""
    return [(scene.shape.batch, scene.shape.keys, scene.channels), *_shapes(name, scene)]


def _as_wide(x: Sizes, width: int, scene: Scene) -> Sizes:
    """The shape of x with another number of features."""
    axis = FEATURES[scene.layout] % len(x)
    return (*x[:axis], width, *x[axis + 1 :])
