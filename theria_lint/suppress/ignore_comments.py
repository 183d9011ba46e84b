"""Ignore comments: ``# theria: ignore[THL002] reason``.

After code, the comment covers the statement on its line (of a compound statement, the header). On a line of its own it
covers the whole statement below, block and decorators included. ``ignore-file`` covers the file, ``ignore-start`` what
stands before the next ``ignore-end``. Brackets name rules, by id or name in any case; without them all are covered.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from theria_lint.model import Disposition, Finding
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report.patch import apply_edits, diff_texts, find_change
from theria_lint.result import LintReport
from theria_lint.sources.atomic_write import write_bytes
from theria_lint.sources.source_text import read_bytes

# No code holds a bracket: what follows one that is not closed is not read again for each that opens in it.
_COMMENT = re.compile(
    r"#\s*theria:\s*ignore(?P<scope>-file|-start|-end)?(?:\s*\[(?P<codes>[^\[\]]*)\])?(?=\s|$)(?!\s*\[)"
)


_NO_LINE = 1 << 40
"""Beyond the last line of any file."""


@dataclass(frozen=True)
class IgnoreComment:
    """A comment on ``line`` that covers suspects starting on lines ``first`` to ``last``; ``codes`` None means all.

    ``scope``: "file" of a whole file, with all the cells of a notebook, "range" of one that has its end, "unclosed" and
    "unopened" where the other half is missing, which cover nothing.
    """

    line: int
    codes: tuple[str, ...] | None
    first: int
    last: int
    scope: str = "statement"

    def covers_suspect(self, rule: str, line: int) -> bool:
        """Whether a suspect of ``rule`` on ``line`` is ignored."""
        return self.first <= line <= self.last and (self.codes is None or rule in self.codes)


def find_ignores(text: str) -> list[IgnoreComment]:
    """The ignore comments of a source text, in order."""
    comments = [(token, found) for token in _iter_comments(text) if (found := _COMMENT.search(token.string))]
    if not comments:
        return []
    extents = _StatementExtents(text)
    ignores: list[IgnoreComment] = []
    opened: list[int] = []  # where the comments are in ``ignores`` that open a range
    for token, found in comments:
        ignore = _make_ignore(token, found, extents)
        if ignore.scope == "unclosed":
            opened.append(len(ignores))
        if ignore.scope == "unopened" and opened:
            start = ignores[opened[-1]]
            ignores[opened.pop()] = replace(start, first=start.line, last=ignore.line, scope="range")
        else:
            ignores.append(ignore)
    return ignores


def resolve_ignores(ignores: Iterable[IgnoreComment], known: Mapping[str, str]) -> list[IgnoreComment]:
    """The comments with ids in the place of the names of rules, and of ids in another case. ``known``: names by id."""
    ids = {name.replace("-", "_"): rule for rule, name in known.items()} | {rule.lower(): rule for rule in known}

    def resolve(code: str) -> str:
        return ids.get(code.lower().replace("-", "_"), code)

    return [
        ignore if ignore.codes is None else replace(ignore, codes=tuple(map(resolve, ignore.codes)))
        for ignore in ignores
    ]


def _iter_comments(text: str) -> Iterator[tokenize.TokenInfo]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield token
    except (tokenize.TokenError, SyntaxError):
        return


class _StatementExtents:
    """From which line to which the statements of a text go; there are none in a text that does not parse.

    Made once a text, however many comments ask: there may be one on every line.
    """

    def __init__(self, text: str) -> None:
        self._rows = text.split("\n")
        self._last: dict[int, int] = {}  # of the longest statement that begins on a line
        self._around: dict[int, tuple[int, int]] = {}  # of the innermost statement or header that a line is in
        found = sorted((_find_extent(node) for node in _list_statements(text)), key=lambda extent: extent[0])
        for first, last, header_last in found:
            self._last[first] = max(last, self._last.get(first, first))
            for line in range(first, header_last + 1):
                if self._around.get(line, (0, 0))[0] < first:
                    self._around[line] = first, header_last

    def find_block_below(self, line: int) -> tuple[int, int]:
        """The statement, block included, that is the next below a line of its own."""
        below = self._code_below[line]
        return below, self._last.get(below, below)

    def find_statement_around(self, line: int) -> tuple[int, int]:
        """The innermost statement that a line is in; of a compound one the header."""
        return self._around.get(line, (line, line))

    @cached_property
    def _code_below(self) -> list[int]:
        """For each line, counted from 0, the first from there on that is no blank and no comment, counted from 1."""
        found = [len(self._rows) + 1] * (len(self._rows) + 1)
        for index in range(len(self._rows) - 1, -1, -1):
            row = self._rows[index].lstrip()
            found[index] = found[index + 1] if not row or row.startswith("#") else index + 1
        return found


def _list_statements(text: str) -> list[ast.stmt]:
    """All statements, the inner after the outer; none for a text that does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]


def _find_extent(node: ast.stmt) -> tuple[int, int, int]:
    """The first line of a statement, its last, and the last of its header."""
    last = node.end_lineno or node.lineno
    body = getattr(node, "body", None)
    return _find_first_line(node), last, max(_find_first_line(body[0]) - 1, node.lineno) if body else last


def _find_first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _make_ignore(token: tokenize.TokenInfo, found: re.Match[str], extents: _StatementExtents) -> IgnoreComment:
    line = token.start[0]
    listed = found["codes"]
    codes = None if listed is None else tuple(code.strip() for code in listed.split(",") if code.strip()) or ("",)
    if found["scope"]:
        scope = {"-file": "file", "-start": "unclosed", "-end": "unopened"}[found["scope"]]
        return IgnoreComment(line, codes, 1 if scope == "file" else line, _NO_LINE if scope == "file" else 0, scope)
    alone = not token.line[: token.start[1]].strip()
    first, last = extents.find_block_below(line) if alone else extents.find_statement_around(line)
    return IgnoreComment(line, codes, first, last)


