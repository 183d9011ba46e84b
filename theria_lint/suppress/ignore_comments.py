"""Ignore comments: ``# theria: ignore[THL002] reason``.

After code, the comment covers the statement on its line (of a compound statement, the header). On a line of its own it
covers the whole statement below, block and decorators included. Without brackets it covers every rule.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from theria_lint.errors import UserError
from theria_lint.model import Disposition, Finding
from theria_lint.report.style import format_count
from theria_lint.result import LintReport
from theria_lint.sources.atomic_write import write_bytes
from theria_lint.sources.source_text import ReadError, decode_source, find_encoding, read_bytes

_COMMENT = re.compile(r"#\s*theria:\s*ignore(?:\[(?P<codes>[^\]]*)\])?(?=\s|$)")


@dataclass(frozen=True)
class IgnoreComment:
    """A comment on ``line`` that covers suspects starting on lines ``first`` to ``last``; ``codes`` None means all."""

    line: int
    codes: tuple[str, ...] | None
    first: int
    last: int

    def covers_suspect(self, rule: str, line: int) -> bool:
        """Whether a suspect of ``rule`` on ``line`` is ignored."""
        return self.first <= line <= self.last and (self.codes is None or rule in self.codes)


@dataclass(frozen=True)
class _StatementLines:
    first: int
    last: int
    header_last: int


def find_ignores(text: str) -> list[IgnoreComment]:
    """The ignore comments of a source text, in order."""
    comments = [(token, found) for token in _iter_comments(text) if (found := _COMMENT.search(token.string))]
    if not comments:
        return []
    statements = _list_statements(text)
    return [_make_ignore(token, found, statements, text) for token, found in comments]


def _iter_comments(text: str) -> Iterator[tokenize.TokenInfo]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield token
    except (tokenize.TokenError, SyntaxError):
        return


def _list_statements(text: str) -> list[_StatementLines]:
    """All statements, the inner after the outer; none for a text that does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [_make_statement_lines(node) for node in ast.walk(tree) if isinstance(node, ast.stmt)]


def _make_statement_lines(node: ast.stmt) -> _StatementLines:
    first = _find_first_line(node)
    last = node.end_lineno or node.lineno
    body = getattr(node, "body", None)
    return _StatementLines(first, last, max(_find_first_line(body[0]) - 1, node.lineno) if body else last)


def _find_first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _make_ignore(
    token: tokenize.TokenInfo, found: re.Match[str], statements: Sequence[_StatementLines], text: str
) -> IgnoreComment:
    line = token.start[0]
    listed = found["codes"]
    codes = None if listed is None else tuple(code.strip() for code in listed.split(",") if code.strip())
    alone = not token.line[: token.start[1]].strip()
    first, last = _find_block_below(line, statements, text) if alone else _find_statement_around(line, statements)
    return IgnoreComment(line, codes, first, last)


def _find_block_below(line: int, statements: Sequence[_StatementLines], text: str) -> tuple[int, int]:
    rows = text.split("\n")
    below = line + 1
    while below <= len(rows) and (not rows[below - 1].strip() or rows[below - 1].lstrip().startswith("#")):
        below += 1
    lasts = [statement.last for statement in statements if statement.first == below]
    return below, max(lasts, default=below)


def _find_statement_around(line: int, statements: Sequence[_StatementLines]) -> tuple[int, int]:
    around = [statement for statement in statements if statement.first <= line <= statement.header_last]
    if not around:
        return line, line
    inner = max(around, key=lambda statement: statement.first)
    return inner.first, inner.header_last


def select_ignored(findings: Iterable[Finding], ignores: Sequence[IgnoreComment]) -> set[Finding]:
    """The findings that some comment covers."""
    return {
        finding
        for finding in findings
        if any(ignore.covers_suspect(finding.suspect.rule, finding.suspect.span.line) for ignore in ignores)
    }


def iter_complaints(
    findings: Sequence[Finding], ignores: Iterable[IgnoreComment], rules: Iterable[str]
) -> Iterator[tuple[int, str]]:
    """(line, sentence) for every comment, or code in one, that covers no suspect."""
    known = sorted(rules)
    for ignore in ignores:
        for code in ignore.codes if ignore.codes is not None else (None,):
            if code is not None and code not in known:
                yield ignore.line, f"`theria: ignore[{code}]` names no rule; the rules are {', '.join(known)}."
            elif not any(_is_code_used(ignore, code, finding) for finding in findings):
                what = f"ignore[{code}]" if code else "ignore"
                yield ignore.line, f"unused `theria: {what}`: there is no such suspect here; remove it."


def _is_code_used(ignore: IgnoreComment, code: str | None, finding: Finding) -> bool:
    suspect = finding.suspect
    return code in (None, suspect.rule) and ignore.covers_suspect(suspect.rule, suspect.span.line)


_CODES_IN_COMMENT = re.compile(r"(#\s*theria:\s*ignore\[)([^\]]*)(\])")


def add_ignores(report: LintReport) -> Iterator[str]:
    """Comment every finding that is not cleared, file by file; yields a sentence a file. Raises UserError."""
    by_file: dict[str, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        if finding.disposition is not Disposition.CLEARED:
            by_file[finding.suspect.path].append(finding)
    for path, findings in by_file.items():
        if any(finding.suspect.cell is not None for finding in findings):
            yield f"{path}: left as it is; write the comments into the notebook's cells yourself."
        else:
            yield _add_to_file(path, findings)


def _add_to_file(path: str, findings: list[Finding]) -> str:
    try:
        data = read_bytes(path)
        text = decode_source(data)
    except ReadError as error:
        raise UserError(f"{path}: {error.message}") from None
    changed = add_comments(text, findings)
    if changed is None:
        return f"{path}: left as it is; a comment would change what the code does."
    write_bytes(path, _encode_like_file(changed, data))
    return f"{path}: {format_count(len(findings), 'finding')} ignored."


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


def _encode_like_file(text: str, before: bytes) -> bytes:
    """``text`` with the encoding, BOM and line ends of the file as it was."""
    newline = "\r\n" if b"\r\n" in before else "\r" if b"\r" in before and b"\n" not in before else "\n"
    return text.replace("\n", newline).encode(find_encoding(before))
