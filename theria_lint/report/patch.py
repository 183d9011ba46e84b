"""Turn verified rewrites into line edits and a unified diff."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, diff_bytes, unified_diff
from functools import lru_cache

from theria_lint.errors import ReadError
from theria_lint.model import Disposition, Rewrite
from theria_lint.reasons import Reason
from theria_lint.report.sentences import say
from theria_lint.report.style import escape_unprintable, shown, split_rows
from theria_lint.result import LintReport
from theria_lint.sources.source_text import decode_source, find_encoding, read_bytes, split_keeping_ends


@dataclass(frozen=True, order=True)
class LineEdit:
    """One change to a file: ``lines``, each with its line end, take the place of those from ``line`` (1-based).

    ``end_line`` is exclusive: the edit is an insertion where the two are equal.
    """

    path: str
    line: int
    end_line: int
    lines: tuple[str, ...]


def list_edits(rewrite: Rewrite, sources: Mapping[tuple[str, int | None], str]) -> list[LineEdit]:
    """The changes that turn the files as they were read into those of ``rewrite``, by path and line, none overlapping.

    ``sources`` is ``Report.sources``; line ends there are newlines, whatever the file on the disk has.
    """
    return [edit for path, text in sorted(rewrite.files) for edit in diff_texts(path, sources[path, None], text)]


@lru_cache(maxsize=64)
def diff_texts(path: str, before: str, after: str) -> tuple[LineEdit, ...]:
    """The changes from one text of a file to another, by line, none overlapping; kept, as many findings share one."""
    old, new = split_keeping_ends(before), split_keeping_ends(after)
    edits: list[LineEdit] = []
    at, to = 0, 0
    for line, other in [*_list_anchors(old, new), (len(old), len(new))]:
        edits += _diff_gap(path, old, new, (at, line), (to, other))
        at, to = line, other
    return tuple(edits)


def iter_diff_rows(path: str, before: str, after: str, context: int) -> Iterator[str]:
    """The changes as rows of a unified diff, without line ends, with so many lines around each."""
    old, shift = split_rows(before), 0
    hunks: list[list[LineEdit]] = []
    for edit in diff_texts(path, before, after):
        if hunks and edit.line - hunks[-1][-1].end_line <= 2 * context:
            hunks[-1].append(edit)
        else:
            hunks.append([edit])
    for edits in hunks:
        first = max(1, edits[0].line - context)
        last = min(len(old) - (not old[-1]), edits[-1].end_line - 1 + context)
        grown = sum(len(edit.lines) - (edit.end_line - edit.line) for edit in edits)
        yield f"@@ -{first},{last - first + 1} +{first + shift},{last - first + 1 + grown} @@"
        shift += grown
        at = first
        for edit in edits:
            yield from (f" {row}" for row in old[at - 1 : edit.line - 1])
            yield from (f"-{row}" for row in old[edit.line - 1 : edit.end_line - 1])
            yield from ("+" + line.rstrip("\r\n") for line in edit.lines)
            at = edit.end_line
        yield from (f" {row}" for row in old[at - 1 : last])


# Lines between two anchors up to which the best alignment is looked for: it takes the cube of their number at worst.
_LARGEST_GAP = 200


def _list_anchors(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Lines that each text has once, as far as they follow one another in both: what a reader aligns two texts by."""
    counts, others = Counter(old), Counter(new)
    places = {line: index for index, line in enumerate(new) if others[line] == 1}
    pairs = [(index, places[line]) for index, line in enumerate(old) if counts[line] == 1 and line in places]
    # The longest run that rises in both, by patience: of each length the end that leaves most room.
    ends: list[int] = []
    last: list[int] = []
    before: list[int | None] = []
    for number, (_, other) in enumerate(pairs):
        length = bisect_left(ends, other)
        ends[length : length + 1] = [other]
        last[length : length + 1] = [number]
        before.append(last[length - 1] if length else None)
    found: list[tuple[int, int]] = []
    step = last[-1] if last else None
    while step is not None:
        found.append(pairs[step])
        step = before[step]
    return found[::-1]


