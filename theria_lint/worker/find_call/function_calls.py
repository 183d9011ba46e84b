"""How to call functions, autograd Functions and wrappers of q, k, v."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from theria.probes.layouts import key_layout
from theria_lint.static import attention_names
from theria_lint.worker.find_call import varlen
from theria_lint.worker.find_call.argument_values import BUILD, CALL, candidates
from theria_lint.worker.find_call.call_strategy import BUILT, Call, Way
from theria_lint.worker.find_call.shape_hints import Symbols, sizes_of, source_of
from theria_lint.worker.find_call.signatures import (
    POSITIONAL,
    QKV,
    as_a_caller,
    by_position,
    choose_arguments,
    free_parameters,
    looks_like_tensor,
    optional_parameters,
    parameters_of,
    roles_of,
    takes_by_position,
)
from theria_lint.worker.find_call.trial_spec import Scene

_SHARING = re.compile(
    r"repeat_interleave|repeat_kv|n_rep|gqa|mqa|kv_?head|heads?_kv|group|\bh_?kv\b|multi_?query", re.I
)
"""What the text of a function has in it whose queries share keys."""


def forward_parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of ``apply``: those of forward, without ctx unless setup_context takes it."""
    parameters = parameters_of(function.forward)
    separate = function.setup_context is not torch.autograd.Function.setup_context
    return parameters if separate else dict(list(parameters.items())[1:])


def wrapped_call(target: Any, scene: Scene, fixed: Mapping[str, Any]) -> Call:
    """What a wrapper returns for the base attention, called in the first way that its own signature suggests."""
    parameters = parameters_of(target)
    arguments = choose_arguments(parameters, scene, BUILD, {}, fixed)
    attention = next(
        (n for n in parameters if n.lower() in attention_names.FUNCTION_PARAMETERS), next(iter(parameters))
    )
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
    free = free_parameters(parameters, fixed)
    packs = any(map(varlen.tells_borders, free)) or bool(varlen.given({name: parameters[name] for name in optional}))
    shares = _SHARING.search(source_of(getattr(function, "__self__", function))) is not None
    return Way(make, free, optional, tensors=tensors, packs=packs, shares=shares)


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
    tensors = scene.qkv()
    further = _further(parameters, roles)
    rest = {name: p for name, p in parameters.items() if name not in roles and name not in further}
    if not roles and any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values()):
        return Call(function, tensors, expected_shape(tensors), scene.layout)
    if not roles:
        raise TypeError("no parameter takes q, k and v: name them q, k, v or query, key, value")
    arguments = {**_borders(rest, scene, choice), **choose_arguments(rest, scene, CALL, choice, fixed)}
    inputs = {role: _combined(role, tensors, scene, scene.written.get(name, ())) for name, role in roles.items()}
    inputs |= {name: scene.tensor(name, tuple(tensors[role].shape)) for name, role in further.items()}

    def bound(*values: Tensor, **others: Tensor) -> Any:
        by_name = {**_fresh(arguments), **others, **dict(zip((*roles, *further), values, strict=True))}
        if positional or takes_by_position(parameters):
            return function(*by_position(parameters, by_name))
        leading, named = as_a_caller(parameters, by_name)
        return function(*leading, **named)

    plain = set(inputs) == set(QKV)
    extras = {
        name: value for name, value in arguments.items() if isinstance(value, Tensor) and value.is_floating_point()
    }
    return Call(bound, inputs, expected_shape(tensors), scene.layout if plain else None, extras=extras)


def _further(parameters: Mapping[str, inspect.Parameter], roles: Mapping[str, str]) -> dict[str, str]:
    """The required parameters that are a second query, key or value by their names, with what they are."""
    needed = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and p.kind in POSITIONAL]
    found = {name: attention_names.role(name) for name in needed if name not in roles}
    return {name: role for name, role in found.items() if role in roles.values() and role in QKV}


def _fresh(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with copies of the tensors: a call may write its output into one."""
    return {name: v.clone() if isinstance(v, Tensor) else v for name, v in arguments.items()}


def expected_shape(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The shape of attention's output for these q and v."""
    return (*tensors["q"].shape[:-1], tensors["v"].shape[-1])


def _borders(parameters: Mapping[str, inspect.Parameter], scene: Scene, choice: Mapping[str, int]) -> dict[str, Any]:
    """What says where packed sequences end, of the arguments that have a default."""
    names = varlen.given(parameters) if scene.packed else []
    return {name: candidates(parameters[name], scene, CALL)[0] for name in names if not choice.get(name)}


_PLACES = {"bthd": 2, "bhtd": 1, "thd": 1, "htd": 0, "1thd": 2, "1htd": 1}
"""Before which axis of q the 3 of a packed qkv stands, and the 2 of a packed kv."""


def _combined(role: str, tensors: Mapping[str, Tensor], scene: Scene, written: Symbols) -> Tensor:
    """q, k or v; or qkv or kv in one tensor: (B,T,3,H,D) or (B,T,3C), or as the text says."""
    if role in tensors:
        return tensors[role]
    like, count = tensors["q" if role == "qkv" else "k"], 3 if role == "qkv" else 2
    sizes = list(like.shape)
    if str(count) in written:
        sizes = list(sizes_of(written, scene.spread))
    elif (layout := scene.layout if role == "qkv" else key_layout(scene.layout)) in _PLACES:
        sizes.insert(_PLACES[layout], count)
    else:
        sizes[-1] *= count
    return scene.tensor(role, tuple(sizes))
