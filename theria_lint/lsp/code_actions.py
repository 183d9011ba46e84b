"""Quick fixes: the rewrite that was measured to be safe, and an ignore comment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lsprotocol import types

from theria_lint.lsp.client import Encoding, position
from theria_lint.lsp.diagnostics import Mark
from theria_lint.lsp.documents import Ran
from theria_lint.model import Disposition, Finding, Rewrite
from theria_lint.report.patch import between
from theria_lint.suppress.ignore_comments import commented

# From the title of a quick fix to the text that it gives.
Fix = tuple[str, str, types.Diagnostic]


def fixes(marks: Sequence[Mark], text: str, ran: Ran | None) -> Iterator[Fix]:
    """(title, new text, what it fixes) of every quick fix for some marks of ``text``."""
    for mark in marks:
        if mark.finding is not None:
            rewritten = _rewritten(mark.finding.rewrite, text, ran)
            if rewritten is not None and mark.finding.rewrite is not None:
                yield _title(mark.finding, mark.finding.rewrite), rewritten, mark.diagnostic
            ignored = _ignored(mark.finding, text)
            if ignored is not None:
                yield f"Ignore {mark.finding.suspect.rule} here", ignored, mark.diagnostic


def _title(finding: Finding, rewrite: Rewrite) -> str:
    return f"Rewrite {finding.suspect.rule} away: {rewrite.symbol} was measured safe like this"


def _rewritten(rewrite: Rewrite | None, text: str, ran: Ran | None) -> str | None:
    """The text that was verified, if it was made of this one and of no other file."""
    if rewrite is None or ran is None or ran.text != text or len(rewrite.files) != 1:
        return None
    return rewrite.files[0][1]


def _ignored(finding: Finding, text: str) -> str | None:
    """The text with an ignore comment; nothing is to be ignored of a cleared suspect."""
    if finding.disposition is Disposition.CLEARED:
        return None
    return commented(text, [finding])


def text_edits(before: str, after: str, newline: str, encoding: Encoding) -> list[types.TextEdit]:
    """The edits that turn one text into the other; the document ends its lines with ``newline``."""
    rows = before.split("\n")
    return [
        types.TextEdit(
            types.Range(position(rows, edit.line, 1, encoding), position(rows, edit.end_line, 1, encoding)),
            "".join(edit.lines).replace("\n", newline),
        )
        for edit in between("", before, after)
    ]
