"""Exceptions whose message is written for the user."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def suggest_name(word: str, known: Iterable[str]) -> str:
    """`` (did you mean "x"?)``, where a known name is near to a word; nothing otherwise."""
    from difflib import get_close_matches

    names = {name.lower(): name for name in known}
    found = get_close_matches(word.strip().lower(), names, n=1, cutoff=0.6)
    return f' (did you mean "{names[found[0]]}"?)' if found else ""


class FileError(Exception):
    """Something is wrong with a file: a code of `theria_lint.reasons` with its data, which a report puts into words.

    ``line`` (1-based) where one is to blame.
    """

    def __init__(self, code: str, line: int | None = None, **data: Any) -> None:
        super().__init__(code, data)
        self.code = code
        self.line = line
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_error, (type(self), self.code, self.line, self.data)


def _restore_error(kind: type[FileError], code: str, line: int | None, data: dict[str, Any]) -> FileError:
    return kind(code, line, **data)


class ReadError(FileError):
    """A file that cannot be turned into text."""


class SourceError(FileError):
    """A file that does not parse, or that is more than can be checked."""


class UserError(Exception):
    """What is wrong with the call or the configuration, in one sentence that says what to do: exit code 2.

    Where a ``cause`` is wrong with a file, the sentence names the file, and a report has the words for the rest.
    """

    def __init__(self, message: str, cause: FileError | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class RuleError(UserError):
    """A rule file that is wrong: the sentence names the file, the key and the valid choices."""
