"""Make call strategies for modules: build one from its constructor, then call its forward."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from math import gcd
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from theria_lint.reasons import CodedError, ReasonCode
from theria_lint.worker.find_call.argument_values import ValueMaker, find_values_by_name, offer_values
from theria_lint.worker.find_call.call_strategy import (
    CONSTRUCTOR_PREFIX,
    ENTRY,
    BoundCall,
    CallMaker,
    CallStrategy,
    TrialSpec,
    compute_expected_shape,
    copy_tensors,
    list_discrete,
)
from theria_lint.worker.find_call.choose_arguments import (
    LARGE_DEFAULT,
    MODULE_VALUES,
    FakeModuleConfig,
    PassThroughLayer,
    ValueTable,
    choose_arguments,
    find_annotation_values,
    find_compared_strings,
    find_layer_class,
    fix_arguments,
    has_values_for_name,
    list_free_parameters,
    list_optional_parameters,
    offer_sequences,
    read_enums,
)
from theria_lint.worker.find_call.handed_layers import HandedLayer, find_handed_layers
from theria_lint.worker.find_call.module_inputs import (
    ANYTHING,
    FEATURE_AXES,
    FORWARD_VALUES,
    IMAGE_LAYOUTS,
    InputBuilder,
    ModuleInputs,
    build_qkv_with_heads,
    list_input_builders,
    list_optional_tensors,
    list_token_parameters,
    make_token_ids,
    read_described_axes,
)
from theria_lint.worker.find_call.opened_target import COPIED_WIDTH
from theria_lint.worker.find_call.prepared_module import (
    PreparedModule,
    SpareModule,
    look_at_state,
    perturb_parameters,
    prepare_module,
    turn_attributes,
)
from theria_lint.worker.find_call.run_trial import check_depends_on_inputs, check_mixes_positions
from theria_lint.worker.find_call.sequence_arguments import find_sequence_lengths
from theria_lint.worker.find_call.signatures import (
    StructuredInput,
    Symbols,
    as_a_caller,
    find_structured_input,
    read_call_parameters,
    read_constructor_parameters,
    read_type_hints,
    takes_any_keyword,
)
from theria_lint.worker.find_call.unset_tensors import list_unset_tensors
from theria_lint.worker.library_messages import find_missing_arguments, find_unexpected_arguments
from theria_lint.worker.parameter_vector import PARAMETERS, as_function_of_parameters


def list_module_strategies(cls: Any, fixed: Mapping[str, Any]) -> Iterator[CallStrategy]:
    """Ways to build a module, times ways to call its forward."""
    forward = _of_forward(cls)
    structured_input = find_structured_input(cls)
    expanded = structured_input.expand_parameters(forward) if structured_input else forward
    axes = read_described_axes(cls.forward, expanded)
    target = _ModuleTarget(cls, read_constructor_parameters(cls), expanded, structured_input, fixed, axes)
    yield from target.list_forward_strategies()


def _of_forward(cls: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a class's forward, without self."""
    return dict(list(read_call_parameters(cls.forward).items())[1:])


