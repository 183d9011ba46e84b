"""Yield call strategies for a target, most likely first; find its adapter; explain where none works."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from traceback import extract_tb
from typing import Any

import torch
from torch import Tensor

from theria import testing
from theria.probes.layouts import key_layout
from theria_lint.calls.call_file import LINTED_PREFIX
from theria_lint.model import TargetKind
from theria_lint.reasons import CodedError, Reason, ReasonCode
from theria_lint.static import attention_names
from theria_lint.worker import importer
from theria_lint.worker.failure_messages import describe_error
from theria_lint.worker.find_call.argument_values import (
    CALL_VALUES,
    CONSTRUCTOR_VALUES,
    ValueMaker,
    is_graph,
    is_varlen_argument,
    list_candidates,
    list_varlen_parameters,
)
from theria_lint.worker.find_call.call_strategy import (
    CONSTRUCTOR_PREFIX,
    HEADS_AXIS,
    BoundCall,
    CallStrategy,
    TrialSpec,
    compute_expected_shape,
    copy_tensors,
    list_discrete,
)
from theria_lint.worker.find_call.choose_arguments import (
    QKV,
    assign_roles,
    choose_arguments,
    fix_arguments,
    list_free_parameters,
    list_optional_parameters,
    looks_like_tensor,
    read_enums,
)
from theria_lint.worker.find_call.module_calls import list_module_strategies
from theria_lint.worker.find_call.module_inputs import FEATURE_AXES
from theria_lint.worker.find_call.opened_target import find_owner, open_record
from theria_lint.worker.find_call.prepared_module import turn_attributes
from theria_lint.worker.find_call.run_trial import CannotCallError, OutsideGraphError
from theria_lint.worker.find_call.shape_inference import WEIGHT_NAMES, list_required_parameters, make_shaped_strategy
from theria_lint.worker.find_call.signatures import (
    POSITIONAL,
    Symbols,
    as_a_caller,
    compute_sizes,
    order_by_position,
    read_call_parameters,
    read_forward_parameters,
    read_parameters,
    read_source_text,
    returns_function,
    takes_by_position,
)
from theria_lint.worker.find_call.unset_tensors import list_unset_tensors

ValueTable = tuple[tuple[str, ValueMaker], ...]


def list_strategies(target: Any, kind: TargetKind, fixed: Mapping[str, Any]) -> Iterator[CallStrategy]:
    """The ways to call a target, the likeliest first; ``fixed`` holds arguments that the user has configured.

    Raises:
        TypeError: if the object cannot be called as its kind says.
    """
    home = getattr(target, "__module__", None) or ""
    yield from (replace(strategy, home=home) for strategy in _list_strategies(target, kind, fixed))


def _list_strategies(target: Any, kind: TargetKind, fixed: Mapping[str, Any]) -> Iterator[CallStrategy]:
    if kind is TargetKind.MODULE:
        yield from list_module_strategies(target, fixed)
    elif kind is TargetKind.AUTOGRAD_FUNCTION:
        yield make_function_strategy(target.apply, read_forward_parameters(target), fixed, positional=True)
    elif kind is TargetKind.WRAPPER and not attention_names.takes_qkv(list(read_parameters(target))):
        yield CallStrategy(lambda spec, choice: make_wrapped_call(target, spec, fixed), ())
    elif inspect.isclass(target):
        yield make_object_strategy(target, fixed, "__call__")
    elif returns_function(target) and not attention_names.takes_qkv(list(read_parameters(target))):
        yield make_returned_strategy(target, fixed)
    elif (owner := find_owner(target)) is not None:
        yield make_object_strategy(owner, fixed, target.__name__)
    elif (opened := open_record(target)) is not None:
        yield make_function_strategy(opened, read_call_parameters(opened), fixed, positional=False)
    elif takes_any_tensors(target):
        yield make_shaped_strategy(target, read_call_parameters(target), fixed)
    else:
        yield make_function_strategy(target, read_call_parameters(target), fixed, positional=False)


def takes_any_tensors(target: Any) -> bool:
    """Whether a function takes other tensors than q, k and v: not these by name, nor three that could be these."""
    parameters = read_parameters(target)
    if attention_names.takes_qkv(list(parameters)) or attention_names.takes_packed(list(parameters)):
        return False
    names = list_required_parameters(parameters)
    telling = any(is_graph(name) or WEIGHT_NAMES.search(name) for name in names)
    return telling or (len(names) != len(QKV) and bool(names))


def list_layouts(kind: TargetKind) -> Sequence[str]:
    """The layouts to try: modules mostly take (B,T,C), functions (B,H,T,D)."""
    return tuple(FEATURE_AXES) if kind is TargetKind.MODULE else ("bhtd", "bthd", "btd", "td")


def find_adapter(target: Any, symbol: str, files: Iterable[str]) -> Callable[..., Any] | None:
    """The adapter for a target among the adapter files, which are imported anew; None where none names it.

    Raises:
        CannotCallError: if a file cannot be imported.
    """
    testing.ADAPTERS.clear()
    for file in files:
        try:
            importer.import_file(file)
        except Exception as error:
            told = describe_error(error)
            line = _find_line(file, [(f.filename, f.lineno or 0) for f in extract_tb(error.__traceback__)])
            reason = Reason(ReasonCode.ADAPTER_FAILS, {"file": os.path.basename(file), "line": line, **told})
            raise CannotCallError(reason, f"{told['kind']}: {told['message']}") from None
    return testing.ADAPTERS.get(format_target_name(target, symbol)) or testing.ADAPTERS.get(symbol)


def has_adapter(target: Any, symbol: str) -> bool:
    """Whether the user wrote how to call a target; `find_adapter` has looked for it."""
    return not testing.ADAPTERS.keys().isdisjoint((format_target_name(target, symbol), symbol))


def format_target_name(target: Any, symbol: str) -> str:
    """``package.module:symbol``, as the configuration and an adapter name the target."""
    module = getattr(target, "__module__", None) or ""
    return f"{module.removeprefix(LINTED_PREFIX)}:{symbol}"


def _find_line(file: str, lines: Iterable[tuple[str, int]]) -> int | None:
    """The last line of a file among the files and lines of some frames, the outermost first."""
    return next(
        (line for name, line in reversed(list(lines)) if os.path.realpath(name) == os.path.realpath(file)), None
    )


def explain_adapter_failure(adapter: Callable[..., Any], error: CannotCallError) -> Reason:
    """That the user's own way to call a target does not work, and where it stands."""
    code = inspect.unwrap(adapter).__code__
    line = _find_line(code.co_filename, error.trial.lines if error.trial else ()) or code.co_firstlineno
    told = {"file": os.path.basename(code.co_filename), "line": line, "reason": error.reason}
    return Reason(ReasonCode.ADAPTER_UNFIT, told)