def select_ignored(findings: Collection[Finding], ignores: Iterable[IgnoreComment]) -> set[Finding]:
    """The findings that some comment covers."""
    lines = _sort_lines(findings)
    covers = {
        (code, ignore.first, ignore.last)
        for ignore in ignores
        for code in (lines if ignore.codes is None else ignore.codes)
    }
    silenced = {(code, line) for code, *extent in covers for line in _list_lines_within(lines.get(code, []), *extent)}
    return {finding for finding in findings if (finding.suspect.rule, finding.suspect.span.line) in silenced}


def iter_complaints(
    findings: Iterable[Finding], ignores: Iterable[IgnoreComment], known: Mapping[str, str]
) -> Iterator[tuple[int, Reason]]:
    """(line, reason) for every comment, or code in one, that covers no suspect. ``known``: the names of rules by id."""
    told = {"known": sorted(known), "names": sorted(known.values())}
    lines = _sort_lines(findings)
    for ignore in ignores:
        if ignore.scope in ("unclosed", "unopened"):
            yield ignore.line, Reason(ReasonCode.IGNORES_HALF, {"half": ignore.scope})
            continue
        for code in ignore.codes if ignore.codes is not None else (None,):
            if code is not None and code not in known:
                yield ignore.line, Reason(ReasonCode.IGNORES_NO_RULE, {"rule": code, **told})
            elif not any(_is_one_within(found, ignore) for rule, found in lines.items() if code in (None, rule)):
                yield ignore.line, Reason(ReasonCode.IGNORES_NOTHING, {"rule": code})


def _sort_lines(findings: Iterable[Finding]) -> dict[str, list[int]]:
    """The lines with suspects of each rule, in order."""
    lines: dict[str, set[int]] = defaultdict(set)
    for finding in findings:
        lines[finding.suspect.rule].add(finding.suspect.span.line)
    return {rule: sorted(found) for rule, found in lines.items()}


def _is_one_within(lines: list[int], ignore: IgnoreComment) -> bool:
    return bisect_left(lines, ignore.first) < bisect_right(lines, ignore.last)


def _list_lines_within(lines: list[int], first: int, last: int) -> list[int]:
    return lines[bisect_left(lines, first) : bisect_right(lines, last)]


_CODES_IN_COMMENT = re.compile(r"(#\s*theria:\s*ignore\s*\[)([^\[\]]*)(\])")


class AddedIgnores(NamedTuple):
    """How many findings of a file have a comment now; the obstacle where none has.

    It is a "notebook", the "meaning" of its code would change, or what `find_change` says.
    """

    path: str
    written: int
    obstacle: str | None = None


def add_ignores(report: LintReport) -> Iterator[AddedIgnores]:
    """Comment every finding that is not cleared, file by file. Raises UserError."""
    by_file: dict[str, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        if finding.disposition is not Disposition.CLEARED:
            by_file[finding.suspect.path].append(finding)
    for path, findings in by_file.items():
        if any(finding.suspect.cell is not None for finding in findings):
            yield AddedIgnores(path, 0, "notebook")
        else:
            yield _add_to_file(path, findings, report)


def _add_to_file(path: str, findings: list[Finding], report: LintReport) -> AddedIgnores:
    text = report.sources[path, None]
    changed = add_comments(text, findings)
    if changed is None:
        return AddedIgnores(path, 0, "meaning")
    edits = set(diff_texts(path, text, changed))
    if refusal := find_change(path, report, edits):
        return AddedIgnores(path, 0, refusal)
    write_bytes(path, b"".join(apply_edits(path, read_bytes(path), edits)))
    return AddedIgnores(path, len(findings))


def add_comments(text: str, findings: Sequence[Finding]) -> str | None:
    """``text`` with an ignore comment for every finding; None if a comment would change what the code does."""
    rows = text.split("\n")
    for line, codes in sorted(_group_codes_by_line(findings).items(), reverse=True):
        _write_comment(rows, line, codes, _can_end_with_comment(text, line))
    changed = "\n".join(rows)
    return changed if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(text)) else None


def _group_codes_by_line(findings: Sequence[Finding]) -> dict[int, set[str]]:
    codes: dict[int, set[str]] = defaultdict(set)
    for finding in findings:
        codes[finding.suspect.span.line].add(finding.suspect.rule)
    return codes


def _write_comment(rows: list[str], line: int, codes: set[str], at_end: bool) -> None:
    """Put the comment at the end of ``line`` (1-based), into the one that is there, or on a line of its own above."""
    row = rows[line - 1]
    present = _CODES_IN_COMMENT.search(row)
    if at_end and present:
        merged = sorted({code.strip() for code in present[2].split(",") if code.strip()} | codes)
        rows[line - 1] = row[: present.start()] + present[1] + ", ".join(merged) + "]" + row[present.end() :]
    elif at_end:
        rows[line - 1] = f"{row.rstrip()}  {_format_comment(codes)}"
    else:
        indent = row[: len(row) - len(row.lstrip())]
        rows.insert(line - 1, indent + _format_comment(codes))


def _format_comment(codes: set[str]) -> str:
    return f"# theria: ignore[{', '.join(sorted(codes))}]"


def _can_end_with_comment(text: str, line: int) -> bool:
    """Whether a comment at the end of ``line`` is one: not in a string that goes on, nor after a backslash."""
    if text.split("\n")[line - 1].rstrip().endswith("\\"):
        return False
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.start[0] <= line < token.end[0] and token.type not in (tokenize.NEWLINE, tokenize.NL):
            return False
    return True
