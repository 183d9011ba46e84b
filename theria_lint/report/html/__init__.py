"""``--output-format html``: one self-contained page that needs no network, and no JavaScript to be read.

`page` has the contents, filters and anchors, and ends with errors, clean files and protections, `sections` the findings
and targets, `source_view` the marked source, `evidence_pair` what a suspect changes, `markup` the escaping.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files

from theria_lint import __version__
from theria_lint.report import ReportView
from theria_lint.report.html.markup import Markup, join_children, tag
from theria_lint.report.html.page import (
    PageAnchors,
    list_clean_files,
    render_clean_files,
    render_contents,
    render_controls,
    render_protections,
    render_unchecked,
)
from theria_lint.report.html.sections import (
    format_headline,
    render_findings,
    render_legend,
    render_overview,
    render_targets,
)
from theria_lint.report.html.source_view import render_sources
from theria_lint.result import LintReport

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E"
    "%3Cpath d='M0 0h8v8H0z' fill='%232f5fc4'/%3E%3Cpath d='M2 6l2-4 2 4z' fill='%23fff'/%3E%3C/svg%3E"
)

# Anchor, title, how many entries, content.
PageSection = tuple[str, str, int | None, Markup]


def render(report: LintReport, view: ReportView) -> str:
    """The whole report, whatever the view: cleared findings and safe targets are there to be filtered.

    ASCII with character references, so that it reads the same in whatever encoding it is written.
    """
    style, script = _read_asset("page.css"), _read_asset("page.js")
    page = tag("html", _render_head(report, style, script), _render_body(report), lang="en")
    return "<!doctype html>\n" + page.encode("ascii", "xmlcharrefreplace").decode() + "\n"


def _read_asset(name: str) -> Markup:
    return Markup(files(__name__).joinpath(name).read_text("utf-8"))


def _render_head(report: LintReport, style: Markup, script: Markup) -> Markup:
    """Nothing is loaded and nothing runs but what is written here: the policy allows no more."""
    policy = (
        f"default-src 'none'; style-src {_hash_for_policy(style)}; script-src {_hash_for_policy(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=f"theria-lint {__version__}"),
        tag("title", f"theria-lint: {format_headline(report)}"),
        tag("link", rel="icon", href=_ICON),
        tag("style", style),
        tag("script", script),
    )


def _hash_for_policy(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _render_body(report: LintReport) -> Markup:
    sections = list(_iter_sections(report))
    theme = tag("button", "Dark", type="button", id="theme", class_="scripted", aria_pressed="false")
    side = tag(
        "aside",
        tag("div", tag("h1", "theria-lint"), theme, class_="brand"),
        render_contents((anchor, title, count) for anchor, title, count, _ in sections),
        render_controls(report),
        aria_label="Contents and filters",
    )
    main = tag("main", *(_render_section(*section) for section in sections), id="main", tabindex=-1)
    return tag("body", tag("a", "Skip to the report", href="#main", class_="skip"), side, main)


def _iter_sections(report: LintReport) -> Iterator[PageSection]:
    anchors = PageAnchors(report)
    yield "overview", "Overview", None, render_overview(report)
    if report.findings:
        yield "findings", "Findings", len(report.findings), render_findings(anchors)
    if report.targets:
        yield "targets", "Targets", len(report.targets), join_children(render_legend(), render_targets(anchors))
    if report.sources:
        yield "sources", "Sources", len(report.sources), render_sources(anchors)
    if report.errors or report.unused_ignores:
        count = len(report.errors) + len(report.unused_ignores)
        yield "unchecked", "Errors and warnings", count, render_unchecked(report)
    if clean := list_clean_files(report):
        yield "clean", "Clean files", len(clean), render_clean_files(clean)
    if report.protections:
        yield "protections", "Protections", len(report.protections), render_protections(report)


def _render_section(anchor: str, title: str, count: int | None, content: Markup) -> Markup:
    """A section under its title; one that counts nothing has a heading of its own."""
    counted = tag("span", str(count), class_="count")
    heading = None if count is None else tag("h2", title, " ", counted, id=f"{anchor}-title")
    return tag("section", heading, content, id=anchor, aria_labelledby=f"{anchor}-title")
