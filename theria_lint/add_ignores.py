"""``--add-ignores``: write an ignore comment for every finding, and change nothing else in the file."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Sequence

from theria_lint.errors import UserError
from theria_lint.files import write_bytes
from theria_lint.model import Disposition, Finding, Report
from theria_lint.reading import ReadError, decode, encoding_of, read_bytes
from theria_lint.report.style import counted

_CODES = re.compile(r"(#\s*theria:\s*ignore\[)([^\]]*)(\])")


def add_ignores(report: Report) -> Iterator[str]:
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
        text = decode(data)
    except ReadError as error:
        raise UserError(f"{path}: {error.message}") from None
    changed = commented(text, findings)
    if changed is None:
        return f"{path}: left as it is; a comment would change what the code does."
    write_bytes(path, _encoded(changed, data))
    return f"{path}: {counted(len(findings), 'finding')} ignored."


def commented(text: str, findings: Sequence[Finding]) -> str | None:
    """``text`` with an ignore comment for every finding; None if a comment would change what the code does."""
    rows = text.split("\n")
    for line, codes in sorted(_codes_by_line(findings).items(), reverse=True):
        _comment(rows, line, codes, _can_end_with_comment(text, line))
    changed = "\n".join(rows)
    return changed if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(text)) else None


def _codes_by_line(findings: Sequence[Finding]) -> dict[int, set[str]]:
    codes: dict[int, set[str]] = defaultdict(set)
    for finding in findings:
        codes[finding.suspect.span.line].add(finding.suspect.rule)
    return codes


def _comment(rows: list[str], line: int, codes: set[str], at_end: bool) -> None:
    """Put the comment at the end of ``line`` (1-based), into the one that is there, or on a line of its own above."""
    row = rows[line - 1]
    present = _CODES.search(row)
    if at_end and present:
        merged = sorted({code.strip() for code in present[2].split(",") if code.strip()} | codes)
        rows[line - 1] = row[: present.start()] + present[1] + ", ".join(merged) + "]" + row[present.end() :]
    elif at_end:
        rows[line - 1] = f"{row.rstrip()}  {_written(codes)}"
    else:
        indent = row[: len(row) - len(row.lstrip())]
        rows.insert(line - 1, indent + _written(codes))


def _written(codes: set[str]) -> str:
    return f"# theria: ignore[{', '.join(sorted(codes))}]"


def _can_end_with_comment(text: str, line: int) -> bool:
    """Whether a comment at the end of ``line`` is one: not in a string that goes on, nor after a backslash."""
    if text.split("\n")[line - 1].rstrip().endswith("\\"):
        return False
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.start[0] <= line < token.end[0] and token.type not in (tokenize.NEWLINE, tokenize.NL):
            return False
    return True


def _encoded(text: str, before: bytes) -> bytes:
    """``text`` with the encoding, BOM and line ends of the file as it was."""
    newline = "\r\n" if b"\r\n" in before else "\r" if b"\r" in before and b"\n" not in before else "\n"
    return text.replace("\n", newline).encode(encoding_of(before))
