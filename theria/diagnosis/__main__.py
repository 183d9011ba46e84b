"""``python -m theria.diagnosis module:function``: diagnose the model that a function of the user's builds."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from theria.diagnosis import diagnose
from theria.probes.derivatives import first_line


class WrongUseError(Exception):
    """What was named cannot be diagnosed; the message says what to do."""


def build(name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """Call a function ``module:function``; return its model and the arguments to call that with.

    Raises:
        WrongUseError: if there is no such function, it fails, or it returns something else.
    """
    module, _, function = name.partition(":")
    if not function:
        raise WrongUseError(f"{name}: names no function; write package.module:function")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise WrongUseError(f"{module}: cannot be imported: {type(error).__name__}: {first_line(error)}") from None
    for part in function.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise WrongUseError(f"{name}: there is no function {function} in {module}")
    try:
        built = found()
    except Exception as error:
        raise WrongUseError(f"{name}: fails: {type(error).__name__}: {first_line(error)}") from None
    return _split(name, built)


def _split(name: str, built: Any) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    model, inputs = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    if isinstance(model, nn.Module) and inputs is None:
        inputs = getattr(model, "dummy_inputs", None)
    if not isinstance(model, nn.Module) or inputs is None:
        raise WrongUseError(f"{name}: returns no model with its inputs; return (model, inputs), inputs a tuple or dict")
    if isinstance(inputs, Mapping):
        return model, (), dict(inputs)
    return model, tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,), {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the diagnosis; return 0 if the model is safe, 1 if it is not, 2 if there is none."""
    parser = argparse.ArgumentParser(prog="python -m theria.diagnosis")
    parser.add_argument("name", metavar="MODULE:FUNCTION", help="builds the model: returns (model, inputs)")
    parser.add_argument("--output-format", choices=["text", "json"], default="text")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        model, inputs, keywords = build(given.name)
        found = diagnose(model, *inputs, seed=given.seed, **keywords)
    except WrongUseError as error:
        print(f"Error: {error}.", file=sys.stderr)
        return 2
    except Exception as error:
        print(f"Error: {given.name}: the model fails: {type(error).__name__}: {first_line(error)}.", file=sys.stderr)
        return 2
    print(json.dumps(found.to_json(), indent=2) if given.output_format == "json" else found)
    return 0 if found.safe else 1


if __name__ == "__main__":
    sys.exit(main())
