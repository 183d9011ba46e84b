"""Say what an editor shows in its menus, its line of progress and its log."""

from __future__ import annotations

import os

AS_SAVED = "as last saved: "
"""Stands before what was measured of a text that is not what the editor shows now."""

INTERNAL_ERROR = "internal error"


def format_fix_title(rule: str, symbol: str) -> str:
    """The title of a quick fix that writes a verified rewrite."""
    return f"Rewrite {rule} away: {symbol} was measured safe like this"


def format_ignore_title(rule: str) -> str:
    """The title of a quick fix that writes an ignore comment."""
    return f"Ignore {rule} here"


def say_running(path: str) -> str:
    """What the editor shows while a file is run."""
    return f"theria-lint runs {os.path.basename(path)}"


def say_checking(path: str) -> str:
    """What is done with a file, as the log names it where it fails."""
    return f"checking {path}"


def say_failed(what: str, complaint: str) -> str:
    """Something failed, and this was said."""
    return f"{what} failed: {complaint}"


def say_ended(status: int) -> str:
    """How a process ended that said nothing."""
    return f"ended with {status}"


def say_internal_error(error: Exception, what: str = "") -> str:
    """An error of ours, in ``what`` where that is known."""
    if not what:
        return f"{INTERNAL_ERROR}: {error}; please report it."
    return f"{what} failed, an {INTERNAL_ERROR}: {type(error).__name__}: {error}; please report it."
