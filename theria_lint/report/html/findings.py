"""The findings: each with its message, its line, the evidence, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator

from theria_lint.model import Disposition, Finding
from theria_lint.report.html.changes import rewrite
from theria_lint.report.html.index import Index
from theria_lint.report.html.markup import Markup, joined, prose, tag
from theria_lint.report.html.sources import excerpt, line_link
from theria_lint.report.html.words import DISPOSITIONS, badge, located
from theria_lint.report.style import place

# So many findings are shown open; of more, none is.
_OPEN = 25


def findings(index: Index) -> Markup:
    """Confirmed ones first and open, as long as they are few; cleared ones last."""
    return joined(*(_group(index, kind) for kind in DISPOSITIONS))


def _group(index: Index, kind: Disposition) -> Markup | None:
    here = [finding for finding in index.findings if finding.disposition is kind]
    if not here:
        return None
    is_open = kind is Disposition.CONFIRMED and len(here) <= _OPEN
    head = tag("h3", f"{kind.value.capitalize()} ", tag("span", str(len(here)), class_="count"))
    says = tag("p", DISPOSITIONS[kind][1], class_="soft")
    return tag("div", head, says, *(_finding(index, finding, is_open) for finding in here), class_="group")


def _finding(index: Index, finding: Finding, is_open: bool) -> Markup:
    suspect = finding.suspect
    where = place(suspect.path, suspect.cell, suspect.span.line, suspect.span.column)
    head = tag(
        "summary",
        tag("span", badge(finding.disposition), class_="lead"),
        tag(
            "span",
            tag("span", tag("code", suspect.rule), f" {suspect.name}", class_="rule"),
            located(where),
            class_="title",
        ),
        tag("span", badge(finding.verdict), class_="trail") if finding.verdict else None,
    )
    return tag(
        "details",
        head,
        tag("div", *_body(index, finding), class_="body"),
        id=index.finding(finding),
        open=is_open,
        class_=f"item finding {finding.disposition.value}",
        data_kind="finding",
        data_disposition=finding.disposition.value,
        data_verdict=finding.verdict.value if finding.verdict else "",
        data_rule=suspect.rule,
    )


def _body(index: Index, finding: Finding) -> Iterator[Markup | None]:
    suspect = finding.suspect
    yield tag("p", prose(suspect.message), class_="message")
    yield excerpt(index, finding)
    told = [("Evidence", prose(finding.reason)), ("Remedy", prose(suspect.remedy))]
    rows = (tag("div", tag("dt", name), tag("dd", words)) for name, words in told)
    yield tag("dl", joined(*rows), class_="told")
    if finding.rewrite:
        yield rewrite(finding.rewrite, index.report)
    yield _links(index, finding)


def _links(index: Index, finding: Finding) -> Markup | None:
    suspect = finding.suspect
    links = [line_link(index, suspect.path, suspect.cell, suspect.span.line, "In the source")]
    for result in index.targets_of(finding):
        verdict = (" ", badge(result.verdict)) if result.verdict is not finding.verdict else ()
        links.append(tag("a", "Target ", tag("code", result.target.symbol), *verdict, href=f"#{index.target(result)}"))
    items = [tag("li", link) for link in links if link]
    return tag("ul", tag("li", suspect.severity, class_="soft"), *items, class_="links") if items else None