def _diff_gap(
    path: str, old: Sequence[str], new: Sequence[str], lines: tuple[int, int], others: tuple[int, int]
) -> Iterator[LineEdit]:
    """The changes between two anchors: the best, line by line where too many lines are alike, or all of it."""
    (first, last), (start, end) = lines, others
    while first < last and start < end and old[first] == new[start]:
        first, start = first + 1, start + 1
    while first < last and start < end and old[last - 1] == new[end - 1]:
        last, end = last - 1, end - 1
    here, there = old[first:last], new[start:end]
    if max(len(here), len(there)) <= _LARGEST_GAP:
        for tag, at, to, since, until in SequenceMatcher(None, here, there, autojunk=False).get_opcodes():
            if tag != "equal":
                yield LineEdit(path, first + at + 1, first + to + 1, tuple(there[since:until]))
    elif len(here) == len(there):
        for number, (line, other) in enumerate(zip(here, there, strict=True), first + 1):
            if line != other:
                yield LineEdit(path, number, number + 1, (other,))
    else:
        yield LineEdit(path, first + 1, last + 1, tuple(there))


# What source text may well hold, and nothing acts on.
_HARMLESS = dict.fromkeys(map(ord, "\t\f"), " ")
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


def make_patch(report: LintReport) -> tuple[bytes, list[str]]:
    """The patch, and a sentence for each rewrite that it had to leave out.

    Each distinct rewrite is in it once. They follow each other: one that shares lines with those before it adds what
    is still missing, and one that contradicts them is left out.
    """
    done: set[LineEdit] = set()
    parts: list[bytes] = []
    left_out: list[str] = []
    for rewrite in list_distinct_rewrites(report):
        wanted = {part for edit in list_edits(rewrite, report.sources) for part in split_edit(edit)}
        refusal = _find_refusal(wanted - done, done, report)
        part = b"" if refusal or wanted <= done else _part(rewrite, done, done | wanted)
        if _acts(part):
            refusal = "its lines would act on a terminal or a CI service; --output-format json has them"
        if refusal:
            left_out.append(f"The rewrite that makes {rewrite.symbol} safe is left out: {refusal}.")
        elif part:
            parts.append(part)
            done |= wanted
    return b"".join(parts), left_out


def count_rewrites(report: LintReport) -> str:
    """How many confirmed findings a patch mends, in one sentence."""
    confirmed = [finding for finding in report.findings if finding.disposition is Disposition.CONFIRMED]
    mended = sum(finding.rewrite is not None for finding in confirmed)
    return f"{mended} of {len(confirmed)} confirmed findings have a rewrite that was verified; no file was changed."


def _part(rewrite: Rewrite, before: set[LineEdit], after: set[LineEdit]) -> bytes:
    head = f"With this change {rewrite.symbol} was run, and is safe.\n".encode("utf-8", "backslashreplace")
    return head + b"".join(_diff_file(path, before, after) for path, _ in sorted(rewrite.files))


def _acts(part: bytes) -> bool:
    """Whether anything but a patch program would act on a part: it cannot hold escapes, as other formats do."""
    lines = part.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    return any(line != shown(line) for line in (line.translate(_HARMLESS) for line in lines))


def list_distinct_rewrites(report: LintReport) -> list[Rewrite]:
    """Rewrites that differ in what they change, the larger ones first."""
    found: dict[object, Rewrite] = {}
    for finding in report.findings:
        if finding.rewrite:
            found.setdefault(finding.rewrite.files, finding.rewrite)
    return sorted(found.values(), key=lambda rewrite: -len(list_edits(rewrite, report.sources)))


def split_edit(edit: LineEdit) -> Iterator[LineEdit]:
    """Lines that go, or are replaced one by one, as an edit each: so that rewrites can share some of them."""
    count = edit.end_line - edit.line
    if edit.lines and len(edit.lines) != count:
        yield edit
    else:
        for step in range(count):
            yield LineEdit(edit.path, edit.line + step, edit.line + step + 1, edit.lines[step : step + 1])


