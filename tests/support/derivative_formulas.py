"""Which operators of the installed PyTorch have a backward without a derivative, by its derivative formulas.

``python -m tests.support.derivative_formulas`` prints them: the operators that rule THL014 lists.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

_CALLED = re.compile(r"\b(?:at::)?(\w+?)(?:_symint)?\(")
_NAME = re.compile(r"\w+")
# Keys of an entry that are no formulas.
_NO_FORMULAS = frozenset({"name", "dispatch", "output_differentiability", "result"})


def read_formulas() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """PyTorch's derivative formulas and its operators, as ``torchgen`` ships them."""
    import torchgen

    folder = Path(torchgen.__file__).parent / "packaged"
    texts = [folder / "autograd" / "derivatives.yaml", folder / "ATen" / "native" / "native_functions.yaml"]
    formulas, operators = (yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader) for path in texts)
    return formulas, operators


def list_once_differentiable() -> set[str]:
    """The operators whose gradient is computed by one that refuses to be differentiated."""
    formulas, operators = read_formulas()
    derived: dict[str, list[dict[str, Any]]] = {}
    for entry in formulas:
        derived.setdefault(_get_name(entry["name"]), []).append(entry)
    refusing = {
        name
        for name in map(_get_name, (operator["func"] for operator in operators))
        if "backward" in name and _refuses(name, derived, operators)
    }
    own = {_get_name(operator["func"]) for operator in operators if not _is_composed(operator.get("dispatch"))}
    return {
        name
        for entry in formulas
        if (name := _get_name(entry["name"])) in own
        for formula in _iter_formulas(entry)
        if "GradMode::is_enabled" not in formula and not refusing.isdisjoint(_CALLED.findall(formula))
    }


def _refuses(name: str, derived: dict[str, list[dict[str, Any]]], operators: list[dict[str, Any]]) -> bool:
    """Whether an operator has no derivative by its incoming gradient, and is not composed of others that have one."""
    if name in derived:
        by_gradient = [
            str(text) for entry in derived[name] for key, text in entry.items() if "grad" in key.split(",")[0]
        ]
        return any("not_implemented" in text for text in by_gradient)
    return not any(
        _is_composed(operator.get("dispatch")) for operator in operators if _get_name(operator["func"]) == name
    )


def _is_composed(dispatch: dict[str, str] | None) -> bool:
    """Whether an operator is made of others, which autograd records."""
    return dispatch is None or any("CompositeImplicit" in key for key in dispatch)


def _iter_formulas(entry: dict[str, Any]) -> list[str]:
    """The formulas of what people meet: the others are of nested tensors, and of single devices."""
    groups = [entry, entry.get("dispatch", {}).get("Default", {})]
    return [
        text for group in groups for key, text in group.items() if key not in _NO_FORMULAS and isinstance(text, str)
    ]


def _get_name(signature: str) -> str:
    found = _NAME.match(signature)
    assert found is not None
    return found[0]


if __name__ == "__main__":
    print("\n".join(sorted(list_once_differentiable())))
