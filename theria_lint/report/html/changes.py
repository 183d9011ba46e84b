"""What a verified rewrite changes, as a diff."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff

from theria_lint.model import Report, Rewrite
from theria_lint.report.html.markup import Markup, joined, tag

_KINDS = {"+": "added", "-": "removed", "@": "hunk"}


def rewrite(change: Rewrite, report: Report) -> Markup:
    """The lines that a rewrite changes in every file that the report has the text of."""
    parts = [part for path, new in change.files for part in _file(path, report.sources.get((path, None)), new)]
    proof = tag("p", "With this change ", tag("code", change.symbol), " was run, and it is safe. No file was changed.")
    return tag("details", tag("summary", "The rewrite that mends it"), proof, *parts, class_="more rewrite")


def _file(path: str, old: str | None, new: str) -> Iterator[Markup]:
    yield tag("p", path, class_="path")
    if old is None:
        yield tag("p", "This file holds no finding: the report has not kept its text to compare with.", class_="soft")
        return
    lines = list(unified_diff(old.splitlines(), new.splitlines(), n=2, lineterm=""))[2:]
    code = tag("code", joined(*(_line(line) for line in lines)))
    yield tag("pre", code, class_="code diff", tabindex=0, role="group", aria_label=f"Changes in {path}")


def _line(line: str) -> Markup:
    return tag("span", line, Markup("\n"), class_=f"row {_KINDS.get(line[:1], 'same')}")
