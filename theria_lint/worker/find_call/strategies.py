"""Every kind of target, and how it may want to be called: the likeliest way first."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from theria import testing
from theria_lint.model import TargetKind
from theria_lint.static import attention_names
from theria_lint.worker import importer
from theria_lint.worker.find_call.argument_values import is_graph
from theria_lint.worker.find_call.call_strategy import Way
from theria_lint.worker.find_call.function_calls import forward_parameters, function_way, object_way, wrapped_call
from theria_lint.worker.find_call.module_calls import module_ways
from theria_lint.worker.find_call.module_inputs import FEATURES
from theria_lint.worker.find_call.run_trial import CannotCallError
from theria_lint.worker.find_call.shape_inference import WEIGHTS, required, shaped_way
from theria_lint.worker.find_call.signatures import QKV, parameters_of


def ways(target: Any, kind: TargetKind, fixed: Mapping[str, Any]) -> Iterator[Way]:
    """The ways to call a target, the likeliest first; ``fixed`` holds arguments that the user has configured.

    Raises:
        TypeError: if the object cannot be called as its kind says.
    """
    if kind is TargetKind.MODULE:
        yield from module_ways(target, fixed)
    elif kind is TargetKind.AUTOGRAD_FUNCTION:
        yield function_way(target.apply, forward_parameters(target), fixed, positional=True)
    elif kind is TargetKind.WRAPPER and not attention_names.takes_qkv(list(parameters_of(target))):
        yield Way(lambda scene, choice: wrapped_call(target, scene, fixed), ())
    elif inspect.isclass(target):
        yield object_way(target, fixed)
    elif takes_any_tensors(target):
        yield shaped_way(target, parameters_of(target), fixed)
    else:
        yield function_way(target, parameters_of(target), fixed, positional=False)


def takes_any_tensors(target: Any) -> bool:
    """Whether a function takes other tensors than q, k and v: not these by name, nor three that could be these."""
    parameters = parameters_of(target)
    if attention_names.takes_qkv(list(parameters)) or attention_names.takes_packed(list(parameters)):
        return False
    names = required(parameters)
    telling = any(is_graph(name) or WEIGHTS.search(name) for name in names)
    return telling or (len(names) != len(QKV) and bool(names))


def layouts(kind: TargetKind) -> Sequence[str]:
    """The layouts to try: modules mostly take (B,T,C), functions (B,H,T,D)."""
    return tuple(FEATURES) if kind is TargetKind.MODULE else ("bhtd", "bthd", "btd", "td")


def adapter_of(target: Any, symbol: str, files: Iterable[str]) -> Callable[..., Any] | None:
    """The adapter for a target among the adapter files, which are imported anew; None where none names it.

    Raises:
        CannotCallError: if a file cannot be imported.
    """
    testing.ADAPTERS.clear()
    for file in files:
        try:
            importer.import_file(file)
        except Exception as error:
            reason = f"the adapter file {os.path.basename(file)} could not be imported: {type(error).__name__}: {error}"
            raise CannotCallError(reason) from None
    return testing.ADAPTERS.get(name_of(target, symbol)) or testing.ADAPTERS.get(symbol)


def name_of(target: Any, symbol: str) -> str:
    """``package.module:symbol``, as the configuration and an adapter name the target."""
    module = getattr(target, "__module__", None) or ""
    return f"{module.removeprefix(importer.LINTED)}:{symbol}"


def request_for(target: Any, symbol: str, unknown: Iterable[str]) -> str:
    """The few lines that would tell how to call a target; ``unknown``: the parameters that were guessed."""
    name = name_of(target, symbol)
    kwargs = ", ".join(f"{parameter} = …" for parameter in unknown)
    table = f'target = "{name}"' + (f", kwargs = {{ {kwargs} }}" if kwargs else ', layout = "BTHD"')
    inputs = "x that builds and calls it" if inspect.isclass(target) else "q, k, v that calls it"
    return (
        f"say how: [[tool.theria-lint.targets]] {table}, or, in a file that adapters names, "
        f'@theria.testing.target("{name}") on a function of {inputs}'
    )
