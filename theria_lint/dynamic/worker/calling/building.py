"""How to build a module: what its constructor is given, and weights that hide nothing behind a zero."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, get_type_hints

import torch
from torch import nn

from theria_lint.dynamic.worker.calling.arguments import BUILD, Config, Values, by_name
from theria_lint.dynamic.worker.calling.literals import compared_strings
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.signatures import choose_arguments, parameters_of
from theria_lint.dynamic.worker.calling.sizes import few, part, side

Table = tuple[tuple[str, Values], ...]

_MISSING = re.compile(r"missing \d+ required (?:positional|keyword-only) arguments?: (.*)")
_CONFIGURATION = re.compile(r"^(config|cfg|args|hparams|params|opts?|\w+_config)$")


def _sides(name: str, scene: Scene) -> list[Any]:
    """The height or width of an image, as a number or a pair."""
    return [side(scene), (side(scene), side(scene))]


def _windows(name: str, scene: Scene) -> list[Any]:
    """Windows smaller than what they slide over: one that holds everything is never left by anything."""
    across = max(1, side(scene) // 2)
    return [part(scene), scene.shape.queries, across, (across, across), side(scene), (side(scene), side(scene))]


def _counts(name: str, scene: Scene) -> list[Any]:
    """How many tokens are selected, or stand for the others."""
    return [few(scene), scene.shape.queries]


MODULE_BUILD: Table = (
    (r"drop", lambda n, s: [0.0]),
    (r"^(in|out|input|output|embed)_?(features|channels|planes)$|^(in)?planes$", lambda n, s: [s.channels]),
    (r"fmap|feat(ure)?_?(map_?)?size|^[hw]_s$|^(h|w|height|width)$", _sides),
    (r"resolution|(img|image|input|spatial)_size|grid", _sides),
    (r"window", _windows),
    (r"^num_\w*tokens(_\w+)?$|^num_(selected|routed|heavy)|top_?k|capacity|num_keep", _counts),
    (r"seg(ment)?_|segment", lambda n, s: [part(s), s.shape.queries]),
    (r"temperature|^(temp|tau)$", lambda n, s: [1.0]),
    (r"iter(s|ations?)?$", lambda n, s: [3]),
    (r"^chans?$|_chans?$", lambda n, s: [s.channels]),
    (r"norm(_?(layer|fn|cls|class))?$", lambda n, s: [nn.LayerNorm, nn.Identity, False]),
    (r"act(ivation)?(_?(layer|fn|func|function))?$|nonlinearity", lambda n, s: [nn.GELU, nn.functional.gelu, "gelu"]),
    (r"kernel(_?size)?$", lambda n, s: [3, 1]),
    (r"stride|dilation|(sr|reduction|compress\w*)_?(ratio|factor)?$", lambda n, s: [1, 2]),
    (r"padding", lambda n, s: [1, 0]),
    (r"(ratio|mult|factor|expansion)$", lambda n, s: [2, 1.0]),
    (r"hiddens$|dims$", lambda n, s: [(s.channels, s.channels), s.channels]),
    (r"vocab|num_embeddings", lambda n, s: [8]),
    (r"^(use|is|has|with|enable|add|do|allow|learn\w*|return|share\w*)_|flash|bidirectional", lambda n, s: [False]),
    *BUILD,
)
"""By what a parameter of a module's constructor is called: its candidate values."""


def constructor(cls: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a class's ``__init__`` without self."""
    return dict(list(parameters_of(cls.__init__).items())[1:])


@lru_cache(maxsize=64)
def table_for(cls: Any) -> Table:
    """The table for one class: strings that its code compares a parameter with, configurations by their own class."""
    parameters = constructor(cls)
    known = compared_strings(cls)
    rules = [(name, _constants(known[name])) for name in parameters if name in known]
    rules += [(name, _configurations(owner)) for name, owner in _configuration_classes(cls, parameters)]
    return (*((f"^{re.escape(name.lower().strip('_'))}$", values) for name, values in rules), *MODULE_BUILD)


def _constants(values: list[str]) -> Values:
    return lambda name, scene: list(values)


def _configuration_classes(cls: Any, parameters: Mapping[str, inspect.Parameter]) -> Iterator[tuple[str, Any]]:
    """The parameters that hold a configuration and are annotated with a class that can be made from its defaults."""
    try:
        hints = get_type_hints(cls.__init__)
    except Exception:  # annotations of code that was not written for us: names that are not defined, and worse
        return
    for name in parameters:
        owner = hints.get(name)
        if inspect.isclass(owner) and (_CONFIGURATION.match(name.lower()) or "config" in owner.__name__.lower()):
            yield name, owner


def _configurations(owner: Any) -> Values:
    """A real configuration, its sizes as the scene has them, and one that answers for any entry."""

    def make(name: str, scene: Scene) -> list[Any]:
        sizes = small_defaults(constructor(owner), scene, MODULE_BUILD, above=0)
        try:
            return [owner(**sizes), Config(scene)]
        except Exception:  # a configuration that checks its entries against each other
            return [Config(scene)]

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

    Raises:
        Exception: whatever the constructor raises.
    """
    table = table_for(cls)
    arguments = choose_arguments(parameters, roomy(parameters, scene), table, choice, fixed)
    if scene.small:
        arguments = {**small_defaults(parameters, scene, table, above=2), **arguments, **_given(fixed, parameters)}
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    while True:
        try:
            return made_by(partial(cls, **arguments))
        except TypeError as error:
            named = re.findall(r"'(\w+)'", found.group(1)) if (found := _MISSING.search(str(error))) else []
            asked = {name: values[0] for name in named if (values := by_name(name, table, roomy(parameters, scene)))}
            if not open_ended or not asked or asked.keys() <= arguments.keys():
                raise
            arguments |= asked


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
