"""How to build modules and call their forward."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from theria_lint.dynamic.worker.arguments import BUILD, CALL
from theria_lint.dynamic.worker.calls import BUILT, Call, Way
from theria_lint.dynamic.worker.functions import expected_shape
from theria_lint.dynamic.worker.scene import Scene
from theria_lint.dynamic.worker.signatures import (
    POSITIONAL,
    choose_arguments,
    free_parameters,
    optional_parameters,
    parameters_of,
    roles_of,
)
from theria_lint.static import words


def module_ways(cls: Any, fixed: Mapping[str, Any]) -> Iterator[Way]:
    """Ways to build a module, times ways to call its forward."""
    build = dict(list(parameters_of(cls.__init__).items())[1:])
    forward = dict(list(parameters_of(cls.forward).items())[1:])
    tensors_of = [_x_inputs] if not words.takes_qkv(list(forward)) else [_wide_inputs, _qkv_inputs, _x_inputs]
    free = tuple(f"{BUILT}{name}" for name in free_parameters(build, fixed)) + free_parameters(forward, fixed)
    optional = tuple(f"{BUILT}{name}" for name in optional_parameters(build, fixed)) + optional_parameters(
        forward, fixed
    )
    if any(_is_context(name) for name in optional_parameters(forward, fixed)) and _context_inputs not in tensors_of:
        tensors_of.append(_context_inputs)
    for inputs_of in tensors_of:

        def make(scene: Scene, choice: Mapping[str, int], inputs_of: Inputs = inputs_of) -> Call:
            return _module_call(cls, build, forward, scene, choice, inputs_of, fixed)

        yield Way(make, free, optional)


Inputs = Callable[[Mapping[str, inspect.Parameter], Scene], tuple[dict[str, str], dict[str, Tensor]]]
"""Names the parameters of forward that are differentiated, and makes their tensors."""


def _module_call(
    cls: Any,
    build: Mapping[str, inspect.Parameter],
    forward: Mapping[str, inspect.Parameter],
    scene: Scene,
    choice: Mapping[str, int],
    inputs_of: Inputs,
    fixed: Mapping[str, Any],
) -> Call:
    torch.default_generator.manual_seed(scene.seed)
    built = {name.removeprefix(BUILT): index for name, index in choice.items() if name.startswith(BUILT)}
    module = cls(**choose_arguments(build, _roomy(build, scene), BUILD, built, fixed))
    scene = _roomy(build, scene)
    _prepare(module, scene)
    names, inputs = inputs_of(forward, scene)
    rest = {n: p for n, p in forward.items() if n not in names}
    arguments = choose_arguments(rest, scene, CALL, choice, fixed)

    def bound(*values: Tensor) -> Any:
        first, rest = (values[:1], values[1:]) if ANYTHING in names else ((), values)
        named = [name for name in names if name != ANYTHING]
        return module(*first, **arguments, **dict(zip(named, rest, strict=True)))

    plain = inputs_of is _qkv_inputs
    return Call(bound, inputs, expected_shape(inputs) if plain else None, scene.layout if plain else None, module)


def _roomy(build: Mapping[str, inspect.Parameter], scene: Scene) -> Scene:
    """The scene with as many heads as the constructor's default asks for, so that the width divides by them."""
    for name, parameter in build.items():
        if "head" in name.lower() and "dim" not in name.lower() and type(parameter.default) is int:
            return replace(scene, shape=replace(scene.shape, heads=max(1, parameter.default)))
    return scene


def _prepare(module: torch.nn.Module, scene: Scene) -> None:
    """Moves a module to the scene, silences its dropout, and shakes parameters that start at a special value."""
    module.to(device=scene.device, dtype=scene.dtype).train(not scene.evaluating)
    for part in module.modules():
        if isinstance(part, torch.nn.modules.dropout._DropoutNd):
            part.p = 0.0
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.is_floating_point():
                noise = scene.tensor(name, tuple(parameter.shape))
                spread = float(parameter.float().std()) if parameter.numel() > 1 else 0.0
                parameter.add_(0.3 * (spread or 0.5) * noise)


def _x_inputs(forward: Mapping[str, inspect.Parameter], scene: Scene) -> tuple[dict[str, str], dict[str, Tensor]]:
    """One tensor for the first parameter, of the shape that the scene's layout means for a module."""
    name = next((n for n, p in forward.items() if p.kind in POSITIONAL), None)
    if name is None and not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in forward.values()):
        raise TypeError("its forward takes no tensor by position")
    name = name or ANYTHING
    s = scene.shape
    shapes = {
        "btd": (s.batch, s.queries, scene.channels),
        "bhtd": (s.batch, scene.channels, 4, 4),
        "bthd": (s.batch, scene.channels, s.queries),
        "td": (s.queries, scene.channels),
    }
    names = {name: "x"}
    tensors = {"x": scene.tensor("x", shapes[scene.layout])}
    for other, parameter in forward.items():
        if other != name and parameter.default is inspect.Parameter.empty and _is_context(other):
            names[other] = other
            tensors[other] = scene.tensor(other, (s.batch, s.keys, scene.channels))
    return names, tensors


def _context_inputs(forward: Mapping[str, inspect.Parameter], scene: Scene) -> tuple[dict[str, str], dict[str, Tensor]]:
    """One tensor for the first parameter, and one for what it may attend to."""
    names, tensors = _x_inputs(forward, scene)
    other = next(name for name in forward if _is_context(name) and name not in names and words.role(name) is None)
    context = scene.tensor(other, (scene.shape.batch, scene.shape.keys, scene.channels))
    return {**names, other: other}, {**tensors, other: context}


ANYTHING = "*"
"""Stands for the first positional argument of a forward that names none."""


def _is_context(name: str) -> bool:
    fragments = ("context", "memory", "encoder_hidden", "cond", "kv", "source", "key", "value", "other")
    return any(fragment in name.lower() for fragment in fragments) or name in ("y", "z", "c")


def _qkv_inputs(forward: Mapping[str, inspect.Parameter], scene: Scene) -> tuple[dict[str, str], dict[str, Tensor]]:
    """q, k, v with the scene's heads."""
    return roles_of(forward), _ordered(roles_of(forward).values(), scene.qkv())


def _wide_inputs(forward: Mapping[str, inspect.Parameter], scene: Scene) -> tuple[dict[str, str], dict[str, Tensor]]:
    """q, k, v as wide as the module, all heads side by side."""
    wide = replace(scene.shape, heads=1, dim=scene.channels, value_dim=scene.channels)
    tensors = replace(scene, shape=wide, layout="btd" if scene.layout != "td" else "td").qkv()
    return roles_of(forward), _ordered(roles_of(forward).values(), tensors)


def _ordered(names: Iterable[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensors[name] for name in names}
