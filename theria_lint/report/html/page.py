"""What stands around findings, targets and sources: contents, search and filters, and what the page ends with.

That is what could not be checked, which files are clean, and what protected the machine. Everything in the report has
an anchor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from theria.verdicts import Verdict
from theria_lint.model import Disposition, Finding, Rewrite, TargetResult
from theria_lint.report.html.markup import (
    DISPOSITIONS,
    VERDICTS,
    Markup,
    join_children,
    render_path,
    render_prose,
    render_sign,
    tag,
)
from theria_lint.report.sentences import say
from theria_lint.report.style import format_place, split_rows
from theria_lint.report.summary import FindingIndex
from theria_lint.result import LintError, LintReport

MOST_LINKS = 20
"""Of a finding to its targets, and of a target to its findings: each may have as many as the file has lines."""

_MOST_CLEAN_FILES = 500
_KEYS = (("/", "search"), ("j k", "next, previous"), ("Enter", "open, close"), ("Esc", "clear the search"))


def render_contents(sections: Iterable[tuple[str, str, int | None]]) -> Markup:
    """Links to the sections: anchor, title, how many entries."""
    links = (tag("li", tag("a", title, *_render_count(count), href=f"#{anchor}")) for anchor, title, count in sections)
    return tag("nav", tag("ul", join_children(*links)), aria_label="Contents")


def _render_count(count: int | None) -> Iterator[Markup]:
    if count is not None:
        yield Markup(" ")
        yield tag("span", str(count), class_="count")


def render_controls(report: LintReport) -> Markup:
    """Search and filters; the script keeps them."""
    search = tag(
        "input", type="search", id="search", autocomplete="off", spellcheck="false", placeholder="name, path, text"
    )
    keys = join_children(*(tag("div", tag("dt", tag("kbd", key)), tag("dd", what)) for key, what in _KEYS))
    body = tag(
        "div",
        tag("label", "Search", for_="search"),
        search,
        *_render_filter_groups(report),
        tag("p", role="status", id="shown"),
        tag("button", "Show everything", type="button", id="reset"),
        tag("dl", keys, class_="keys"),
    )
    return tag("details", tag("summary", "Search and filter"), body, id="controls", class_="scripted", open=True)


def _render_filter_groups(report: LintReport) -> Iterator[Markup | None]:
    verdicts = Counter(result.verdict for result in report.targets)
    verdicts.update({f.verdict: 0 for f in report.findings if f.verdict})
    dispositions = Counter(finding.disposition for finding in report.findings)
    rules = Counter((finding.suspect.rule, finding.suspect.name) for finding in report.findings)
    yield _render_filter_group(
        "verdict", [(v.value, v.value, VERDICTS[v][0], verdicts[v]) for v in Verdict if v in verdicts]
    )
    yield _render_filter_group(
        "disposition",
        [(d.value, d.value, DISPOSITIONS[d][0], dispositions[d]) for d in DISPOSITIONS if d in dispositions],
    )
    yield _render_filter_group(
        "rule", [(rule, f"{rule} {name}", None, count) for (rule, name), count in sorted(rules.items())]
    )


def _render_filter_group(name: str, choices: list[tuple[str, str, str | None, int]]) -> Markup | None:
    if not choices:
        return None
    buttons = (
        tag(
            "button",
            render_sign(glyph) if glyph else None,
            tag("span", label),
            tag("span", str(count), class_="count"),
            type="button",
            aria_pressed="false",
            class_=f"choice {value}" if glyph else "choice",
            data_group=name,
            data_value=value,
        )
        for value, label, glyph, count in choices
    )
    title = tag("h2", name.capitalize(), id=f"by-{name}")
    return tag("div", title, *buttons, role="group", aria_labelledby=f"by-{name}", class_="choices")


class PageAnchors:
    """The anchors of findings, targets and sources, and the links between them."""

    def __init__(self, report: LintReport) -> None:
        self.report = report
        self.findings = sorted(report.findings, key=lambda finding: list(DISPOSITIONS).index(finding.disposition))
        self.targets = sorted(report.targets, key=lambda result: list(Verdict).index(result.verdict))
        self._findings = {id(finding): f"f{number}" for number, finding in enumerate(self.findings, 1)}
        self._targets = {id(result): f"t{number}" for number, result in enumerate(self.targets, 1)}
        self._sources = {place: f"s{number}" for number, place in enumerate(report.sources, 1)}
        self._index = FindingIndex(self.findings)
        self._by_source: dict[tuple[str, int | None], list[Finding]] = {}
        self._kinds: dict[tuple[str, str], set[tuple[str, str]]] = {}
        self._rewritten: dict[Rewrite, Finding] = {}
        for finding in self.findings:
            suspect = finding.suspect
            self._by_source.setdefault((suspect.path, suspect.cell), []).append(finding)
            kind = suspect.rule, finding.disposition.value
            self._kinds.setdefault((suspect.path, suspect.symbol), set()).add(kind)
            if finding.rewrite is not None:
                self._rewritten.setdefault(finding.rewrite, finding)
        self._targets_by_symbol: dict[tuple[str, str], list[TargetResult]] = {}
        self._unsafe_targets: dict[tuple[str, str], list[TargetResult]] = {}
        for result in self.targets:
            for path, symbols in self._index.list_symbols(result.target):
                for symbol in symbols:
                    self._targets_by_symbol.setdefault((path, symbol), []).append(result)
                    if result.verdict.unsafe:
                        self._unsafe_targets.setdefault((path, symbol), []).append(result)

    def get_finding_anchor(self, finding: Finding) -> str:
        """The anchor of a finding of the report."""
        return self._findings[id(finding)]

    def get_target_anchor(self, result: TargetResult) -> str:
        """The anchor of a target of the report."""
        return self._targets[id(result)]

    def get_source_anchor(self, path: str, cell: int | None) -> str | None:
        """The anchor of a source, None where the report has no text of it."""
        return self._sources.get((path, cell))

    def get_line_anchor(self, path: str, cell: int | None, line: int) -> str | None:
        """The anchor of a line, None where the report has no text of it."""
        source = self.get_source_anchor(path, cell)
        is_there = source and line <= len(split_rows(self.report.sources[path, cell]))
        return f"{source}-{line}" if is_there else None

    def list_findings_in(self, path: str, cell: int | None) -> list[Finding]:
        """The findings of one source, by place."""
        return sorted(self._by_source.get((path, cell), ()), key=lambda finding: finding.suspect.span)

    def list_findings_of(self, result: TargetResult) -> tuple[list[Finding], int]:
        """The first findings that a target may execute, and how many more there are."""
        found = self._index.list_findings(result.target, MOST_LINKS)
        return found, self._index.count_findings(result.target) - len(found)

    def list_kinds_of(self, result: TargetResult) -> list[tuple[str, str]]:
        """The rules and dispositions of all findings that a target may execute."""
        symbols = self._index.list_symbols(result.target)
        kinds = {kind for path, found in symbols for symbol in found for kind in self._kinds[path, symbol]}
        return sorted(kinds)

    def list_targets_of(self, finding: Finding) -> tuple[list[TargetResult], int]:
        """The first targets that a finding breaks, or that cleared it, and how many more there are."""
        confirmed = finding.disposition is Disposition.CONFIRMED
        table = self._unsafe_targets if confirmed else self._targets_by_symbol
        found = table.get((finding.suspect.path, finding.suspect.symbol), [])
        return found[:MOST_LINKS], max(0, len(found) - MOST_LINKS)

    def get_first_with_rewrite(self, finding: Finding) -> Finding:
        """The finding at which the rewrite of a finding is shown."""
        assert finding.rewrite is not None
        return self._rewritten[finding.rewrite]


def join_values(values: Iterable[str]) -> str:
    """Values of an attribute, each once, parted by spaces."""
    return " ".join(dict.fromkeys(values))


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
