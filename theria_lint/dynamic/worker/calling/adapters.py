"""The user's own functions that call a target as it wants to be called, and how one is asked for."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from typing import Any

from theria import testing
from theria_lint.dynamic.worker import importing
from theria_lint.dynamic.worker.calling.search import CannotCallError


def adapter_of(target: Any, symbol: str, files: Iterable[str]) -> Callable[..., Any] | None:
    """The adapter for a target among the adapter files, which are imported anew; None where none names it.

    Raises:
        CannotCallError: if a file cannot be imported.
    """
    testing.ADAPTERS.clear()
    for file in files:
        try:
            importing.import_file(file)
        except Exception as error:
            reason = f"the adapter file {os.path.basename(file)} could not be imported: {type(error).__name__}: {error}"
            raise CannotCallError(reason) from None
    return testing.ADAPTERS.get(name_of(target, symbol)) or testing.ADAPTERS.get(symbol)


def name_of(target: Any, symbol: str) -> str:
    """``package.module:symbol``, as the configuration and an adapter name the target."""
    module = getattr(target, "__module__", None) or ""
    return f"{module.removeprefix(importing.LINTED)}:{symbol}"


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
