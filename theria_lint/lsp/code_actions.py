"""Quick fixes: the verified rewrite, and an ignore comment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lsprotocol import types

from theria_lint.lsp.client import PositionEncoding, make_position
from theria_lint.lsp.diagnostics import DocumentMark
from theria_lint.lsp.documents import FinishedRun
from theria_lint.model import Disposition, Finding, Rewrite
from theria_lint.report.command_messages import format_fix_title, format_ignore_title
from theria_lint.report.patch import diff_texts
from theria_lint.suppress.ignore_comments import add_comments

# From the title of a quick fix to the text that it gives.
QuickFixText = tuple[str, str, types.Diagnostic]


def iter_quick_fixes(marks: Sequence[DocumentMark], text: str, last_run: FinishedRun | None) -> Iterator[QuickFixText]:
    """(title, new text, what it fixes) of every quick fix for some marks of ``text``."""
    for mark in marks:
        if mark.finding is not None:
            rewritten = _get_verified_text(mark.finding.rewrite, text, last_run)
            if rewritten is not None and mark.finding.rewrite is not None:
                yield (
                    format_fix_title(mark.finding.suspect.rule, mark.finding.rewrite.symbol),
                    rewritten,
                    mark.diagnostic,
                )
            ignored = _add_ignore_comment(mark.finding, text)
            if ignored is not None:
                yield format_ignore_title(mark.finding.suspect.rule), ignored, mark.diagnostic


def _get_verified_text(rewrite: Rewrite | None, text: str, last_run: FinishedRun | None) -> str | None:
    """The text that was verified, if it was made of this one and of no other file."""
    if rewrite is None or last_run is None or last_run.text != text or len(rewrite.files) != 1:
        return None
    return rewrite.files[0][1]


def _add_ignore_comment(finding: Finding, text: str) -> str | None:
    """The text with an ignore comment; nothing is to be ignored of a cleared suspect."""
    if finding.disposition is Disposition.CLEARED:
        return None
    return add_comments(text, [finding])


def make_text_edits(before: str, after: str, newline: str, encoding: PositionEncoding) -> list[types.TextEdit]:
    """The edits that turn one text into the other; the document ends its lines with ``newline``."""
    rows = before.split("\n")
    return [
        types.TextEdit(
            types.Range(make_position(rows, edit.line, 1, encoding), make_position(rows, edit.end_line, 1, encoding)),
            "".join(edit.lines).replace("\n", newline),
        )
        for edit in diff_texts("", before, after)
    ]
