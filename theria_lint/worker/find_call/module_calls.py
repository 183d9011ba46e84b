"""How to build modules and call their forward."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from theria_lint.worker.find_call.argument_values import Values, by_name
from theria_lint.worker.find_call.call_strategy import BUILT, Call, Maker, Way
from theria_lint.worker.find_call.constructor_values import (
    MODULE_BUILD,
    Passing,
    Settings,
    Table,
    annotated,
    compared_strings,
    constructor,
    is_open,
    layer_class,
    suggests,
)
from theria_lint.worker.find_call.function_calls import expected_shape
from theria_lint.worker.find_call.module_inputs import (
    ANYTHING,
    FEATURES,
    FORWARD,
    Given,
    Recipe,
    Record,
    heads_apart,
    optional_tensors,
    recipes,
    record_of,
    token_ids,
)
from theria_lint.worker.find_call.run_trial import attending, depending
from theria_lint.worker.find_call.signatures import (
    as_a_caller,
    choose_arguments,
    free_parameters,
    hints_of,
    optional_parameters,
    parameters_of,
)
from theria_lint.worker.find_call.trial_spec import Scene
from theria_lint.worker.parameter_vector import PARAMETERS, in_parameters


def module_ways(cls: Any, fixed: Mapping[str, Any]) -> Iterator[Way]:
    """Ways to build a module, times ways to call its forward."""
    forward = _of_forward(cls)
    record = record_of(cls)
    target = _Target(cls, constructor(cls), record.opened(forward) if record else forward, record, fixed)
    yield from target.ways()


def _of_forward(cls: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a class's forward, without self."""
    return dict(list(parameters_of(cls.forward).items())[1:])


