"""How to call a target: every way that its signature leaves open, the likeliest first."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from theria_lint.dynamic.worker.arguments import BUILD, CALL, Values, by_name, candidates
from theria_lint.dynamic.worker.scene import Scene
from theria_lint.model import TargetKind
from theria_lint.static import words

QKV = ("q", "k", "v")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Call:
    """A target bound to everything but its differentiable inputs.

    ``function`` takes the inputs by position; ``expected`` is the shape that the output of attention would have, None
    where nothing is known of it; ``layout`` that of q, k, v, None for other inputs; ``module`` what was built.
    """

    function: Callable[..., Any]
    inputs: dict[str, Tensor]
    expected: tuple[int, ...] | None = None
    layout: str | None = None
    module: torch.nn.Module | None = None

    def output(self, *arguments: Tensor) -> Tensor:
        """The attention output among what the target returns."""
        return select(self.function(*arguments), self.expected)


def select(returned: Any, expected: tuple[int, ...] | None) -> Tensor:
    """The tensor that is the attention output: the first of the expected shape, or else the first.

    Raises:
        TypeError: if nothing that was returned is a floating-point tensor.
    """
    values = list(returned.values()) if isinstance(returned, Mapping) else returned
    values = values if isinstance(values, list | tuple) else [values]
    tensors = [v for v in values if isinstance(v, Tensor) and v.is_floating_point() and v.numel()]
    if not tensors:
        raise TypeError(f"it returned {type(returned).__name__} without a floating-point tensor in it")
    return next((t for t in tensors if tuple(t.shape) == expected), tensors[0])


@dataclass(frozen=True)
class Way:
    """One way to call a target: it serves several scenes, so that sizes and strides can vary.

    ``choice`` says which candidate each parameter takes, by name, 0 where it says nothing; ``free`` names the
    parameters that need a value, ``optional`` those that could be given one.
    """

    make: Callable[[Scene, Mapping[str, int]], Call]
    free: tuple[str, ...]
    optional: tuple[str, ...] = ()
    choice: Mapping[str, int] = field(default_factory=dict)

    def __call__(self, scene: Scene) -> Call:
        """The call in a scene."""
        return self.make(scene, self.choice)

    def others(self, complaint: str) -> Iterator[Way]:
        """The ways that differ from this one in one parameter; the optional ones only if a complaint names them."""
        mentioned = set(re.findall(r"\w+", complaint))
        for name in (*self.free, *(n for n in self.optional if n.removeprefix(BUILT) in mentioned)):
            for index in range(CANDIDATES):
                if index != self.choice.get(name, 0):
                    yield replace(self, choice={**self.choice, name: index})


CANDIDATES = 6
"""How many values a parameter may be tried with."""


LARGE = 16
"""A default size above this is not needed to see what a module's derivatives are worth."""


class NoSuchChoiceError(LookupError):
    """A parameter has fewer candidates than the choice asks for: nothing new to try."""


def ways(target: Any, kind: TargetKind, fixed: Mapping[str, Any]) -> Iterator[Way]:
    """The ways to call a target, the likeliest first; ``fixed`` holds arguments that the user has configured.

    Raises:
        TypeError: if the object cannot be called as its kind says.
    """
    if kind is TargetKind.MODULE:
        yield from _module_ways(target, fixed)
    elif kind is TargetKind.AUTOGRAD_FUNCTION:
        yield _function_way(target.apply, _forward_parameters(target), fixed, positional=True)
    elif kind is TargetKind.WRAPPER and not words.takes_qkv(list(_signature(target))):
        yield Way(lambda scene, choice: _wrapped(target, scene, fixed), ())
    else:
        yield _function_way(target, _signature(target), fixed, positional=False)


