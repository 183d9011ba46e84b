"""Source text with line numbers and the suspects marked in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from theria_lint.model import Finding, Span
from theria_lint.report.html.markup import DISPOSITIONS, Markup, badge, joined, located, sign, tag, text
from theria_lint.report.html.page import Index, listed
from theria_lint.report.style import counted

# Lines of context around a suspect, and how many lines of a long suspect are shown beside the finding.
_AROUND = 2
_TALLEST = 6


def sources(index: Index) -> Markup:
    """Every source that holds a finding, whole."""
    return joined(*(_source(index, path, cell) for path, cell in sorted(index.report.sources, key=_by_place)))


def _by_place(place: tuple[str, int | None]) -> tuple[str, int]:
    return place[0], place[1] or 0


def _source(index: Index, path: str, cell: int | None) -> Markup:
    rows = _rows(index.report.sources[path, cell])
    findings = index.findings_in(path, cell)
    name = path if cell is None else f"{path}, cell {cell}"
    head = tag(
        "summary",
        tag("span", located(name), tag("span", counted(len(rows), "line"), class_="soft"), class_="title"),
        tag("span", *_counts(findings), class_="trail"),
    )
    return tag(
        "details",
        head,
        _listing(index, rows, findings, range(1, len(rows) + 1), f"Source of {name}", index.source(path, cell)),
        id=index.source(path, cell),
        class_="item source",
        data_kind="source",
        data_disposition=listed(finding.disposition.value for finding in findings),
        data_verdict=listed(finding.verdict.value for finding in findings if finding.verdict),
        data_rule=listed(finding.suspect.rule for finding in findings),
    )


def _counts(findings: Sequence[Finding]) -> Iterator[Markup]:
    for kind in DISPOSITIONS:
        count = sum(finding.disposition is kind for finding in findings)
        if count:
            yield badge(kind, count)


def excerpt(index: Index, finding: Finding) -> Markup | None:
    """The lines around a suspect, with it alone marked; None without the source."""
    suspect = finding.suspect
    rows = _rows(index.report.sources.get((suspect.path, suspect.cell), ""))
    if not 1 <= suspect.span.line <= len(rows):
        return None
    last = min(suspect.span.end_line, suspect.span.line + _TALLEST - 1, len(rows))
    after = _AROUND if last == suspect.span.end_line else 0
    lines = _without_blank_ends(rows, max(1, suspect.span.line - _AROUND), min(len(rows), last + after))
    shown = _listing(index, rows, [finding], lines, f"Source around line {suspect.span.line}", None)
    left = suspect.span.end_line - lines[-1]
    return joined(shown, tag("p", f"and {counted(left, 'more line')}", class_="soft") if left > 0 else None)


def _without_blank_ends(rows: Sequence[str], first: int, last: int) -> range:
    filled = [number for number in range(first, last + 1) if rows[number - 1].strip()]
    return range(filled[0], filled[-1] + 1) if filled else range(first, last + 1)


def _rows(source: str) -> list[str]:
    rows = [row.rstrip("\r") for row in source.split("\n")]
    return rows[:-1] if rows[-1] == "" else rows


def _listing(
    index: Index, rows: Sequence[str], findings: Sequence[Finding], lines: range, label: str, anchor: str | None
) -> Markup:
    """Some lines; with an ``anchor`` every line has its own, and a mark leads to its finding."""
    shown = []
    for number in lines:
        here = [f for f in findings if f.suspect.span.line <= number <= f.suspect.span.end_line]
        kind = min((f.disposition for f in here), key=list(DISPOSITIONS).index, default=None)
        content = _marked(index, rows[number - 1], number, here, anchor is not None) if here else text(rows[number - 1])
        name = f"row {kind.value}" if kind else "row"
        place = f"{anchor}-{number}" if anchor else None
        shown.append(tag("span", content, Markup("\n"), class_=name, id=place, data_n=number))
    code = tag("code", *shown)
    return tag("pre", code, class_="code", tabindex=0, role="group", aria_label=label)


def _marked(index: Index, row: str, number: int, findings: Sequence[Finding], link: bool) -> Markup:
    """A line with its suspects marked, the innermost where they overlap."""
    extents = [(_extent(row, number, finding.suspect.span), finding) for finding in findings]
    cuts = sorted({0, len(row), *(place for (start, end), _ in extents for place in (start, end))})
    pieces = []
    for start, end in pairwise(cuts):
        over = [(to - at, finding) for (at, to), finding in extents if at <= start and end <= to]
        piece = row[start:end]
        if over:
            _, finding = min(over, key=lambda pair: pair[0])
            first = number == finding.suspect.span.line and start == finding.suspect.span.column - 1
            pieces.append(_mark(index, finding, piece, link and first))
        else:
            pieces.append(text(piece))
    return joined(*pieces)


def _extent(row: str, number: int, span: Span) -> tuple[int, int]:
    """What of a line a span covers, as offsets."""
    start = span.column - 1 if number == span.line else len(row) - len(row.lstrip())
    end = span.end_column - 1 if number == span.end_line else len(row.rstrip())
    start = min(start, len(row))
    return start, max(start, min(end, len(row)))


def _mark(index: Index, finding: Finding, piece: str, link: bool) -> Markup:
    kind = finding.disposition.value
    if not link:
        return tag("mark", piece, class_=kind)
    says = f"{finding.suspect.rule} {finding.suspect.name}, {kind}: back to the finding"
    return tag("a", tag("mark", piece, class_=kind), href=f"#{index.finding(finding)}", title=says)


def line_link(index: Index, path: str, cell: int | None, line: int, label: str) -> Markup | None:
    """A link to a line of the source, None where the report has no text of it."""
    anchor = index.line(path, cell, line)
    return tag("a", label, " ", sign("\u2193"), href=f"#{anchor}") if anchor else None
