"""What a module's forward is given: the tensors that are differentiated, and the rest of its arguments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from theria_lint.dynamic.worker.calling.arguments import CALL, Values
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.signatures import POSITIONAL, roles_of
from theria_lint.dynamic.worker.calling.sizes import grid, side
from theria_lint.static import words

Parameters = Mapping[str, inspect.Parameter]

ANYTHING = "*"
"""Stands for the first positional argument of a forward that names none."""

FEATURES = {"btd": -1, "bhtd": 1, "bthd": 1, "td": -1, "bhwc": -1, "bcfhw": 1, "bxywwc": -1, "bhwtd": -1}
"""The layouts of a module's input, the likeliest first, and the axis of the features in each."""


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


Recipe = Callable[[Parameters, Scene], Given]
"""Makes the tensors that a forward is differentiated in."""


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


def _drawn(name: str, shape: tuple[int, ...], scene: Scene) -> Tensor:
    """A random tensor, with its last two axes swapped in memory where the scene asks for strides."""
    tensor = scene.tensor(name, shape)
    return tensor.mT.contiguous().mT if scene.strided and tensor.dim() > 1 else tensor


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


def one(forward: Parameters, scene: Scene) -> Given:
    """One tensor for the first parameter, and one for each that it needs to attend to."""
    name = _first(forward)
    names: dict[str, str | tuple[str, ...]] = {name: "x"}
    tensors = {"x": _drawn("x", x_shape(scene), scene)}
    for other in _needed(forward):
        if other != name and _is_context(other):
            names[other], tensors[other] = other, _context(other, scene)
    return Given(names, tensors)


def all_needed(forward: Parameters, scene: Scene) -> Given:
    """A tensor like the first for every parameter that needs a value and whose name says nothing else."""
    names = _needed(forward)
    shapes = {name: _scores(name, scene) or x_shape(scene) for name in names}
    return Given({n: n for n in names}, {name: _drawn(name, shape, scene) for name, shape in shapes.items()})


def all_needed_with_heads(forward: Parameters, scene: Scene) -> Given:
    """The same with heads apart, as q, k and v have them, and scores of each query for each key."""
    names = _needed(forward)
    like = tuple(_known(scene).qkv()["q"].shape)
    shapes = {name: _scores(name, scene) or like for name in names}
    return Given({n: n for n in names}, {name: _drawn(name, shape, scene) for name, shape in shapes.items()})


def with_context(forward: Parameters, scene: Scene) -> Given:
    """One tensor for the first parameter, and one for what it may attend to."""
    given = one(forward, scene)
    other = next(name for name in forward if _is_context(name) and name not in given.names and words.role(name) is None)
    return Given({**given.names, other: other}, {**given.tensors, other: _context(other, scene)})


def several(forward: Parameters, scene: Scene) -> Given:
    """A list of tensors for the first parameter: the outputs of earlier layers, or the levels of a pyramid."""
    tensors = {name: _drawn(name, x_shape(scene), scene) for name in ("x0", "x1", "x2")}
    return Given({_first(forward): tuple(tensors)}, tensors)


def heads_apart(forward: Parameters, scene: Scene) -> Given:
    """q, k, v with the scene's heads."""
    roles = roles_of(forward)
    tensors = scene.qkv()
    return Given(dict(roles), {role: tensors[role] for role in roles.values()})


def wide(forward: Parameters, scene: Scene) -> Given:
    """q, k, v as wide as the module, all heads side by side."""
    shape = replace(scene.shape, heads=1, dim=scene.channels, value_dim=scene.channels)
    return heads_apart(forward, replace(scene, shape=shape, layout="btd" if scene.layout != "td" else "td"))


def _first(forward: Parameters) -> str:
    name = next((n for n, p in forward.items() if p.kind in POSITIONAL), None)
    if name is None and not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in forward.values()):
        raise TypeError("its forward takes no tensor by position")
    return name or ANYTHING


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
    return any(re.search(pattern, lower) for pattern, _ in FORWARD) and not _is_scores(name)


def _is_context(name: str) -> bool:
    fragments = ("context", "memory", "encoder_hidden", "cond", "kv", "source", "key", "value", "other")
    return any(fragment in name.lower() for fragment in fragments) or name in ("y", "z", "c")


def _is_scores(name: str) -> bool:
    return bool(re.search(r"(attn_?|attention_?)(logits|scores|weights)$|^(sim|dots|logits|scores)$", name.lower()))


def _scores(name: str, scene: Scene) -> tuple[int, ...] | None:
    s = scene.shape
    return (s.batch, s.heads, s.queries, s.keys) if _is_scores(name) else None


def _context(name: str, scene: Scene) -> Tensor:
    return _drawn(name, (scene.shape.batch, scene.shape.keys, scene.channels), scene)


def _known(scene: Scene) -> Scene:
    """The scene in a layout that q, k and v have."""
    return scene if scene.layout in ("bhtd", "bthd", "btd", "td") else replace(scene, layout="bhtd")


def _masks(name: str, scene: Scene) -> list[Any]:
    """Nothing is masked, in the forms that masks have."""
    s = scene.shape
    ones = torch.ones(s.batch, s.queries, dtype=torch.bool, device=scene.device)
    scores = torch.zeros(s.batch, 1, s.queries, s.keys, dtype=scene.dtype, device=scene.device)
    return [None, ones, scores, torch.ones(s.queries, s.keys, dtype=torch.bool, device=scene.device)]


def _rotations(name: str, scene: Scene) -> list[Any]:
    """Nothing, the cosines and sines of rotary embeddings, or their angles."""
    s = scene.shape
    angles = scene.tensor(name, (s.queries, s.dim))
    batched = angles.expand(s.batch, -1, -1)
    pairs = [(batched.cos(), batched.sin()), (angles.sin(), angles.cos())]
    return [None, *pairs, angles, scene.tensor(name, x_shape(scene))]


def _positions(name: str, scene: Scene) -> list[Any]:
    """The numbers of the positions, for one sequence or for the batch."""
    numbers = torch.arange(scene.shape.queries, device=scene.device)
    return [numbers, numbers.expand(scene.shape.batch, -1), numbers[:, None].to(scene.dtype)]


def _grids(name: str, scene: Scene) -> list[Any]:
    """Height and width of what a sequence is laid out from, or of an image."""
    return [grid(scene), (side(scene), side(scene))]


FORWARD: tuple[tuple[str, Values], ...] = (
    (r"^(h|height)$", lambda n, s: [grid(s)[0], side(s)]),
    (r"^(w|width)$", lambda n, s: [grid(s)[1], side(s)]),
    (r"^(x_|input_|feat_|fmap_|spatial_)?(size|shapes?|hw|resolution|dims)$", _grids),
    (r"mask", _masks),
    (r"^(position_embeddings|\w*rot(ary)?(_pos)?_?emb\w*|pos_?emb\w*|rope|freqs(_cis)?)$", _rotations),
    (r"^(pos|positions|position_ids|coords|coordinates|input_positions)$", _positions),
    *CALL,
)
"""By what a parameter of a module's forward is called: its candidate values."""


def token_ids(forward: Parameters, scene: Scene) -> dict[str, Tensor]:
    """Numbers of tokens for the first parameter, (B,T): what a language model is given."""
    numbers = torch.arange(scene.shape.batch * scene.shape.queries, device=scene.device) % 2
    return {_first(forward): numbers.view(scene.shape.batch, scene.shape.queries)}
