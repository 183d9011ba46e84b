"""What the page ends with: what could not be checked, which files are clean, what protected the machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from theria_lint.report.html.markup import Markup, join_children, render_path, render_prose, tag
from theria_lint.report.sentences import say
from theria_lint.report.style import format_place
from theria_lint.result import LintError, LintReport

_MOST_CLEAN_FILES = 500


def render_unchecked(report: LintReport) -> Markup:
    """What kept a file from being checked, and ignore comments that cover nothing."""
    notices = [*_render_notices(report.errors, "error"), *_render_notices(report.unused_ignores, "warning")]
    return tag("ul", *notices, class_="notices")


def _render_notices(notices: Iterable[LintError], kind: str) -> Iterator[Markup]:
    for notice in notices:
        where = render_path(format_place(notice.path, notice.cell, notice.line, None))
        yield tag("li", tag("span", kind, class_=f"badge {kind}"), where, tag("span", render_prose(say(notice.reason))))


def list_clean_files(report: LintReport) -> list[str]:
    """The files of which nothing else is on the page: no suspect, no target, no error."""
    told = {finding.suspect.path for finding in report.findings} | {result.target.path for result in report.targets}
    told |= {error.path for error in (*report.errors, *report.unused_ignores)}
    return [path for path in report.linted if path not in told]


def render_clean_files(paths: list[str]) -> Markup:
    """Their paths, folded."""
    items = [tag("li", render_path(path)) for path in paths[:_MOST_CLEAN_FILES]]
    more = len(paths) - len(items)
    last = tag("li", f"and {more} more", class_="soft") if more else None
    says = tag("p", "Without a suspect, a target or an error.", class_="soft")
    listed = tag("details", tag("summary", "Their paths"), tag("ul", *items, last, class_="files"), class_="more")
    return join_children(says, listed)


def render_protections(report: LintReport) -> Markup:
    """What kept the code that was run in its place, and what this machine did not give."""
    rows = [
        tag("li", tag("span", name, class_="symbol"), tag("span", "held" if why is None else f"missing: {say(why)}"))
        for name, why in report.protections.items()
    ]
    return tag("ul", *rows, class_="notices")
