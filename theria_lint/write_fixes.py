"""Write the rewrites that were seen to make a target safe, where they can be taken back: what ``--fix`` does.

A file is written only where it lies in what the user has named, on no way through a link, is as it was when it was
read, and git has a copy of it in its last commit, or a backup beside it is asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Collection, Sequence
from functools import cache
from shlex import quote

from theria_lint.errors import ReadError, UserError
from theria_lint.report.command_messages import (
    CHANGED_SINCE,
    NO_REWRITE,
    NOT_READ_AGAIN,
    NOT_VALID,
    refuse_protected,
    refuse_second_backup,
    refuse_silenced,
    refuse_uncommitted,
    refuse_unnamed,
    refuse_unreadable,
    say_left_alone,
    say_rewrite_left_out,
    say_rewritten,
)
from theria_lint.report.patch import (
    LineEdit,
    apply_edits,
    find_change,
    find_conflict,
    list_distinct_rewrites,
    list_edits,
    split_edit,
)
from theria_lint.result import LintReport
from theria_lint.sources.atomic_write import copy_beside, write_bytes
from theria_lint.sources.source_text import decode_source, is_valid_python, read_bytes

BACKUP_SUFFIX = ".orig"
_GIT_SECONDS = 20
# What git would take for a pattern, and restore other files too.
_MAGIC = re.compile(r"[*?\[\\]|^:")


def write_fixes(report: LintReport, paths: Sequence[str], backup: bool, tell: Callable[[str], None]) -> int:
    """Write the verified rewrites of a report to the files that ``paths`` name, one after the other.

    Rewrites that share lines are written as one; of two that contradict each other the first. ``tell`` is told of each
    file that is written or left alone, at once. Returns how many are written.
    """

    @cache
    def find_refusal(path: str) -> str | None:
        return _find_refusal(path, report, paths, backup)

    accepted, left_out = _choose_edits(report, find_refusal)
    for sentence in left_out:
        tell(sentence)
    written = 0
    for path in sorted({edit.path for edit in accepted}):
        try:
            refusal = _write_file(path, report, accepted, backup)
        except (ReadError, UserError) as error:
            refusal = str(error).removesuffix(".") if isinstance(error, UserError) else NOT_READ_AGAIN
        if refusal:
            tell(say_left_alone(path, refusal))
        else:
            written += 1
            tell(say_rewritten(path, _tell_undo(path, backup)))
    if not accepted and not left_out:
        tell(NO_REWRITE)
    return written


def _tell_undo(path: str, backup: bool) -> str:
    """The command that takes a rewrite back, and does nothing else, whatever the file is called."""
    if backup:
        return " ".join(map(quote, ["mv", *(["--"] if path.startswith("-") else ()), path + BACKUP_SUFFIX, path]))
    folder, name = os.path.split(path)
    words = ["git", *(["-C", folder] if folder else ()), *(["--literal-pathspecs"] if _MAGIC.search(name) else ())]
    return " ".join(map(quote, [*words, "restore", "--source", "HEAD", "--", name]))


def _choose_edits(report: LintReport, find_refusal: Callable[[str], str | None]) -> tuple[set[LineEdit], list[str]]:
    """The edits that can be made together, and a sentence for each rewrite that is left out."""
    accepted: set[LineEdit] = set()
    said: list[str] = []
    for rewrite in list_distinct_rewrites(report):
        wanted = {part for edit in list_edits(rewrite, report.sources) for part in split_edit(edit)}
        new = wanted - accepted
        refusals = (
            find_refusal(path) or find_change(path, report, (edit for edit in new if edit.path == path))
            for path, _ in sorted(rewrite.files)
        )
        refusal = find_conflict(new, accepted) or _find_silenced(new, report) or next(filter(None, refusals), None)
        if refusal:
            said.append(say_rewrite_left_out(rewrite.symbol, refusal))
        else:
            accepted |= wanted
    return accepted, said


def _find_silenced(new: Collection[LineEdit], report: LintReport) -> str | None:
    """Why edits are not made that mend more than was reported: somebody wants those lines as they are."""
    for finding in report.silenced:
        path, span = finding.suspect.path, finding.suspect.span
        if any(edit.path == path and edit.line <= span.end_line and span.line < edit.end_line for edit in new):
            return refuse_silenced(span.line, path, finding.suspect.rule)
    return None


def _find_refusal(path: str, report: LintReport, paths: Sequence[str], backup: bool) -> str | None:
    """Why a file is not to be written; None if it may be."""
    if path not in report.linted or not any(_is_named(path, named) for named in paths):
        return refuse_unnamed(path)
    if refusal := find_change(path, report):
        return refusal
    try:
        if not os.stat(path).st_mode & 0o222:
            return refuse_protected(path)
        if backup:
            kept = path + BACKUP_SUFFIX
            return refuse_second_backup(kept) if os.path.lexists(kept) else None
        if not _is_in_git(path, read_bytes(path)):
            return refuse_uncommitted(path)
    except OSError as error:
        return refuse_unreadable(path, error.strerror or str(error))
    except ReadError:
        return refuse_unreadable(path)
    return None


def _is_named(path: str, named: str) -> bool:
    """Whether a file is what the user has named, or lies in it, with no link below that."""
    if os.path.isdir(named):
        below = os.path.relpath(os.path.abspath(path), os.path.abspath(named))
        return os.path.realpath(path) == os.path.join(os.path.realpath(named), below)
    folder, name = os.path.split(os.path.abspath(named))
    return os.path.abspath(path) == os.path.join(folder, name) and not os.path.islink(path)


def _find_git() -> str | None:
    """git by its whole path, which none of what is linted can stand for.

    By its bare name it would be looked for in the working directory: on Windows always, elsewhere where PATH has a
    relative entry.
    """
    name = "git.exe" if os.name == "nt" else "git"
    places = (os.path.join(folder, name) for folder in os.get_exec_path() if os.path.isabs(folder))
    return next((place for place in places if os.access(place, os.X_OK) and os.path.isfile(place)), None)


def _is_in_git(path: str, data: bytes) -> bool:
    """Whether the last commit has these very bytes for a file.

    It is asked for the name and size of what it keeps, which runs neither filters nor hooks of the repository, and it
    fetches nothing: what it would run for that, too, the repository says.
    """
    folder, name = os.path.split(os.path.abspath(path))
    git = _find_git()
    if git is None:
        return False
    command = [git, "--no-pager", "--literal-pathspecs", "-c", "core.fsmonitor=false"]
    # A folder of the project that is made like a repository without a work tree is none that can restore a file.
    command += ["-c", "safe.bareRepository=explicit", "ls-tree", "-lz", "HEAD"]
    environment = os.environ | {
        "GIT_ALLOW_PROTOCOL": "none",  # git before 2.44 knows no other way to fetch nothing
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }
    try:
        done = subprocess.run(
            [*command, "--", name], cwd=folder, env=environment, capture_output=True, check=False, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    fields = done.stdout.partition(b"\t")[0].split()
    if done.returncode or len(fields) != 4 or not fields[0].startswith(b"100") or fields[3] != b"%d" % len(data):
        return False
    blob = b"blob %d\0" % len(data) + data
    digest = hashlib.sha1 if len(fields[2]) == 40 else hashlib.sha256
    return digest(blob, usedforsecurity=False).hexdigest().encode() == fields[2]


def _write_file(path: str, report: LintReport, accepted: set[LineEdit], backup: bool) -> str | None:
    """Write the edits to a file; returns why they are not written. Raises UserError."""
    before = read_bytes(path)
    if decode_source(before) != report.sources[path, None]:
        return CHANGED_SINCE
    after = b"".join(apply_edits(path, before, accepted))
    if not is_valid_python(decode_source(after)):
        return NOT_VALID
    if backup:
        _keep_backup(path, before)
    write_bytes(path, after)
    return None


def _keep_backup(path: str, data: bytes) -> None:
    """Write a copy of a file beside it, where nothing is yet, for the same readers. Raises UserError."""
    kept = path + BACKUP_SUFFIX
    try:
        copy_beside(path, kept, data)
    except OSError as error:
        raise UserError(f"{kept}: no backup can be written, so {path} is not: {error.strerror or error}.") from None
