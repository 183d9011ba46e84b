"""How to call functions, autograd Functions and wrappers of q, k, v."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from theria_lint.dynamic.worker.calling.arguments import BUILD, CALL
from theria_lint.dynamic.worker.calling.calls import BUILT, Call, Way
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.signatures import (
    QKV,
    by_position,
    choose_arguments,
    free_parameters,
    looks_like_tensor,
    optional_parameters,
    parameters_of,
    roles_of,
    takes_by_position,
)
from theria_lint.static import words


def forward_parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of ``apply``: those of forward, without ctx unless setup_context takes it."""
    parameters = parameters_of(function.forward)
    separate = function.setup_context is not torch.autograd.Function.setup_context
    return parameters if separate else dict(list(parameters.items())[1:])


def wrapped_call(target: Any, scene: Scene, fixed: Mapping[str, Any]) -> Call:
    """What a wrapper returns for the base attention, called in the first way that its own signature suggests."""
    parameters = parameters_of(target)
    arguments = choose_arguments(parameters, scene, BUILD, {}, fixed)
    attention = next((n for n in parameters if n.lower() in words.FUNCTION_PARAMETERS), next(iter(parameters)))
    wrapped = target(**{**arguments, attention: scene.base})
    if isinstance(wrapped, torch.nn.Module):
        return on_qkv(wrapped, parameters_of(wrapped.forward), scene, {}, fixed, positional=False)
    if not callable(wrapped):
        raise TypeError(f"the wrapper returned {type(wrapped).__name__}, not a function")
    return on_qkv(wrapped, parameters_of(wrapped), scene, {}, fixed, positional=False)


def function_way(
    function: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    fixed: Mapping[str, Any],
    *,
    positional: bool,
) -> Way:
    """The way to call a function with the parameters that it takes; ``positional``: it takes no keywords."""

    def make(scene: Scene, choice: Mapping[str, int]) -> Call:
        return on_qkv(function, parameters, scene, choice, fixed, positional=positional)

    optional = optional_parameters(parameters, fixed)
    tensors = tuple(name for name in optional if looks_like_tensor(parameters[name]))
    return Way(make, free_parameters(parameters, fixed), optional, tensors=tensors)


def object_way(cls: Any, fixed: Mapping[str, Any]) -> Way:
    """The way to build an object that is no module, and to call it as a function of q, k, v."""
    build = dict(list(parameters_of(cls.__init__).items())[1:]) if cls.__init__ is not object.__init__ else {}
    called = dict(list(parameters_of(cls.__call__).items())[1:])

    def make(scene: Scene, choice: Mapping[str, int]) -> Call:
        built = {name.removeprefix(BUILT): index for name, index in choice.items() if name.startswith(BUILT)}
        made = cls(**choose_arguments(build, scene, BUILD, built, fixed))
        return on_qkv(made, called, scene, choice, fixed, positional=False)

    free = tuple(f"{BUILT}{name}" for name in free_parameters(build, fixed)) + free_parameters(called, fixed)
    optional = tuple(f"{BUILT}{name}" for name in optional_parameters(build, fixed))
    return Way(make, free, optional + optional_parameters(called, fixed))


def on_qkv(
    function: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    scene: Scene,
    choice: Mapping[str, int],
    fixed: Mapping[str, Any],
    *,
    positional: bool,
) -> Call:
    """Binds a function of q, k, v, packed or not."""
    roles = roles_of(parameters)
    rest = {name: p for name, p in parameters.items() if name not in roles}
    tensors = scene.qkv()
    if not roles and any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values()):
        return Call(function, tensors, expected_shape(tensors), scene.layout)
    if not roles:
        raise TypeError("no parameter takes q, k and v: name them q, k, v or query, key, value")
    arguments = choose_arguments(rest, scene, CALL, choice, fixed)
    inputs = {role: _packed(role, tensors, scene) for role in roles.values()}

    def bound(*values: Tensor, **others: Tensor) -> Any:
        by_name = {**_fresh(arguments), **others, **dict(zip(roles, values, strict=True))}
        if not positional:
            return (
                function(**by_name)
                if not takes_by_position(parameters)
                else function(*by_position(parameters, by_name))
            )
        return function(*by_position(parameters, by_name))

    plain = set(inputs) == set(QKV)
    extras = {
        name: value for name, value in arguments.items() if isinstance(value, Tensor) and value.is_floating_point()
    }
    return Call(bound, inputs, expected_shape(tensors), scene.layout if plain else None, extras=extras)


def _fresh(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with copies of the tensors: a call may write its output into one."""
    return {name: v.clone() if isinstance(v, Tensor) else v for name, v in arguments.items()}


def expected_shape(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The shape of attention's output for these q and v."""
    return (*tensors["q"].shape[:-1], tensors["v"].shape[-1])


def _packed(role: str, tensors: Mapping[str, Tensor], scene: Scene) -> Tensor:
    """q, k or v; or qkv (B,T,3,H,D) or (B,T,3C), kv (B,M,2,H,D) or (B,M,2C), according to the layout."""
    if role in tensors:
        return tensors[role]
    shape = scene.shape
    count, length = (3, shape.queries) if role == "qkv" else (2, shape.keys)
    sizes = {
        "bthd": (shape.batch, length, count, shape.heads, shape.dim),
        "bhtd": (shape.batch, count, shape.heads, length, shape.dim),
        "btd": (shape.batch, length, count * shape.dim),
        "td": (length, count * shape.dim),
    }
    return scene.tensor(role, sizes[scene.layout])
