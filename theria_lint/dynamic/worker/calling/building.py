"""How to build a module: what its constructor is given, and weights that hide nothing behind a zero."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn

from theria_lint.dynamic.worker.calling.annotated import annotated, layer_class
from theria_lint.dynamic.worker.calling.arguments import Values, by_name
from theria_lint.dynamic.worker.calling.constructors import constructor, is_open
from theria_lint.dynamic.worker.calling.literals import compared_strings
from theria_lint.dynamic.worker.calling.parts import MODULE_BUILD, Passing, Settings, Table
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.signatures import choose_arguments
from theria_lint.dynamic.worker.calling.sources import hints_of

_MISSING = re.compile(r"missing \d+ required (?:positional|keyword-only) arguments?: (.*)")
_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")
_CONFIGURATION = re.compile(r"^(config|cfg|args|hparams|params|opts?|\w+_config)$")


@lru_cache(maxsize=64)
def table_for(cls: Any) -> Table:
    """The table for one class: what its code compares a parameter with, and what its annotations tell, before names."""
    rules: dict[str, Values] = {}
    hints = hints_of(cls.__init__)
    for name in constructor(cls):
        strings = [text for owner in cls.__mro__ for text in _strings(owner).get(name, [])]
        if strings:
            rules[name] = _constants(strings)
        elif (values := _of_hint(cls, name, hints.get(name))) is not None:
            rules[name] = values
    return (*((f"^{re.escape(name.lower().strip('_'))}$", values) for name, values in rules.items()), *MODULE_BUILD)


def _strings(cls: Any) -> Mapping[str, list[str]]:
    return compared_strings(cls) if cls.__module__.partition(".")[0] not in ("torch", "builtins") else {}


def _constants(values: list[str]) -> Values:
    return lambda name, scene: list(values)


def _of_hint(cls: Any, name: str, hint: Any) -> Values | None:
    """The values that an annotation speaks for: a configuration, a layer, a number of numbers, one of a few words."""
    if inspect.isclass(hint) and (_CONFIGURATION.match(name.lower()) or "config" in hint.__name__.lower()):
        return _configurations(hint)
    layer = layer_class(cls, name, hint)
    return _layers(layer) if layer is not None else annotated(hint)


def _configurations(owner: Any) -> Values:
    """A real configuration, its sizes as the scene has them, and one that answers for any entry."""

    def make(name: str, scene: Scene) -> list[Any]:
        sizes = small_defaults(constructor(owner), scene, MODULE_BUILD, above=0)
        try:
            return [owner(**sizes), Settings(scene)]
        except Exception:  # a configuration that checks its entries against each other
            return [Settings(scene)]

    return make


def _layers(owner: Any) -> Values:
    """A layer that is built like the module that is given it."""

    def make(name: str, scene: Scene) -> list[Any]:
        try:
            return [build(owner, constructor(owner), scene, {}, {}), Passing()]
        except Exception:  # a constructor that wants what nobody can guess
            return [Passing()]

    return make


def roomy(parameters: Mapping[str, inspect.Parameter], scene: Scene) -> Scene:
    """The scene with as many heads as the constructor's default asks for, so that the width divides by them.

    With small defaults the heads are the scene's.
    """
    for name, parameter in () if scene.small else parameters.items():
        if "head" in name.lower() and "dim" not in name.lower() and type(parameter.default) is int:
            return replace(scene, shape=replace(scene.shape, heads=max(1, parameter.default)))
    return scene


def small_defaults(
    parameters: Mapping[str, inspect.Parameter], scene: Scene, table: Table, *, above: int
) -> dict[str, int]:
    """Smaller numbers for the sizes that have a default greater than ``above``, where their names say what they are.

    Buckets, windows and segments meant for thousands of tokens hold all of ours otherwise, and do nothing.
    """
    found = {}
    for name, parameter in parameters.items():
        if type(parameter.default) is int and parameter.default > above:
            values = [v for v in by_name(name, table, scene) if type(v) is int and v < parameter.default]
            found.update({name: values[0]} if values else {})
    return found


def build(
    cls: Any,
    parameters: Mapping[str, inspect.Parameter],
    scene: Scene,
    choice: Mapping[str, int],
    fixed: Mapping[str, Any],
) -> Any:
    """The module that a class makes in a scene; what it asks for beyond its signature is given by name.

    ``fixed``: what the user has configured, all of which a constructor is given that takes any keyword argument.

    Raises:
        Exception: whatever the constructor raises.
    """
    table = table_for(cls)
    arguments = choose_arguments(parameters, roomy(parameters, scene), table, choice, fixed)
    if scene.small:
        arguments = {**small_defaults(parameters, scene, table, above=2), **arguments, **_given(fixed, parameters)}
    if not is_open(parameters):
        return made_by(partial(cls, **arguments))
    arguments |= {name: value for name, value in fixed.items() if name not in parameters}
    return _made_openly(cls, arguments, fixed, lambda name: by_name(name, table, roomy(parameters, scene)))


def _made_openly(
    cls: Any, arguments: dict[str, Any], fixed: Mapping[str, Any], values: Callable[[str], list[Any]]
) -> Any:
    """What a class makes that takes any keyword argument, and may hand it to others: they say what is amiss."""
    refused: set[str] = set()
    while True:
        try:
            return made_by(partial(cls, **arguments))
        except TypeError as error:
            surplus = {name for name in _UNEXPECTED.findall(str(error)) if name in arguments.keys() - fixed.keys()}
            missing = [name for told in _MISSING.findall(str(error)) for name in re.findall(r"'(\w+)'", told)]
            asked = {n: values(n)[0] for n in missing if n not in arguments.keys() | refused and values(n)}
            if not surplus and not asked:
                raise
            refused |= surplus
            arguments = {n: v for n, v in {**arguments, **asked}.items() if n not in surplus}


def _given(fixed: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    return {name: value for name, value in fixed.items() if name in parameters}


def made_by(make: Any) -> Any:
    """What a callable returns; RuntimeError where it exits the process, as some do for want of a package."""
    try:
        return make()
    except SystemExit as error:
        raise RuntimeError(f"it exits the process with {error.code or 0}") from None


def prepare(module: nn.Module, scene: Scene) -> None:
    """Moves a module to the scene, silences its dropout, and shakes parameters that start at a special value."""
    module.to(device=scene.device, dtype=scene.dtype).train(not scene.evaluating)
    for part_ in module.modules():
        if isinstance(part_, nn.modules.dropout._DropoutNd):
            part_.p = 0.0
    shake(dict(module.named_parameters()), scene)


def shake(parameters: Mapping[str, nn.Parameter], scene: Scene) -> None:
    """Adds noise to parameters: one that starts at zero hides whatever stands behind it."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.is_floating_point() and not nn.parameter.is_lazy(parameter):
                noise = scene.tensor(name, tuple(parameter.shape))
                spread = float(parameter.float().std()) if parameter.numel() > 1 else 0.0
                parameter.add_(0.3 * (spread or 0.5) * noise)
