"""Exceptions whose message is written for the user."""

from __future__ import annotations

from collections.abc import Iterable


def suggest_name(word: str, known: Iterable[str]) -> str:
    """`` (did you mean "x"?)``, where a known name is near to a word; nothing otherwise."""
    from difflib import get_close_matches

    names = {name.lower(): name for name in known}
    found = get_close_matches(word.strip().lower(), names, n=1, cutoff=0.6)
    return f' (did you mean "{names[found[0]]}"?)' if found else ""


class UserError(Exception):
    """What is wrong with the call or the configuration, in one sentence that says what to do: exit code 2."""


class SourceError(Exception):
    """A file that does not parse: ``line`` (1-based, None when unknown) and one sentence."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class RuleError(Exception):
    """A rule file that is wrong: the sentence names the file, the key and the valid choices."""
