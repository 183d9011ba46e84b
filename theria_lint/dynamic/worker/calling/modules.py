"""How to build modules and call their forward."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from theria_lint.dynamic.worker.calling.building import build, made_by, prepare, roomy, shake, table_for
from theria_lint.dynamic.worker.calling.calls import BUILT, Call, Maker, Way
from theria_lint.dynamic.worker.calling.constructors import constructor, is_open
from theria_lint.dynamic.worker.calling.functions import expected_shape
from theria_lint.dynamic.worker.calling.inputs import ANYTHING, FEATURES, FORWARD
from theria_lint.dynamic.worker.calling.mixing import attending, depending
from theria_lint.dynamic.worker.calling.parts import suggests
from theria_lint.dynamic.worker.calling.recipes import (
    Given,
    Recipe,
    heads_apart,
    optional_tensors,
    recipes,
    token_ids,
)
from theria_lint.dynamic.worker.calling.records import Record, record_of
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.signatures import (
    as_a_caller,
    choose_arguments,
    free_parameters,
    optional_parameters,
    parameters_of,
)
from theria_lint.dynamic.worker.parameters import PARAMETERS, in_parameters


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