def explain_no_call(target: Any, symbol: str, error: CannotCallError, *, turned: bool) -> Reason:
    """That no way to call a target worked, and what it takes to say how to, unless that is known but for a flag."""
    if error.reason.code in (ReasonCode.ADAPTER_FAILS, ReasonCode.ADAPTER_UNFIT):
        return error.reason
    named = None if turned or isinstance(error, OutsideGraphError) else format_target_name(target, symbol)
    told = {
        "reason": error.reason,
        "target": named,
        "guessed": list(error.guessed),
        "values": _list_guessed_values(target, error),
        "is_class": inspect.isclass(target),
        "has_layout": _may_have_layout(target),
    }
    return Reason(ReasonCode.NOT_CALLABLE, told)


def _list_guessed_values(target: Any, error: CannotCallError) -> dict[str, Any]:
    """Of the guessed values those that a configuration can hold: numbers, truth values, texts."""
    if error.trial is None or error.complaint.startswith(AttributeError.__name__):  # it wants an object
        return {}
    spec, choice = error.trial.spec, {**error.trial.strategy.choice, **error.trial.spec.choice}
    found: dict[str, Any] = {}
    for prefix, parameters, table in _list_signatures(target):
        for name in error.guessed:
            if name in parameters and name not in found:
                values = list_candidates(parameters[name], spec, table)
                found[name] = values[min(choice.get(prefix + name, 0), len(values) - 1)]
    return {name: value for name, value in found.items() if isinstance(value, bool | int | float | str)}


def _list_signatures(target: Any) -> Iterator[tuple[str, Mapping[str, inspect.Parameter], ValueTable]]:
    """The signatures that a call fills: what stands before a choice in it, and where its values are from."""
    if not inspect.isclass(target):
        function = target.forward if hasattr(target, "forward") and hasattr(target, "apply") else target
        yield "", read_call_parameters(function), CALL_VALUES
        return
    yield CONSTRUCTOR_PREFIX, read_parameters(target.__init__), CONSTRUCTOR_VALUES
    yield "", read_parameters(target.forward if hasattr(target, "forward") else target.__call__), CALL_VALUES


def _may_have_layout(target: Any) -> bool:
    """Whether the order of axes may be what is not known of a target: it takes q, k and v, and no graph."""
    if inspect.isclass(target):
        return False
    try:
        names = list(read_parameters(target))
    except (TypeError, ValueError):
        return False
    return attention_names.takes_qkv(names) and not any(map(is_graph, names))


_SHARING = re.compile(
    r"repeat_interleave|repeat_kv|n_rep|gqa|mqa|kv_?head|heads?_kv|group|\bh_?kv\b|multi_?query", re.I
)
"""What the text of a function has in it whose queries share keys."""


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
        raise CodedError(ReasonCode.NOT_A_FUNCTION, kind=type(wrapped).__name__)
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
    takes_varlen = any(map(is_varlen_argument, free)) or bool(
        list_varlen_parameters({name: parameters[name] for name in optional})
    )
    shares_keys = _SHARING.search(read_source_text(getattr(function, "__self__", function))) is not None
    return CallStrategy(
        make,
        free,
        optional,
        tensors=tensors,
        unset=list_unset_tensors(parameters, fixed),
        takes_varlen=takes_varlen,
        shares_keys=shares_keys,
    )