def _find_refusal(new: set[LineEdit], done: set[LineEdit], report: LintReport) -> str | None:
    """Why edits cannot be made after those that are done."""
    if refusal := find_conflict(new, done):
        return refusal
    for path in sorted({edit.path for edit in new}):
        if escape_unprintable(path) != path:
            return f"no patch can hold the name {path}"
        if refusal := find_change(path, report, (edit for edit in new if edit.path == path)):
            return refusal
    return None


def find_conflict(new: set[LineEdit], done: set[LineEdit]) -> str | None:
    """Why edits cannot be made beside those that are done; None if they can."""
    if any(_is_conflicting(one, other) for one in new for other in done):
        return "it changes lines that another one changes; apply that first and lint again"
    return None


def find_change(path: str, report: LintReport, new: Iterable[LineEdit] = ()) -> str | None:
    """Why edits of a report do not fit a file as it is now; None if they do."""
    try:
        data = read_bytes(path)
        if decode_source(data) != report.sources[path, None]:
            return f"{path} has changed since it was read"
    except ReadError as error:
        return f"{path} {say(Reason(error.code, error.data))}"
    if b"\r" in data.replace(b"\r\n", b"\n"):
        return f"{path} has lines that end in a carriage return alone"
    if not _is_read_by_line(data, report.sources[path, None], new):
        return f"{path} is in an encoding in which no line can be changed by itself"
    return None


def _is_read_by_line(data: bytes, text: str, new: Iterable[LineEdit]) -> bool:
    """Whether each line of a file is by itself that line of its text, and new ones can be written so.

    UTF-7 and its like have other ways to end a line, or mean by a line what those before it say.
    """
    _, encoding, found = _split_bytes(data)
    try:
        lines = [line.decode(encoding) for line in found]
        if [line.encode(encoding) for line in lines] != found:
            return False
        if any(line.encode(encoding).decode(encoding) != line for edit in new for line in edit.lines):
            return False
    except UnicodeError:
        return False
    return [line.replace("\r\n", "\n") for line in lines] == split_keeping_ends(text)


def _split_bytes(data: bytes) -> tuple[bytes, str, list[bytes]]:
    """The byte order mark of a file, its encoding, and its lines."""
    mark = BOM_UTF8 if data.startswith(BOM_UTF8) else b""
    return mark, "utf-8" if mark else find_encoding(data), _LINE.findall(data.removeprefix(mark))


def _is_conflicting(one: LineEdit, other: LineEdit) -> bool:
    if one.path != other.path:
        return False
    return one.line == other.line or (one.line < other.end_line and other.line < one.end_line)


def _diff_file(path: str, before: set[LineEdit], after: set[LineEdit]) -> bytes:
    """The unified diff of a file with some edits made and with more."""
    data = read_bytes(path)
    name = os.fsencode(path)
    end = b"\t" if b" " in name else b""
    rows = diff_bytes(
        unified_diff,
        apply_edits(path, data, before),
        apply_edits(path, data, after),
        b"a/" + name + end,
        b"b/" + name + end,
    )
    return b"".join(row if row.endswith(b"\n") else row + b"\n\\ No newline at end of file\n" for row in rows)


def apply_edits(path: str, data: bytes, made: set[LineEdit]) -> list[bytes]:
    """The lines of a file in its own encoding, each with the line end of the one in whose place it stands."""
    mark, encoding, lines = _split_bytes(data)
    for edit in sorted((edit for edit in made if edit.path == path), reverse=True):
        near = b"".join(lines[edit.line - 1 : edit.line] or lines[-1:])
        end = "\r\n" if near.endswith(b"\r\n") or (not near.endswith(b"\n") and b"\r\n" in data) else "\n"
        new = [line.replace("\n", end).encode(encoding) for line in edit.lines]
        lines[edit.line - 1 : edit.end_line - 1] = new
    return [mark + lines[0], *lines[1:]] if lines else lines
