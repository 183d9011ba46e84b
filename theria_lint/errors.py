"""Exceptions whose message is written for the user."""

from __future__ import annotations


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
