"""Checks of data that came from another process: each returns what it was given, or raises NonsenseError."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from theria_lint.reasons import CodedError, ReasonCode

_T = TypeVar("_T")

LONGEST_TEXT = 1 << 16
_LARGEST = 1 << 53
"""The integers up to here are floats, too."""


class NonsenseError(CodedError, ValueError):
    """Data is not what it should be; the reason says in which way."""


def parsed(line: str | bytes) -> Any:
    """The data in a line of JSON."""
    try:
        return json.loads(line)
    except RecursionError:
        raise NonsenseError(ReasonCode.ANSWER_TOO_DEEP) from None
    except ValueError:
        raise NonsenseError(ReasonCode.ANSWER_NOT_JSON) from None


def fields(value: Any, names: Collection[str]) -> dict[str, Any]:
    """A JSON object that has exactly these names."""
    if not isinstance(value, dict) or value.keys() != set(names):
        raise NonsenseError(ReasonCode.ANSWER_WITHOUT, names=sorted(names))
    return value


def text(value: Any, longest: int = LONGEST_TEXT) -> str:
    """A text that is not too long."""
    if not isinstance(value, str):
        raise NonsenseError(ReasonCode.ANSWER_OF_KIND, kind=type(value).__name__, wanted="text")
    if len(value) > longest:
        raise NonsenseError(ReasonCode.ANSWER_TOO_LONG, kind="text", most=longest)
    return value


def words(value: Any) -> str:
    """A text that can be printed: what is no character, as in the name of a file, is replaced."""
    return text(value).encode("utf-8", "replace").decode()


def name(value: Any) -> str:
    """A short text on one line."""
    found = words(text(value, 200))
    if not found.isprintable():
        raise NonsenseError(ReasonCode.ANSWER_OF_KIND, kind="text", wanted="name")
    return found


def optional(check: Callable[[Any], _T]) -> Callable[[Any], _T | None]:
    """Let None pass besides."""
    return lambda value: None if value is None else check(value)


def size(value: Any) -> float:
    """A finite number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NonsenseError(ReasonCode.ANSWER_OF_KIND, kind=type(value).__name__, wanted="number")
    if not 0 <= value <= (_LARGEST if isinstance(value, int) else math.inf) or value == math.inf:
        raise NonsenseError(ReasonCode.ANSWER_OF_KIND, kind="number", wanted="size")
    return value


def number(value: Any) -> float:
    """A finite number of either sign."""
    size(abs(value) if isinstance(value, int | float) and not isinstance(value, bool) else value)
    return value  # type: ignore[no-any-return]


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise NonsenseError(ReasonCode.ANSWER_OF_KIND, kind=type(value).__name__, wanted="boolean")
    return value


def index(value: Any, least: int = 0) -> int:
    """An integer from ``least`` on."""
    if type(value) is not int or not least <= value <= _LARGEST:
        raise NonsenseError(ReasonCode.ANSWER_OF_KIND, kind=type(value).__name__, wanted="index")
    return value


def items(value: Any, check: Callable[[Any], _T], most: int) -> tuple[_T, ...]:
    """A list of things that pass a check, and not too many."""
    if not isinstance(value, list | tuple):
        raise NonsenseError(ReasonCode.ANSWER_OF_KIND, kind=type(value).__name__, wanted="list")
    if len(value) > most:
        raise NonsenseError(ReasonCode.ANSWER_TOO_LONG, kind="list", most=most)
    return tuple(map(check, value))


def table(value: Any, check: Callable[[Any], _T], most: int, key: Callable[[Any], str] = name) -> dict[str, _T]:
    """An object of any names, of which the values pass a check, and not too large."""
    if not isinstance(value, dict):
        raise NonsenseError(ReasonCode.ANSWER_OF_KIND, kind=type(value).__name__, wanted="object")
    if len(value) > most:
        raise NonsenseError(ReasonCode.ANSWER_TOO_LONG, kind="object", most=most)
    return {key(k): check(v) for k, v in value.items()}


def one_of(value: Any, choices: Collection[str]) -> str:
    """One of some texts."""
    if not isinstance(value, str) or value not in choices:
        raise NonsenseError(ReasonCode.ANSWER_UNKNOWN_WORD, known=list(map(str, choices)))
    return value