def make_returned_strategy(maker: Callable[..., Any], fixed: Mapping[str, Any]) -> CallStrategy:
    """The way to call what a function returns: a function of q, k and v."""
    parameters = read_parameters(maker)

    def make(spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        turned = read_enums(spec.list_turned(), parameters)
        made = maker(**choose_arguments(parameters, spec, CONSTRUCTOR_VALUES, choice, {**fixed, **turned}))
        if not callable(made):
            raise CodedError(ReasonCode.NOT_A_FUNCTION, kind=type(made).__name__)
        return bind_qkv_function(made, read_parameters(made), spec, {}, fixed, positional=False)

    return CallStrategy(make, list_free_parameters(parameters, fixed), list_optional_parameters(parameters, fixed))


def make_object_strategy(cls: Any, fixed: Mapping[str, Any], method: str) -> CallStrategy:
    """The way to build an object that is no module, and to call it or a method of it as a function of q, k, v."""
    build = dict(list(read_parameters(cls.__init__).items())[1:]) if cls.__init__ is not object.__init__ else {}
    called = dict(list(read_parameters(getattr(cls, method)).items())[1:])

    def make(spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        built = {
            name.removeprefix(CONSTRUCTOR_PREFIX): index
            for name, index in choice.items()
            if name.startswith(CONSTRUCTOR_PREFIX)
        }
        turned = read_enums(spec.list_turned(CONSTRUCTOR_PREFIX), build)
        made = cls(**choose_arguments(build, spec, CONSTRUCTOR_VALUES, built, {**fixed, **turned}))
        turn_attributes(made, spec)
        return bind_qkv_function(getattr(made, method), called, spec, choice, fixed, positional=False)

    free = tuple(f"{CONSTRUCTOR_PREFIX}{name}" for name in list_free_parameters(build, fixed)) + list_free_parameters(
        called, fixed
    )
    optional = tuple(f"{CONSTRUCTOR_PREFIX}{name}" for name in list_optional_parameters(build, fixed))
    optional += list_optional_parameters(called, fixed)
    return CallStrategy(make, free, optional, unset=list_unset_tensors(called, fixed))


def bind_qkv_function(
    function: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    spec: TrialSpec,
    choice: Mapping[str, int],
    fixed: Mapping[str, Any],
    *,
    positional: bool,
) -> BoundCall:
    """Bind a function of q, k, v, packed or not."""
    roles = assign_roles(parameters)
    tensors = spec.make_qkv()
    further = _find_further_inputs(parameters, roles)
    rest = {name: p for name, p in parameters.items() if name not in roles and name not in further}
    if not roles and any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values()):
        return BoundCall(function, tensors, compute_expected_shape(tensors), spec.layout)
    if not roles:
        raise CodedError(ReasonCode.NO_QKV_PARAMETERS)
    arguments = {
        **_fill_varlen_arguments(rest, spec, choice),
        **choose_arguments(rest, spec, CALL_VALUES, choice, fix_arguments(fixed, spec, rest)),
    }
    inputs = {
        role: _make_combined_input(role, tensors, spec, spec.text_shapes.get(name, ())) for name, role in roles.items()
    }
    inputs |= {name: spec.draw_tensor(name, tuple(tensors[role].shape)) for name, role in further.items()}

    def bound(*values: Tensor, **others: Tensor) -> Any:
        by_name = {**copy_tensors(arguments), **others, **dict(zip((*roles, *further), values, strict=True))}
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


def _fill_varlen_arguments(
    parameters: Mapping[str, inspect.Parameter], spec: TrialSpec, choice: Mapping[str, int]
) -> dict[str, Any]:
    """What says where packed sequences end, of the arguments that have a default."""
    names = list_varlen_parameters(parameters) if spec.packed else []
    return {name: list_candidates(parameters[name], spec, CALL_VALUES)[0] for name in names if not choice.get(name)}


def _make_combined_input(role: str, tensors: Mapping[str, Tensor], spec: TrialSpec, text_shapes: Symbols) -> Tensor:
    """q, k or v; or qkv or kv in one tensor: (B,T,3,H,D) or (B,T,3C), or as the text says."""
    if role in tensors:
        return tensors[role]
    like, count = tensors["q" if role == "qkv" else "k"], 3 if role == "qkv" else 2
    sizes = list(like.shape)
    if str(count) in text_shapes:
        sizes = list(compute_sizes(text_shapes, spec.spread))
    elif (layout := spec.layout if role == "qkv" else key_layout(spec.layout)) in HEADS_AXIS:
        sizes.insert(HEADS_AXIS[layout], count)
    else:
        sizes[-1] *= count
    return spec.draw_tensor(role, tuple(sizes))
