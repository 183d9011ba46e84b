"""Make call strategies for functions, autograd Functions, wrappers and callable objects of q, k, v."""

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
from theria_lint.worker.find_call.argument_values import CALL_VALUES, CONSTRUCTOR_VALUES, list_candidates
from theria_lint.worker.find_call.call_strategy import (
    BoundCall,
    CallStrategy,
    compute_expected_shape,
    list_discrete,
)
from theria_lint.worker.find_call.introspection import (
    POSITIONAL,
    as_a_caller,
    order_by_position,
    read_parameters,
    takes_by_position,
)
from theria_lint.worker.find_call.shape_hints import Symbols, compute_sizes, read_source_text
from theria_lint.worker.find_call.signatures import (
    QKV,
    assign_roles,
    choose_arguments,
    list_free_parameters,
    list_optional_parameters,
    looks_like_tensor,
    read_enums,
)
from theria_lint.worker.find_call.trial_spec import ATTRIBUTE, CONSTRUCTOR_PREFIX, TrialSpec

_SHARING = re.compile(
    r"repeat_interleave|repeat_kv|n_rep|gqa|mqa|kv_?head|heads?_kv|group|\bh_?kv\b|multi_?query", re.I
)
"""What the text of a function has in it whose queries share keys."""


def read_forward_parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of ``apply``: those of forward, without ctx unless setup_context takes it."""
    parameters = read_parameters(function.forward)
    separate = function.setup_context is not torch.autograd.Function.setup_context
    return parameters if separate else dict(list(parameters.items())[1:])


def make_wrapped_call(target: Any, spec: TrialSpec, fixed: Mapping[str, Any]) -> BoundCall:
    """What a wrapper returns for the base attention, called in the first way that its own signature suggests."""
    parameters = read_parameters(target)
    arguments = choose_arguments(parameters, spec, CONSTRUCTOR_VALUES, {}, fixed)
    attention = next(
        (n for n in parameters if n.lower() in attention_names.FUNCTION_PARAMETERS), next(iter(parameters))
    )
    wrapped = target(**{**arguments, attention: spec.base})
    if isinstance(wrapped, torch.nn.Module):
        return bind_qkv_function(wrapped, read_parameters(wrapped.forward), spec, {}, fixed, positional=False)
    if not callable(wrapped):
        raise TypeError(f"the wrapper returned {type(wrapped).__name__}, not a function")
    return bind_qkv_function(wrapped, read_parameters(wrapped), spec, {}, fixed, positional=False)


def make_function_strategy(
    function: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    fixed: Mapping[str, Any],
    *,
    positional: bool,
) -> CallStrategy:
    """The way to call a function with the parameters that it takes; ``positional``: it takes no keywords."""

    def make(spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        return bind_qkv_function(function, parameters, spec, choice, fixed, positional=positional)

    optional = list_optional_parameters(parameters, fixed)
    tensors = tuple(name for name in optional if looks_like_tensor(parameters[name]))
    free = list_free_parameters(parameters, fixed)
    takes_varlen = any(map(varlen.is_varlen_argument, free)) or bool(
        varlen.list_varlen_parameters({name: parameters[name] for name in optional})
    )
    shares_keys = _SHARING.search(read_source_text(getattr(function, "__self__", function))) is not None
    return CallStrategy(make, free, optional, tensors=tensors, takes_varlen=takes_varlen, shares_keys=shares_keys)


def make_object_strategy(cls: Any, fixed: Mapping[str, Any]) -> CallStrategy:
    """The way to build an object that is no module, and to call it as a function of q, k, v."""
    build = dict(list(read_parameters(cls.__init__).items())[1:]) if cls.__init__ is not object.__init__ else {}
    called = dict(list(read_parameters(cls.__call__).items())[1:])

    def make(spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        built = {
            name.removeprefix(CONSTRUCTOR_PREFIX): index
            for name, index in choice.items()
            if name.startswith(CONSTRUCTOR_PREFIX)
        }
        turned = read_enums(spec.list_turned(CONSTRUCTOR_PREFIX), build)
        made = cls(**choose_arguments(build, spec, CONSTRUCTOR_VALUES, built, {**fixed, **turned}))
        for name, value in spec.list_turned(ATTRIBUTE).items():
            setattr(made, name, value)
        return bind_qkv_function(made, called, spec, choice, fixed, positional=False)

    free = tuple(f"{CONSTRUCTOR_PREFIX}{name}" for name in list_free_parameters(build, fixed)) + list_free_parameters(
        called, fixed
    )
    optional = tuple(f"{CONSTRUCTOR_PREFIX}{name}" for name in list_optional_parameters(build, fixed))
    return CallStrategy(make, free, optional + list_optional_parameters(called, fixed))


def bind_qkv_function(
    function: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    spec: TrialSpec,
    choice: Mapping[str, int],
    fixed: Mapping[str, Any],
    *,
    positional: bool,
) -> BoundCall:
    """Binds a function of q, k, v, packed or not."""
    roles = assign_roles(parameters)
    tensors = spec.make_qkv()
    further = _find_further_inputs(parameters, roles)
    rest = {name: p for name, p in parameters.items() if name not in roles and name not in further}
    if not roles and any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values()):
        return BoundCall(function, tensors, compute_expected_shape(tensors), spec.layout)
    if not roles:
        raise TypeError("no parameter takes q, k and v: name them q, k, v or query, key, value")
    arguments = {
        **_fill_varlen_arguments(rest, spec, choice),
        **choose_arguments(rest, spec, CALL_VALUES, choice, {**fixed, **read_enums(spec.list_turned(), rest)}),
    }
    inputs = {
        role: _make_combined_input(role, tensors, spec, spec.text_shapes.get(name, ())) for name, role in roles.items()
    }
    inputs |= {name: spec.draw_tensor(name, tuple(tensors[role].shape)) for name, role in further.items()}

    def bound(*values: Tensor, **others: Tensor) -> Any:
        by_name = {**_copy_tensors(arguments), **others, **dict(zip((*roles, *further), values, strict=True))}
        if positional or takes_by_position(parameters):
            return function(*order_by_position(parameters, by_name))
        leading, named = as_a_caller(parameters, by_name)
        return function(*leading, **named)

    plain = set(inputs) == set(QKV)
    extras = {
        name: value for name, value in arguments.items() if isinstance(value, Tensor) and value.is_floating_point()
    }
    layout, expected = spec.layout if plain else None, compute_expected_shape(tensors)
    return BoundCall(bound, inputs, expected, layout, extras=extras, discrete=list_discrete(arguments))


def _find_further_inputs(parameters: Mapping[str, inspect.Parameter], roles: Mapping[str, str]) -> dict[str, str]:
    """The required parameters that are a second query, key or value by their names, with what they are."""
    needed = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and p.kind in POSITIONAL]
    found = {name: attention_names.get_role(name) for name in needed if name not in roles}
    return {name: role for name, role in found.items() if role in roles.values() and role in QKV}


def _copy_tensors(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with copies of the tensors: a call may write its output into one."""
    return {name: v.clone() if isinstance(v, Tensor) else v for name, v in arguments.items()}