def _signature(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters by name; those of scripted code stand in its schema."""
    schema = getattr(function, "schema", None)
    if schema is None or inspect.isfunction(function):
        return dict(inspect.signature(function).parameters)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return {
        a.name: inspect.Parameter(
            a.name, kind, default=a.default_value if a.has_default_value() else inspect.Parameter.empty
        )
        for a in schema.arguments
    }


def _forward_parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of ``apply``: those of forward, without ctx unless setup_context takes it."""
    parameters = _signature(function.forward)
    separate = function.setup_context is not torch.autograd.Function.setup_context
    return parameters if separate else dict(list(parameters.items())[1:])


def _wrapped(target: Any, scene: Scene, fixed: Mapping[str, Any]) -> Call:
    """What a wrapper returns for the base attention, called in the first way that its own signature suggests."""
    parameters = _signature(target)
    arguments = _arguments(parameters, scene, BUILD, {}, fixed)
    attention = next((n for n in parameters if n.lower() in words.FUNCTION_PARAMETERS), next(iter(parameters)))
    wrapped = target(**{**arguments, attention: scene.base})
    if isinstance(wrapped, torch.nn.Module):
        return _on_qkv(wrapped, _signature(wrapped.forward), scene, {}, fixed, positional=False)
    if not callable(wrapped):
        raise TypeError(f"the wrapper returned {type(wrapped).__name__}, not a function")
    return _on_qkv(wrapped, _signature(wrapped), scene, {}, fixed, positional=False)


def _function_way(
    function: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    fixed: Mapping[str, Any],
    *,
    positional: bool,
) -> Way:
    def make(scene: Scene, choice: Mapping[str, int]) -> Call:
        return _on_qkv(function, parameters, scene, choice, fixed, positional=positional)

    return Way(make, _free(parameters, fixed), _optional(parameters, fixed))


def _free(parameters: Mapping[str, inspect.Parameter], fixed: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters that need a value and are not q, k or v."""
    return tuple(
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        and name not in fixed
        and words.role(name) is None
    )


def _optional(parameters: Mapping[str, inspect.Parameter], fixed: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters that have a default."""
    return tuple(
        name
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty and name not in fixed and words.role(name) is None
    )


def _arguments(
    parameters: Mapping[str, inspect.Parameter],
    scene: Scene,
    table: tuple[tuple[str, Values], ...],
    choice: Mapping[str, int],
    fixed: Mapping[str, Any],
) -> dict[str, Any]:
    """Values for the parameters that need one: required, configured, attention functions, dropout.

    Raises:
        NoSuchChoiceError: where a parameter has no such candidate.
    """
    arguments: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in fixed:
            arguments[name] = fixed[name]
        elif parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        elif scene.masking and "causal" in name.lower() and type(parameter.default) in (bool, type):
            arguments[name] = True
        elif parameter.default is inspect.Parameter.empty:
            arguments[name] = _pick(candidates(parameter, scene, table), choice.get(name, 0))
        elif choice.get(name):
            arguments[name] = _pick(candidates(parameter, scene, table), choice[name] - 1)
        elif scene.small and table is BUILD and type(parameter.default) is int and parameter.default > LARGE:
            arguments[name] = next(iter(by_name(name, table, scene)), parameter.default)
        elif "drop" in name.lower() and isinstance(parameter.default, float):
            arguments[name] = 0.0
        elif name.lower() in words.ATTENTION_PARAMETERS and (parameter.default is None or callable(parameter.default)):
            arguments[name] = scene.base
    return arguments


def _pick(values: list[Any], index: int) -> Any:
    if index >= len(values):
        raise NoSuchChoiceError
    return values[index]


def _roles(parameters: Mapping[str, inspect.Parameter]) -> dict[str, str]:
    """The parameters that hold q, k, v (or qkv, kv): by name, else the first three that need a value."""
    found: dict[str, str] = {}
    for name in parameters:
        role = words.role(name)
        if role is not None and role not in found.values():
            found[name] = role
    if {"q", "k", "v"} <= set(found.values()) or "qkv" in found.values() or {"q", "kv"} <= set(found.values()):
        return {name: role for name, role in found.items() if role in _used(set(found.values()))}
    required = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and p.kind in _POSITIONAL]
    return dict(zip(required, QKV, strict=False)) if len(required) >= len(QKV) else {}


def _used(roles: set[str]) -> set[str]:
    if set(QKV) <= roles:
        return set(QKV)
    return {"qkv"} if "qkv" in roles else {"q", "kv"}


def _on_qkv(
    function: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    scene: Scene,
    choice: Mapping[str, int],
    fixed: Mapping[str, Any],
    *,
    positional: bool,
) -> Call:
    """Binds a function of q, k, v, packed or not."""
    roles = _roles(parameters)
    rest = {name: p for name, p in parameters.items() if name not in roles}
    tensors = scene.qkv()
    if not roles and any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values()):
        return Call(function, tensors, _expected(tensors), scene.layout)
    if not roles:
        raise TypeError("no parameter takes q, k and v: name them q, k, v or query, key, value")
    arguments = _arguments(rest, scene, CALL, choice, fixed)
    inputs = {role: _packed(role, tensors, scene) for role in roles.values()}

    def bound(*values: Tensor) -> Any:
        by_name = {**arguments, **dict(zip(roles, values, strict=True))}
        if not positional:
            return (
                function(**by_name) if not _positional_only(parameters) else function(*_in_order(parameters, by_name))
            )
        return function(*_in_order(parameters, by_name))

    plain = set(inputs) == set(QKV)
    return Call(bound, inputs, _expected(tensors), scene.layout if plain else None)


