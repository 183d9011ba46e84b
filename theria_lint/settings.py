"""Settings of a run: what the command line and the configuration file decide, validated in one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from theria_lint.errors import UserError

DEVICES = ("auto", "cpu", "cuda")
FAIL_ON = ("confirmed", "unconfirmed", "unsafe", "error", "unused-ignore", "none")
FAIL_ON_DEFAULT = ("confirmed", "unconfirmed", "unsafe", "error")
LAYOUTS = ("BHTD", "BTHD", "BTD", "TD", "THD", "HTD", "1THD", "1HTD", "BHTD:BTD", "BTHD:BTD", "BHTD:BGTD", "BTHD:BTGD")
DTYPES = ("float64", "float32", "bfloat16", "float16")
ORACLES = ("reference", "finite differences")
_LONGEST = 7 * 24 * 3600
_MOST_JOBS = 1024
FORMATS = ("text", "concise", "json", "github", "gitlab", "sarif", "junit", "html")


class Settings(NamedTuple):
    """Everything a run needs to know. Paths are absolute; patterns are relative to ``root``.

    ``jobs`` 0 means one per CPU; ``python`` None means: choose one that has torch; ``python_by_project``: it is not the
    user who has named it. ``targets`` holds the tables ``[[tool.theria-lint.targets]]``, each with ``target`` and some
    of `TARGET_KEYS`.
    """

    root: str = "."
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()
    exclude: tuple[str, ...] = ()
    respect_gitignore: bool = True
    rule_paths: tuple[str, ...] = ()
    detach_names: tuple[str, ...] = ()
    confirm: bool = True
    python: str | None = None
    device: str = "auto"
    timeout: float = 30.0
    jobs: int = 0
    fail_on: tuple[str, ...] = FAIL_ON_DEFAULT
    baseline: str | None = None
    cache: bool = True
    cache_dir: str | None = None
    output_format: str = "text"
    targets: tuple[dict[str, Any], ...] = ()
    adapters: tuple[str, ...] = ()
    python_by_project: bool = False


# A reader turns a raw value into the setting, or raises ValueError with what was expected.
Reader = Callable[[Any, str], Any]


def _text(value: Any, root: str) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected a non-empty string")
    return value


def _program(value: Any, root: str) -> str:
    """A program by its name, to be looked up on PATH, or by its path."""
    name = _text(value, root)
    return _path(name, root) if os.path.dirname(name) else name


def _path(value: Any, root: str) -> str:
    return os.path.normpath(os.path.join(root, os.path.expanduser(_text(value, root))))


def _flag(value: Any, root: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _number(value: Any, root: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST:
        raise ValueError(f"expected a number of seconds above 0, {_LONGEST} at most")
    return float(value)


def _count(value: Any, root: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_JOBS:
        raise ValueError(f"expected a whole number up to {_MOST_JOBS}, 0 for one per CPU")
    return value


def _several(reader: Reader) -> Reader:
    def read(value: Any, root: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError("expected a list")
        return tuple(reader(item, root) for item in value)

    return read


def _choice(*choices: str) -> Reader:
    def read(value: Any, root: str) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return read


def _per_file(value: Any, root: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise ValueError("expected a table from a file pattern to a list of rules")
    return tuple((pattern, _several(_text)(rules, root)) for pattern, rules in value.items())


def _arguments(value: Any, root: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("expected a table of keyword arguments")
    return value


def _target(value: Any, root: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("expected a table for each target")
    for key in value:
        if key not in TARGET_KEYS:
            raise ValueError(f"unknown key {key!r}; a target knows {', '.join(TARGET_KEYS)}")
    if "target" not in value:
        raise ValueError('a target needs target = "package.module:symbol"')
    return {key: _nested(key, TARGET_KEYS[key], item, root) for key, item in value.items()}


def _target_name(value: Any, root: str) -> str:
    """``package.module:symbol``; the module may be written as a path, or left out."""
    module, _, symbol = _text(value, root).rpartition(":")
    if not symbol:
        raise ValueError("expected package.module:symbol, path/to/file.py:symbol or symbol")
    module = module.removesuffix(".py").strip("./").replace("\\", "/").replace("/", ".")
    return f"{module}:{symbol}" if module else symbol


def _nested(key: str, reader: Reader, value: Any, root: str) -> Any:
    try:
        return reader(value, root)
    except ValueError as error:
        raise ValueError(f"{key} = {value!r}: {error}") from None


TARGET_KEYS: dict[str, Reader] = {
    "target": _target_name,
    "layout": _choice(*LAYOUTS),
    "kwargs": _arguments,
    "device": _choice(*DEVICES),
    "dtype": _choice(*DTYPES),
    "oracle": _choice(*ORACLES),
    "skip": _flag,
}

# The keys of the configuration, as they are written there.
KEYS: dict[str, Reader] = {
    "select": _several(_text),
    "ignore": _several(_text),
    "per-file-ignores": _per_file,
    "exclude": _several(_text),
    "respect-gitignore": _flag,
    "rule-paths": _several(_path),
    "detach-names": _several(_text),
    "confirm": _flag,
    "python": _program,
    "device": _choice(*DEVICES),
    "timeout": _number,
    "jobs": _count,
    "fail-on": _several(_choice(*FAIL_ON)),
    "baseline": _path,
    "cache": _flag,
    "cache-dir": _path,
    "output-format": _choice(*FORMATS),
    "targets": _several(_target),
    "adapters": _several(_path),
}


def read_values(raw: dict[str, Any], root: str, source: str) -> dict[str, Any]:
    """The fields of ``Settings`` that ``raw`` sets; relative paths count from ``root``.

    Raises UserError that names ``source``, the key, the value and what is valid.
    """
    return {key.replace("-", "_"): _read_value(key, value, root, source) for key, value in raw.items()}


def _read_value(key: str, value: Any, root: str, source: str) -> Any:
    if key not in KEYS:
        raise UserError(f"{source}: unknown key {key!r}; the keys are {', '.join(KEYS)}.")
    try:
        return KEYS[key](value, root)
    except ValueError as error:
        raise UserError(f"{source}: {key} = {value!r}: {error}.") from None


def check_rules(settings: Settings, known: Collection[str], sources: dict[str, str]) -> None:
    """Raise UserError when ``select``, ``ignore`` or ``per-file-ignores`` names no rule (by a prefix of its id)."""
    named = {"select": settings.select, "ignore": settings.ignore}
    named["per-file-ignores"] = tuple(code for _, codes in settings.per_file_ignores for code in codes)
    for key, codes in named.items():
        for code in codes:
            if not any(rule.startswith(code) for rule in known):
                where = sources.get(key, "command line")
                raise UserError(f"{where}: {key}: no rule starts with {code!r}; the rules are {', '.join(known)}.")