@dataclass(frozen=True)
class _ModuleTarget:
    """A class, the parameters of its constructor and its forward, and the arguments that the user has configured.

    ``record``: the object that some of the forward's parameters are put into. ``axes``: what the text says of its
    arguments. ``complaints``: what the constructor raised, by what it was given; ``spare``: what it made last, if
    that refused what it was called with.
    """

    cls: Any
    parameters: Mapping[str, inspect.Parameter]
    forward: Mapping[str, inspect.Parameter]
    structured_input: StructuredInput | None
    fixed: Mapping[str, Any]
    axes: Mapping[str, Symbols]
    complaints: dict[Hashable, tuple[Exception, TracebackType | None]] = field(default_factory=dict)
    spare: SpareModule = field(default_factory=SpareModule)

    def list_forward_strategies(self) -> Iterator[CallStrategy]:
        """The ways to make the call, each with the parameters of both signatures to choose."""
        known = list(list_input_builders(self.forward))
        free = [CONSTRUCTOR_PREFIX + name for name in list_free_parameters(self.parameters, self.fixed)]
        optional = [CONSTRUCTOR_PREFIX + name for name in list_optional_parameters(self.parameters, self.fixed)]
        laid_out: tuple[CallMaker, ...] = (
            *(partial(self.call_with_inputs, builder) for builder in known),
            *(partial(self.call_with_small_defaults, builder) for builder in known),
        )
        of_tokens = tuple(partial(self.call_with_token_ids, which) for which in list_token_parameters(self.forward))
        strategy = CallStrategy(
            laid_out[0],
            (*free, *list_free_parameters(self.forward, self.fixed)),
            (*optional, *list_optional_parameters(self.forward, self.fixed)),
            tensors=tuple(name for name in list_optional_tensors(self.forward) if name not in self.fixed),
            unset=list_unset_tensors(self.forward, self.fixed),
            siblings=(*laid_out, *of_tokens),
            unsure=tuple(self._list_unsure_parameters()),
        )
        yield from (replace(strategy, make=make, image_layouts=IMAGE_LAYOUTS) for make in laid_out)
        yield from (replace(strategy, make=make, layoutless=True) for make in of_tokens)

    def _list_unsure_parameters(self) -> list[str]:
        """What the names say nothing of; where they all do, everything that the constructor needs."""
        needed = list_free_parameters(self.parameters, self.fixed)
        rest = [
            name
            for name in list_free_parameters(self.forward, self.fixed)
            if not has_values_for_name(name, FORWARD_VALUES)
        ]
        unknown = [name for name in needed if not has_values_for_name(name, make_value_table(self.cls))] + rest[1:]
        return list(dict.fromkeys(unknown or needed))

    def build_from_choice(self, spec: TrialSpec, choice: Mapping[str, int]) -> PreparedModule:
        """The module, with weights that depend on nothing but the spec's seed.

        What it is built from is the same for every recipe and layout, and so is what its constructor complains of.
        """
        key = self._identify_module(spec, choice)
        if key in self.complaints:
            error, trace = self.complaints[key]
            raise error.with_traceback(trace)
        spare = self.spare.take(key)
        if spare is not None:
            return spare
        of_constructor = {
            name.removeprefix(CONSTRUCTOR_PREFIX): i
            for name, i in choice.items()
            if name.startswith(CONSTRUCTOR_PREFIX)
        }
        turned = spec.list_turned(CONSTRUCTOR_PREFIX)
        torch.default_generator.manual_seed(spec.seed)
        mine = {name: v for name, v in self.fixed.items() if name in self.parameters or name not in self.forward}
        try:
            module = build_module(
                self.cls, self.parameters, spec, of_constructor, {**mine, **read_enums(turned, self.parameters)}
            )
            turn_attributes(module, spec)
        except Exception as error:
            self.complaints[key] = error, error.__traceback__
            raise
        prepare_module(module, self._fit_sizes(spec))
        return PreparedModule(module, key, look_at_state(module, self.cls.__module__))

    def _identify_module(self, spec: TrialSpec, choice: Mapping[str, int]) -> Hashable:
        """What a module is built from."""
        of_constructor = tuple((name, i) for name, i in choice.items() if name.startswith(CONSTRUCTOR_PREFIX))
        sizes = (spec.shape, spec.dtype, spec.device, spec.seed, spec.small, spec.narrow)
        modes = (spec.masking, spec.evaluating, spec.dropping, spec.magnitudes)
        return *sizes, *modes, spec.base, repr(spec.turned), of_constructor

    def _fit_sizes(self, spec: TrialSpec) -> TrialSpec:
        """The spec with the sizes that the constructor has defaults for, or that a module has which is copied."""
        width = getattr(self.cls, COPIED_WIDTH, None)
        if width is None:
            return with_default_heads(self.parameters, spec)
        heads = spec.shape.heads if width % spec.shape.heads == 0 else 1
        return replace(spec, shape=replace(spec.shape, heads=heads, dim=width // heads, value_dim=width // heads))

    def call_with_inputs(self, builder: InputBuilder, spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        """The module bound to all but what a recipe makes."""
        built = self.build_from_choice(spec, choice)
        module = built.module
        spec = self._fit_sizes(replace(spec, weights=_list_weight_shapes(module), axes=self.axes))
        given = builder(self.forward, spec, choice)
        rest = {name: p for name, p in self.forward.items() if name not in given.names}
        others = self._choose_other_arguments(rest, spec, choice)
        refused = partial(self.spare.keep, built)
        function = _CheckedForward(partial(self._call_forward, module), module, given, others, spec, refused)
        plain = builder is build_qkv_with_heads and set(given.tensors) == {"q", "k", "v"}
        expected = compute_expected_shape(given.tensors) if plain else tuple(next(iter(given.tensors.values())).shape)
        extras = {name: v for name, v in others.items() if isinstance(v, Tensor) and v.is_floating_point()}
        layout, discrete = spec.layout if plain else None, list_discrete(others)
        return BoundCall(
            function, given.tensors, expected, layout, module, extras, discrete=discrete, start=built.start
        )

    def call_with_small_defaults(self, builder: InputBuilder, spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        """The same with smaller defaults."""
        return self.call_with_inputs(builder, replace(spec, small=True), choice)

    def call_with_token_ids(self, names: Sequence[str], spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        """The module as a function of its parameters: token numbers have no derivative."""
        module = self.build_from_choice(spec, choice).module
        spec = self._fit_sizes(spec)
        ids = make_token_ids(names, spec)
        rest = {name: p for name, p in self.forward.items() if name not in ids}
        others = self._choose_other_arguments(rest, spec, choice)
        found = as_function_of_parameters(module, lambda: self._call_forward(module, {**ids, **others}))
        if found is None:
            raise CodedError(ReasonCode.NOTHING_TO_DIFFERENTIATE)
        return BoundCall(
            found.function, {PARAMETERS: found.vector}, discrete=tuple(ids), sizes={PARAMETERS: found.sizes}
        )

    def _choose_other_arguments(
        self, parameters: Mapping[str, inspect.Parameter], spec: TrialSpec, choice: Mapping[str, int]
    ) -> dict[str, Any]:
        """Values for the rest of the forward's parameters, and what was configured for its ``**kwargs``."""
        known = {*self.parameters, *self.forward}
        loose = {name: value for name, value in self.fixed.items() if name not in known}
        mine = loose if takes_any_keyword(self.forward) and not takes_any_keyword(self.parameters) else {}
        fixed = fix_arguments(self.fixed, spec, parameters)
        return {**mine, **choose_arguments(parameters, spec, FORWARD_VALUES, choice, fixed)}

    @cached_property
    def _own_parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the forward as it stands, of which none is put into an object."""
        return _of_forward(self.cls)

    def _call_forward(self, module: nn.Module, arguments: Mapping[str, Any]) -> Any:
        """What a module returns for the arguments of its forward."""
        given = self.structured_input.pack_arguments(arguments) if self.structured_input else dict(arguments)
        if ANYTHING in given:
            return call_without_exit(partial(module, given.pop(ANYTHING), **given))
        leading, named = as_a_caller(self._own_parameters, given)
        return call_without_exit(partial(module, *leading, **named))


def _list_weight_shapes(module: nn.Module) -> tuple[tuple[int, ...], ...]:
    """The shapes of a module's parameters, each once, matrices first."""
    shapes = [tuple(p.shape) for p in module.parameters() if not nn.parameter.is_lazy(p)]
    return tuple(dict.fromkeys(sorted(shapes, key=len, reverse=True)))


class _CheckedForward:
    """A module's forward as a function of tensors; its first call makes sure that what comes out means something."""

    def __init__(
        self,
        run: Callable[[Mapping[str, Any]], Any],
        module: nn.Module,
        given: ModuleInputs,
        others: Mapping[str, Any],
        spec: TrialSpec,
        refused: Callable[[], None],
    ) -> None:
        """Bind all arguments but the tensors; ``run`` calls the module, ``refused`` is for where that raises."""
        self._run_module, self._module, self._given, self._others, self._spec = run, module, given, others, spec
        self._refused = refused
        self._known = {name for name, p in module.named_parameters() if not nn.parameter.is_lazy(p)}
        self._called = False

    def __call__(self, *values: Tensor, **extras: Tensor) -> Any:
        """What the module returns; ``extras`` take the place of what is bound."""
        run = partial(self._run_bound, **extras)
        if self._called:
            return run(*values)
        self._called = True
        settled = partial(self._run_settled, run)
        try:
            if list(self._given.tensors) == ["x"] and self._known:
                return check_mixes_positions(settled, values[0], FEATURE_AXES[self._spec.layout])
            return check_depends_on_inputs(settled, values)
        except Exception:
            self._refused()
            raise

    def _run_settled(self, run: Callable[..., Any], *values: Tensor) -> Any:
        """What it returns once it has made all of its parameters, which may start at zero like others."""
        state = torch.get_rng_state()
        returned = run(*values)
        made = {name: p for name, p in self._module.named_parameters() if name not in self._known}
        if not made:
            return returned
        self._known |= made.keys()
        self._module.to(device=self._spec.device, dtype=self._spec.dtype)
        perturb_parameters(made, self._spec)
        torch.set_rng_state(state)
        return run(*values)

    def _run_bound(self, *values: Tensor, **extras: Tensor) -> Any:
        own = copy_tensors({name: value for name, value in self._others.items() if name in self._spec.given})
        return self._run_module({**self._others, **own, **self._given.make_arguments(values), **extras})


_CONFIGURATION = re.compile(r"^(config|cfg|args|hparams|params|opts?|\w+_config)$")


@lru_cache(maxsize=64)
def make_value_table(cls: Any) -> ValueTable:
    """The table for one class: what its code compares a parameter with, and what its annotations tell, before names."""
    rules: dict[str, ValueMaker] = {}
    hints = read_type_hints(cls.__init__)
    for name, parameter in read_constructor_parameters(cls).items():
        strings = [text for owner in cls.__mro__ for text in _read_strings_of_class(owner).get(name, [])]
        if strings:
            rules[name] = offer_values(*strings)
        elif (values := _find_values_by_hint(cls, name, hints.get(name))) is not None:
            rules[name] = values
        elif parameter.default is inspect.Parameter.empty and (handed := find_handed_layers(cls, name)):
            rules[name] = partial(_make_handed_layers, handed)
        elif parameter.default is inspect.Parameter.empty and name in (lengths := find_sequence_lengths(cls)):
            rules[name] = offer_sequences(lengths[name])
    return (*((f"^{re.escape(name.lower().strip('_'))}$", values) for name, values in rules.items()), *MODULE_VALUES)


def _read_strings_of_class(cls: Any) -> Mapping[str, list[str]]:
    return find_compared_strings(cls) if cls.__module__.partition(".")[0] not in ("torch", "builtins") else {}


def _find_values_by_hint(cls: Any, name: str, hint: Any) -> ValueMaker | None:
    """The values that an annotation speaks for: a configuration, a layer, a number of numbers, one of a few words."""
    if inspect.isclass(hint) and (_CONFIGURATION.match(name.lower()) or "config" in hint.__name__.lower()):
        return _offer_configurations(hint)
    layer = find_layer_class(cls, name, hint)
    return _offer_layers(layer) if layer is not None else find_annotation_values(hint)


def _offer_configurations(owner: Any) -> ValueMaker:
    """A real configuration, its sizes as the spec has them, and one that answers for any entry."""

    def make(name: str, spec: TrialSpec) -> list[Any]:
        parameters = read_constructor_parameters(owner)
        sizes = choose_small_defaults(parameters, spec, MODULE_VALUES, above=0)
        turned = {n: v for n, v in read_enums(spec.list_turned(ENTRY), parameters).items() if n in parameters}
        try:
            return [owner(**{**sizes, **turned}), FakeModuleConfig(spec)]
        except Exception:  # a configuration that checks its entries against each other
            return [FakeModuleConfig(spec)]

    return make


def _offer_layers(owner: Any) -> ValueMaker:
    """A layer that is built like the module that is given it."""

    def make(name: str, spec: TrialSpec) -> list[Any]:
        try:
            return [build_module(owner, read_constructor_parameters(owner), spec, {}, {}), PassThroughLayer()]
        except Exception:  # a constructor that wants what nobody can guess
            return [PassThroughLayer()]

    return make


def _make_handed_layers(handed: Sequence[HandedLayer], name: str, spec: TrialSpec) -> list[Any]:
    """The layers that a package hands to its modules, built like the module that is given them."""
    made: list[Any] = []
    for layer in handed:
        if not layer.is_made:
            made.append(layer.thing)
        elif layer.thing not in spec.inside:  # no layer is in itself without an end
            inner = replace(spec, inside=(*spec.inside, layer.thing))
            try:
                made.append(build_module(layer.thing, read_constructor_parameters(layer.thing), inner, {}, {}))
            except Exception:  # a constructor that wants what nobody can guess
                continue
    return [*made, *find_values_by_name(name, MODULE_VALUES, spec)]


def with_default_heads(parameters: Mapping[str, inspect.Parameter], spec: TrialSpec) -> TrialSpec:
    """The spec with as many heads as the constructor's default asks for, so that the width divides by them.

    And no wider than a default width. With small defaults the heads are the spec's, and narrow defaults stay.
    """
    for name, parameter in () if spec.small else parameters.items():
        if "head" in name.lower() and "dim" not in name.lower() and type(parameter.default) is int:
            spec = replace(spec, shape=replace(spec.shape, heads=max(1, parameter.default)))
            break
    for name, parameter in parameters.items():
        width = parameter.default
        if type(width) is int and 1 < width < spec.channels and _WIDTH.search(name.lower()):
            heads = spec.shape.heads if width % spec.shape.heads == 0 else 1
            return replace(spec, shape=replace(spec.shape, heads=heads, dim=width // heads, value_dim=width // heads))
    return spec


_WIDTH = re.compile(
    r"^(dim|d_?model|embed_?dim|hidden_?(size|dim)|(in_|img_|image_)?chan(nel)?s|in_(dim|features)|width)$"
)
"""What the names of the width of what a module takes look like."""


_DEPTHS = re.compile(r"(depths?|layers|blocks)$")
"""What the names of numbers of layers look like."""

_FEW_LAYERS, _CUT = 2, 8
"""Layers, and by how much widths are cut at most."""


def choose_small_defaults(
    parameters: Mapping[str, inspect.Parameter], spec: TrialSpec, table: ValueTable, *, above: int
) -> dict[str, Any]:
    """Smaller numbers for the sizes that have a default greater than ``above``, where their names say what they are.

    Buckets, windows and segments meant for thousands of tokens hold all of ours otherwise, and do nothing. Numbers of
    layers, one for each stage, are two at most: every other one may be of another kind.
    """
    found: dict[str, Any] = {}
    for name, parameter in parameters.items():
        numbers = parameter.default
        if type(numbers) not in (tuple, list) or not numbers or any(type(number) is not int for number in numbers):
            continue
        if _DEPTHS.search(name.lower()):
            found[name] = type(numbers)(min(number, _FEW_LAYERS) for number in numbers)
        elif spec.narrow and (factor := gcd(*numbers, _CUT)) > 1 and min(numbers) > LARGE_DEFAULT:
            found[name] = type(numbers)(number // factor for number in numbers)
    for name, parameter in parameters.items():
        if type(parameter.default) is int and parameter.default > above:
            values = [v for v in find_values_by_name(name, table, spec) if type(v) is int and v < parameter.default]
            found.update({name: values[0]} if values else {})
    return found


def build_module(
    cls: Any,
    parameters: Mapping[str, inspect.Parameter],
    spec: TrialSpec,
    choice: Mapping[str, int],
    fixed: Mapping[str, Any],
) -> Any:
    """The module that a class makes in a spec; what it asks for beyond its signature is given by name.

    ``fixed``: what the user has configured, all of which a constructor is given that takes any keyword argument.

    Raises:
        Exception: whatever the constructor raises.
    """
    table = make_value_table(cls)
    arguments = choose_arguments(parameters, with_default_heads(parameters, spec), table, choice, fixed)
    if spec.small:
        arguments = {
            **choose_small_defaults(parameters, spec, table, above=2),
            **arguments,
            **{name: value for name, value in fixed.items() if name in parameters},
        }
    if not takes_any_keyword(parameters):
        return call_without_exit(partial(cls, **arguments))
    arguments |= {name: value for name, value in fixed.items() if name not in parameters}
    return _build_with_any_keyword(
        cls, arguments, fixed, lambda name: find_values_by_name(name, table, with_default_heads(parameters, spec))
    )


def _build_with_any_keyword(
    cls: Any, arguments: dict[str, Any], fixed: Mapping[str, Any], values: Callable[[str], list[Any]]
) -> Any:
    """What a class makes that takes any keyword argument, and may hand it to others: they say what is amiss."""
    refused: set[str] = set()
    while True:
        try:
            return call_without_exit(partial(cls, **arguments))
        except TypeError as error:
            surplus = set(find_unexpected_arguments(str(error))) & (arguments.keys() - fixed.keys())
            missing = find_missing_arguments(str(error))
            asked = {n: values(n)[0] for n in missing if n not in arguments.keys() | refused and values(n)}
            if not surplus and not asked:
                raise
            refused |= surplus
            arguments = {n: v for n, v in {**arguments, **asked}.items() if n not in surplus}


def call_without_exit(make: Any) -> Any:
    """What a callable returns; CodedError where it exits the process, as some do for want of a package."""
    try:
        return make()
    except SystemExit as error:
        raise CodedError(ReasonCode.EXITS_WITH, exit_code=str(error.code or 0)) from None