@dataclass(frozen=True)
class _Target:
    """A class, the parameters of its constructor and its forward, and the arguments that the user has configured.

    ``record``: the object that some of the forward's parameters are put into. ``complaints``: what the constructor
    raised, by what it was given.
    """

    cls: Any
    parameters: Mapping[str, inspect.Parameter]
    forward: Mapping[str, inspect.Parameter]
    record: Record | None
    fixed: Mapping[str, Any]
    complaints: dict[Hashable, tuple[Exception, TracebackType | None]] = field(default_factory=dict)

    def ways(self) -> Iterator[Way]:
        """The ways to make the call, each with the parameters of both signatures to choose."""
        known = list(recipes(self.forward))
        free = [BUILT + name for name in free_parameters(self.parameters, self.fixed)]
        optional = [BUILT + name for name in optional_parameters(self.parameters, self.fixed)]
        makers: tuple[Maker, ...] = (
            *(partial(self.call, recipe) for recipe in known),
            *(partial(self.call_small, recipe) for recipe in known),
            self.call_with_ids,
        )
        way = Way(
            makers[0],
            (*free, *free_parameters(self.forward, self.fixed)),
            (*optional, *optional_parameters(self.forward, self.fixed)),
            tensors=tuple(name for name in optional_tensors(self.forward) if name not in self.fixed),
            siblings=makers,
            unsure=tuple(self._unsure()),
        )
        yield from (replace(way, make=make) for make in makers)

    def _unsure(self) -> list[str]:
        """What the names say nothing of; where they all do, everything that the constructor needs."""
        needed = free_parameters(self.parameters, self.fixed)
        rest = [name for name in free_parameters(self.forward, self.fixed) if not suggests(name, FORWARD)]
        unknown = [name for name in needed if not suggests(name, table_for(self.cls))] + rest[1:]
        return list(dict.fromkeys(unknown or needed))

    def built(self, scene: Scene, choice: Mapping[str, int]) -> Any:
        """The module, with weights that depend on nothing but the scene's seed.

        What it is built from is the same for every recipe and layout, and so is what its constructor complains of.
        """
        of_constructor = {name.removeprefix(BUILT): i for name, i in choice.items() if name.startswith(BUILT)}
        key = (scene.shape, scene.dtype, scene.small, scene.masking, tuple(of_constructor.items()))
        if key in self.complaints:
            error, trace = self.complaints[key]
            raise error.with_traceback(trace)
        torch.default_generator.manual_seed(scene.seed)
        mine = {name: v for name, v in self.fixed.items() if name in self.parameters or name not in self.forward}
        try:
            module = build(self.cls, self.parameters, scene, of_constructor, mine)
        except Exception as error:
            self.complaints[key] = error, error.__traceback__
            raise
        prepare(module, roomy(self.parameters, scene))
        return module

    def call(self, recipe: Recipe, scene: Scene, choice: Mapping[str, int]) -> Call:
        """The module bound to all but what a recipe makes."""
        module = self.built(scene, choice)
        scene = roomy(self.parameters, scene)
        given = recipe(self.forward, scene, choice)
        rest = {name: p for name, p in self.forward.items() if name not in given.names}
        others = self._others(rest, scene, choice)
        function = _Forward(partial(self._run, module), module, given, others, scene)
        plain = recipe is heads_apart and set(given.tensors) == {"q", "k", "v"}
        expected = expected_shape(given.tensors) if plain else tuple(next(iter(given.tensors.values())).shape)
        extras = {name: v for name, v in others.items() if isinstance(v, Tensor) and v.is_floating_point()}
        return Call(function, given.tensors, expected, scene.layout if plain else None, module, extras)

    def call_small(self, recipe: Recipe, scene: Scene, choice: Mapping[str, int]) -> Call:
        """The same with smaller defaults."""
        return self.call(recipe, replace(scene, small=True), choice)

    def call_with_ids(self, scene: Scene, choice: Mapping[str, int]) -> Call:
        """The module as a function of its parameters: token numbers have no derivative."""
        module = self.built(scene, choice)
        scene = roomy(self.parameters, scene)
        ids = token_ids(self.forward, scene)
        rest = {name: p for name, p in self.forward.items() if name not in ids}
        others = self._others(rest, scene, choice)
        found = in_parameters(module, lambda: self._run(module, {**ids, **others}))
        if found is None:
            raise TypeError("it takes no tensor that could be differentiated, and has no parameters")
        return Call(found[0], {PARAMETERS: found[1]})

    def _others(
        self, parameters: Mapping[str, inspect.Parameter], scene: Scene, choice: Mapping[str, int]
    ) -> dict[str, Any]:
        """Values for the rest of the forward's parameters, and what was configured for its ``**kwargs``."""
        known = {*self.parameters, *self.forward}
        loose = {name: value for name, value in self.fixed.items() if name not in known}
        mine = loose if is_open(self.forward) and not is_open(self.parameters) else {}
        return {**mine, **choose_arguments(parameters, scene, FORWARD, choice, self.fixed)}

    def _run(self, module: nn.Module, arguments: Mapping[str, Any]) -> Any:
        """What a module returns for the arguments of its forward."""
        given = self.record.closed(arguments) if self.record else dict(arguments)
        if ANYTHING in given:
            return made_by(partial(module, given.pop(ANYTHING), **given))
        leading, named = as_a_caller(_of_forward(self.cls), given)
        return made_by(partial(module, *leading, **named))


class _Forward:
    """A module's forward as a function of tensors; its first call makes sure that what comes out means something."""

    def __init__(
        self,
        run: Callable[[Mapping[str, Any]], Any],
        module: nn.Module,
        given: Given,
        others: Mapping[str, Any],
        scene: Scene,
    ) -> None:
        """Binds all arguments but the tensors; ``run`` calls the module."""
        self._run_module, self._module, self._given, self._others, self._scene = run, module, given, others, scene
        self._known = {name for name, p in module.named_parameters() if not nn.parameter.is_lazy(p)}
        self._called = False

    def __call__(self, *values: Tensor, **extras: Tensor) -> Any:
        """What the module returns; ``extras`` take the place of what is bound."""
        run = partial(self._run, **extras)
        if self._called:
            return run(*values)
        self._called = True
        settled = partial(self._settled, run)
        if list(self._given.tensors) == ["x"] and self._known:
            return attending(settled, values[0], FEATURES[self._scene.layout])
        return depending(settled, values)

    def _settled(self, run: Callable[..., Any], *values: Tensor) -> Any:
        """What it returns once it has made all of its parameters, which may start at zero like others."""
        state = torch.get_rng_state()
        returned = run(*values)
        made = {name: p for name, p in self._module.named_parameters() if name not in self._known}
        if not made:
            return returned
        self._known |= made.keys()
        self._module.to(device=self._scene.device, dtype=self._scene.dtype)
        shake(made, self._scene)
        torch.set_rng_state(state)
        return run(*values)

    def _run(self, *values: Tensor, **extras: Tensor) -> Any:
        return self._run_module({**self._others, **self._given.arguments(values), **extras})


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
