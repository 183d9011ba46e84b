"""Yield call strategies for a target, most likely first; find its adapter; explain where none works."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from traceback import extract_tb
from typing import Any

from theria import testing
from theria_lint.calls.call_file import LINTED_PREFIX
from theria_lint.model import TargetKind
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.static import attention_names
from theria_lint.worker import importer
from theria_lint.worker.failure_messages import describe_error
from theria_lint.worker.find_call.argument_values import (
    CALL_VALUES,
    CONSTRUCTOR_VALUES,
    ValueMaker,
    is_graph,
    list_candidates,
)
from theria_lint.worker.find_call.call_strategy import CallStrategy
from theria_lint.worker.find_call.function_calls import (
    make_function_strategy,
    make_object_strategy,
    make_wrapped_call,
    read_forward_parameters,
)
from theria_lint.worker.find_call.introspection import read_call_parameters, read_parameters
from theria_lint.worker.find_call.module_calls import list_module_strategies
from theria_lint.worker.find_call.module_inputs import FEATURE_AXES
from theria_lint.worker.find_call.run_trial import CannotCallError, OutsideGraphError
from theria_lint.worker.find_call.shape_inference import WEIGHT_NAMES, list_required_parameters, make_shaped_strategy
from theria_lint.worker.find_call.signatures import QKV
from theria_lint.worker.find_call.trial_spec import CONSTRUCTOR_PREFIX

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
        yield make_object_strategy(target, fixed)
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
