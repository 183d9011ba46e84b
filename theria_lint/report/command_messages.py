"""Say what commands have done: what was recorded, measured in tests, removed, and written by ``--fix``.

Of ``theria-lint server`` it is what an editor shows in its menus, its line of progress and its log.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from theria_lint.reasons import Reason
from theria_lint.report.sentences import say
from theria_lint.report.style import format_count

_SHOWN = 5
"""How many targets that were never called are named."""


def say_kept_calls(calls: int, kept: int, targets: int, folder: str) -> str:
    """How many calls are kept, of how many targets."""
    return f"theria-lint: kept {calls} calls of {kept} of {targets} attention targets in {folder}"


def say_lost_call(symbol: str, path: str, why: Reason) -> str:
    """A call of a target could not be kept."""
    return f"note: a call of {symbol} in {path} is not kept: {say(why)}"


def say_never_called(names: Sequence[str]) -> str:
    """Targets that no call was seen of."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"note: never called: {', '.join(names[:_SHOWN])}{more}"


NOTHING_RECORDED = "no test called attention that could be recorded"
MEASURED_IN_TESTS = "second order"


def say_nothing_measured(complaints: str) -> str:
    """The linter that was to measure what tests call has given no report."""
    last = complaints.strip().splitlines()[-1:] or ["no report"]
    return f"nothing was measured: {last[0]}"


def describe_tested_target(target: Mapping[str, Any], name: str, caller: str, *, allowed: bool) -> str:
    """A target of the JSON report that a test calls; ``allowed``: it need not be safe."""
    allowance = " (allowed)" if allowed else ""
    return f"{target['verdict']}{allowance}  {name}  by {caller}: {target['reason']}"


def say_foreign_cache(folder: str) -> str:
    """A folder of results is not known to be one."""
    return f"{folder}: does not bear theria-lint's mark; nothing is removed."


def list_removed(folder: str, entries: int, size: int, left: int) -> list[str]:
    """What was removed of the results that were kept, and what was not."""
    if not entries and not left:
        return [f"{folder}: no results are kept there."]
    told = [f"{folder}: removed {format_count(entries, 'result')}, {size / 1e6:.1f} MB."]
    if left:
        told.append(f"{folder}: left {format_count(left, 'file')} that theria-lint cannot prove to have written.")
    return told


NO_REWRITE = "No rewrite was verified; nothing is written."
CHANGED_SINCE = "it has changed since it was read"
NOT_READ_AGAIN = "it can no longer be read"
NOT_VALID = "the rewrites together are no valid Python; --diff shows them one by one"


def say_left_alone(path: str, refusal: str) -> str:
    """A file is not written, and why."""
    return f"{path} is left alone: {refusal}."


def say_rewritten(path: str, undo: str) -> str:
    """A file is written, and the command that takes that back."""
    return f"{path} is rewritten; {undo} takes it back."


def say_rewrite_left_out(symbol: str, refusal: str) -> str:
    """The rewrite of a target is not written, and why."""
    return f"The rewrite that makes {symbol} safe is not written: {refusal}."


def refuse_silenced(line: int, path: str, rule: str) -> str:
    """Somebody wants a line as it is."""
    return f"it changes line {line} of {path} too, where {rule} is left out of the report"


def refuse_unnamed(path: str) -> str:
    """A file is none of those that may be written."""
    return f"{path} is not in what was named, left out, or behind a link; name that file itself"


def refuse_protected(path: str) -> str:
    """A file may not be written."""
    return f"{path} is write-protected"


def refuse_second_backup(kept: str) -> str:
    """There is a backup already."""
    return f"{kept} is there already; move it away"


def refuse_uncommitted(path: str) -> str:
    """Git could not restore a file."""
    return f"git's last commit has no copy of {path} as it is; commit it, or keep one beside it with --backup"


def refuse_unreadable(path: str, complaint: str = "") -> str:
    """A file cannot be read again."""
    return f"{path}: {complaint}" if complaint else f"{path} can no longer be read"


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