def _positional_only(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in parameters.values())


def _in_order(parameters: Mapping[str, inspect.Parameter], by_name: Mapping[str, Any]) -> list[Any]:
    """Arguments by position, up to the last one that is given; defaults fill the gaps."""
    names = [n for n, p in parameters.items() if p.kind in _POSITIONAL]
    last = max((i for i, name in enumerate(names) if name in by_name), default=-1)
    return [by_name.get(name, parameters[name].default) for name in names[: last + 1]]


def _expected(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
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


def _module_ways(cls: Any, fixed: Mapping[str, Any]) -> Iterator[Way]:
    """Ways to build a module, times ways to call its forward."""
    build = dict(list(_signature(cls.__init__).items())[1:])
    forward = dict(list(_signature(cls.forward).items())[1:])
    tensors_of = [_x_inputs] if not words.takes_qkv(list(forward)) else [_wide_inputs, _qkv_inputs, _x_inputs]
    free = tuple(f"{BUILT}{name}" for name in _free(build, fixed)) + _free(forward, fixed)
    optional = tuple(f"{BUILT}{name}" for name in _optional(build, fixed)) + _optional(forward, fixed)
    if any(_is_context(name) for name in _optional(forward, fixed)) and _context_inputs not in tensors_of:
        tensors_of.append(_context_inputs)
    for inputs_of in tensors_of:

        def make(scene: Scene, choice: Mapping[str, int], inputs_of: Inputs = inputs_of) -> Call:
            return _module_call(cls, build, forward, scene, choice, inputs_of, fixed)

        yield Way(make, free, optional)


BUILT = "__init__:"
"""Stands before the names of a constructor's parameters in a choice."""

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
    module = cls(**_arguments(build, _roomy(build, scene), BUILD, built, fixed))
    scene = _roomy(build, scene)
    _prepare(module, scene)
    names, inputs = inputs_of(forward, scene)
    rest = {n: p for n, p in forward.items() if n not in names}
    arguments = _arguments(rest, scene, CALL, choice, fixed)

    def bound(*values: Tensor) -> Any:
        first, rest = (values[:1], values[1:]) if ANYTHING in names else ((), values)
        named = [name for name in names if name != ANYTHING]
        return module(*first, **arguments, **dict(zip(named, rest, strict=True)))

    plain = inputs_of is _qkv_inputs
    return Call(bound, inputs, _expected(inputs) if plain else None, scene.layout if plain else None, module)


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
    name = next((n for n, p in forward.items() if p.kind in _POSITIONAL), None)
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
    return _roles(forward), _ordered(_roles(forward).values(), scene.qkv())


def _wide_inputs(forward: Mapping[str, inspect.Parameter], scene: Scene) -> tuple[dict[str, str], dict[str, Tensor]]:
    """q, k, v as wide as the module, all heads side by side."""
    wide = replace(scene.shape, heads=1, dim=scene.channels, value_dim=scene.channels)
    tensors = replace(scene, shape=wide, layout="btd" if scene.layout != "td" else "td").qkv()
    return _roles(forward), _ordered(_roles(forward).values(), tensors)


def _ordered(names: Iterable[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensors[name] for name in names}


def layouts(kind: TargetKind) -> Sequence[str]:
    """The layouts to try: modules mostly take (B,T,C), functions (B,H,T,D)."""
    return ("btd", "bhtd", "bthd", "td") if kind is TargetKind.MODULE else ("bhtd", "bthd", "btd", "td")
