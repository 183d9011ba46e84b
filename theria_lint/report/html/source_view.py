"""Show source text with line numbers and marked suspects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from heapq import heappop, heappush
from itertools import pairwise

from theria_lint.model import Finding, Span
from theria_lint.report.html.markup import (
    DISPOSITIONS,
    Markup,
    escape_text,
    join_children,
    render_badge,
    render_path,
    render_sign,
    tag,
)
from theria_lint.report.html.page import PageAnchors, join_values
from theria_lint.report.style import format_count, narrow_row, split_rows

# Lines of context around a suspect, and how many lines of a long suspect are shown beside the finding.
_CONTEXT_LINES = 2
_MAX_EXCERPT_LINES = 6
# Characters of a row before and after a suspect that are shown beside the finding.
_LONGEST_ROW = 500


def render_sources(anchors: PageAnchors) -> Markup:
    """Every source that holds a finding, whole."""
    return join_children(
        *(_render_source(anchors, path, cell) for path, cell in sorted(anchors.report.sources, key=_sort_key_of_source))
    )


def _sort_key_of_source(place: tuple[str, int | None]) -> tuple[str, int]:
    return place[0], place[1] or 0


def _render_source(anchors: PageAnchors, path: str, cell: int | None) -> Markup:
    rows = _list_code_rows(anchors.report.sources[path, cell])
    findings = anchors.list_findings_in(path, cell)
    name = path if cell is None else f"{path}, cell {cell}"
    head = tag(
        "summary",
        tag("span", render_path(name), tag("span", format_count(len(rows), "line"), class_="soft"), class_="title"),
        tag("span", *_render_counts(findings), class_="trail"),
    )
    return tag(
        "details",
        head,
        _render_listing(
            anchors,
            dict(enumerate(rows, 1)),
            findings,
            range(1, len(rows) + 1),
            f"Source of {name}",
            anchors.get_source_anchor(path, cell),
        ),
        id=anchors.get_source_anchor(path, cell),
        class_="item source",
        data_kind="source",
        data_disposition=join_values(finding.disposition.value for finding in findings),
        data_verdict=join_values(finding.verdict.value for finding in findings if finding.verdict),
        data_rule=join_values(finding.suspect.rule for finding in findings),
    )


def _render_counts(findings: Sequence[Finding]) -> Iterator[Markup]:
    for kind in DISPOSITIONS:
        count = sum(finding.disposition is kind for finding in findings)
        if count:
            yield render_badge(kind, count)


def render_excerpt(anchors: PageAnchors, finding: Finding) -> Markup | None:
    """The lines around a suspect, with it alone marked; None without the source."""
    suspect = finding.suspect
    rows = _list_code_rows(anchors.report.sources.get((suspect.path, suspect.cell), ""))
    if not 1 <= suspect.span.line <= len(rows):
        return None
    last = min(suspect.span.end_line, suspect.span.line + _MAX_EXCERPT_LINES - 1, len(rows))
    after = _CONTEXT_LINES if last == suspect.span.end_line else 0
    lines = _trim_blank_ends(rows, max(1, suspect.span.line - _CONTEXT_LINES), min(len(rows), last + after))
    cut = {number: rows[number - 1][:_LONGEST_ROW] for number in lines}
    cut[suspect.span.line], span = narrow_row(rows[suspect.span.line - 1], suspect.span, _LONGEST_ROW)
    marked = replace(finding, suspect=replace(suspect, span=span))
    shown = _render_listing(anchors, cut, [marked], lines, f"Source around line {suspect.span.line}", None)
    left = suspect.span.end_line - lines[-1]
    return join_children(shown, tag("p", f"and {format_count(left, 'more line')}", class_="soft") if left > 0 else None)


def _trim_blank_ends(rows: Sequence[str], first: int, last: int) -> range:
    filled = [number for number in range(first, last + 1) if rows[number - 1].strip()]
    return range(filled[0], filled[-1] + 1) if filled else range(first, last + 1)


@lru_cache(maxsize=4)
def _list_code_rows(source: str) -> tuple[str, ...]:
    """The rows as a page shows them, without what ends them: kept, as every finding of a file asks for them."""
    rows = tuple(row.rstrip("\r") for row in split_rows(source))
    return rows[:-1] if rows[-1] == "" else rows


def _render_listing(
    anchors: PageAnchors,
    rows: Mapping[int, str],
    findings: Sequence[Finding],
    lines: range,
    label: str,
    anchor: str | None,
) -> Markup:
    """Some lines; with an ``anchor`` every line has its own, and a mark leads to its finding."""
    by_line: dict[int, list[Finding]] = {}
    for finding in findings:
        for number in range(finding.suspect.span.line, finding.suspect.span.end_line + 1):
            by_line.setdefault(number, []).append(finding)
    shown = []
    for number in lines:
        here = by_line.get(number, [])
        kind = min((f.disposition for f in here), key=list(DISPOSITIONS).index, default=None)
        content = (
            _render_marked_row(anchors, rows[number], number, here, anchor is not None)
            if here
            else escape_text(rows[number])
        )
        name = f"row {kind.value}" if kind else "row"
        place = f"{anchor}-{number}" if anchor else None
        shown.append(tag("span", content, Markup("\n"), class_=name, id=place, data_n=number))
    code = tag("code", *shown)
    return tag("pre", code, class_="code", tabindex=0, role="group", aria_label=label)


def _render_marked_row(anchors: PageAnchors, row: str, number: int, findings: Sequence[Finding], link: bool) -> Markup:
    """A line with its suspects marked, the innermost where they overlap."""
    extents = [(_compute_extent(row, number, finding.suspect.span), finding) for finding in findings]
    cuts = sorted({0, len(row), *(place for extent, _ in extents for place in extent)})
    begun = sorted(range(len(extents)), key=lambda index: extents[index][0][0], reverse=True)
    over: list[tuple[int, int, int]] = []  # those that have begun: how long each is, which it is, where it ends
    pieces = []
    for start, end in pairwise(cuts):
        while begun and extents[begun[-1]][0][0] <= start:
            index = begun.pop()
            at, to = extents[index][0]
            heappush(over, (to - at, index, to))
        while over and over[0][2] <= start:
            heappop(over)
        piece = row[start:end]
        if over:
            finding = findings[over[0][1]]
            first = number == finding.suspect.span.line and start == finding.suspect.span.column - 1
            pieces.append(_render_mark(anchors, finding, piece, link and first))
        else:
            pieces.append(escape_text(piece))
    return join_children(*pieces)


def _compute_extent(row: str, number: int, span: Span) -> tuple[int, int]:
    """What of a line a span covers, as offsets."""
    start = span.column - 1 if number == span.line else len(row) - len(row.lstrip())
    end = span.end_column - 1 if number == span.end_line else len(row.rstrip())
    start = min(start, len(row))
    return start, max(start, min(end, len(row)))


def _render_mark(anchors: PageAnchors, finding: Finding, piece: str, link: bool) -> Markup:
    kind = finding.disposition.value
    if not link:
        return tag("mark", piece, class_=kind)
    says = f"{finding.suspect.rule} {finding.suspect.name}, {kind}: back to the finding"
    return tag("a", tag("mark", piece, class_=kind), href=f"#{anchors.get_finding_anchor(finding)}", title=says)


def render_line_link(anchors: PageAnchors, path: str, cell: int | None, line: int, label: str) -> Markup | None:
    """A link to a line of the source, None where the report has no text of it."""
    anchor = anchors.get_line_anchor(path, cell, line)
    return tag("a", label, " ", render_sign("\u2193"), href=f"#{anchor}") if anchor else None