def _fill_varlen_arguments(
    parameters: Mapping[str, inspect.Parameter], spec: TrialSpec, choice: Mapping[str, int]
) -> dict[str, Any]:
    """What says where packed sequences end, of the arguments that have a default."""
    names = varlen.list_varlen_parameters(parameters) if spec.packed else []
    return {name: list_candidates(parameters[name], spec, CALL_VALUES)[0] for name in names if not choice.get(name)}


_STACK_AXIS = {"bthd": 2, "bhtd": 1, "thd": 1, "htd": 0, "1thd": 2, "1htd": 1}
"""Before which axis of q the 3 of a packed qkv stands, and the 2 of a packed kv."""


def _make_combined_input(role: str, tensors: Mapping[str, Tensor], spec: TrialSpec, text_shapes: Symbols) -> Tensor:
    """q, k or v; or qkv or kv in one tensor: (B,T,3,H,D) or (B,T,3C), or as the text says."""
    if role in tensors:
        return tensors[role]
    like, count = tensors["q" if role == "qkv" else "k"], 3 if role == "qkv" else 2
    sizes = list(like.shape)
    if str(count) in text_shapes:
        sizes = list(compute_sizes(text_shapes, spec.spread))
    elif (layout := spec.layout if role == "qkv" else key_layout(spec.layout)) in _STACK_AXIS:
        sizes.insert(_STACK_AXIS[layout], count)
    else:
        sizes[-1] *= count
    return spec.draw_tensor(role, tuple(sizes))
