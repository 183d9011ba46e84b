"""The targets: each with its runs, their heat maps, and what was said on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from theria_lint.model import Finding, Run, TargetResult
from theria_lint.report.cells import Grid
from theria_lint.report.html.index import Index, listed
from theria_lint.report.html.maps import heat_map, numbers, small_map
from theria_lint.report.html.markup import Markup, joined, prose, tag
from theria_lint.report.html.sources import line_link
from theria_lint.report.html.words import badge, facts, located
from theria_lint.report.outcome import is_accepted, unexplained_targets
from theria_lint.report.style import counted

_MAML = {
    "rel_diff": "FULL\u2013FO discrepancy",
    "meta_gradient_error": "meta-gradient error",
    "second_order_path_attn_all": "second-order path through the attention",
    "second_order_path_head_all": "second-order path through the head",
    "second_order_attn_inputs": "inputs that carry it",
    "status": "status",
    "error": "error",
}


def targets(index: Index) -> Markup:
    """The worst verdicts first."""
    alone = {id(result) for result in unexplained_targets(index.report)}
    return joined(*(_target(index, result, id(result) in alone) for result in index.targets))


def _target(index: Index, result: TargetResult, alone: bool) -> Markup:
    found = index.findings_of(result)
    worst = next((run for run in result.runs if run.verdict is result.verdict and run.blocks), None)
    head = tag(
        "summary",
        tag("span", badge(result.verdict), class_="lead"),
        tag("span", *_title(index, result), class_="title"),
        tag("span", small_map(Grid.of(worst)), class_="trail") if worst else None,
    )
    return tag(
        "details",
        head,
        tag("div", *_body(index, result, alone), class_="body"),
        id=index.target(result),
        class_=f"item target {result.verdict.value}",
        data_kind="target",
        data_verdict=result.verdict.value,
        data_rule=listed(finding.suspect.rule for finding in found),
        data_disposition=listed(finding.disposition.value for finding in found),
    )


def _title(index: Index, result: TargetResult) -> Iterator[Markup]:
    target = result.target
    yield tag("span", tag("code", target.symbol), class_="symbol")
    yield located(f"{target.path}:{target.line}")
    if is_accepted(index.report, result):
        yield tag("span", "accepted", class_="soft")


def _body(index: Index, result: TargetResult, alone: bool) -> Iterator[Markup | None]:
    yield tag("p", prose(result.reason), class_="message")
    if alone and not result.blames_others:
        yield tag("p", "No suspect explains it: look at what this target calls in other files and libraries.")
    yield _links(index, result)
    if result.runs:
        yield tag("div", *(_run(run, result) for run in result.runs), class_="runs")


def _links(index: Index, result: TargetResult) -> Markup:
    target = result.target
    kind = tag("li", target.kind.value.replace("_", " "), class_="soft")
    links = [line_link(index, target.path, None, target.line, "In the source")]
    links += [_to_finding(index, finding) for finding in index.findings_of(result)]
    return tag("ul", kind, *(tag("li", link) for link in links if link), class_="links")


def _to_finding(index: Index, finding: Finding) -> Markup:
    suspect = finding.suspect
    words = (tag("code", suspect.rule), f" on line {suspect.span.line} ", badge(finding.disposition))
    return tag("a", *words, href=f"#{index.finding(finding)}")


def _run(run: Run, result: TargetResult) -> Markup:
    grid = Grid.of(run)
    measured = [heat_map(grid), numbers(run)] if grid.rows else []
    return tag(
        "section",
        tag("h3", f"Run on {run.backend} ", badge(run.verdict) if len(result.runs) > 1 else None),
        *_said(run, result),
        *measured,
        *_beside(run),
        class_="run",
    )


def _said(run: Run, result: TargetResult) -> Iterator[Markup]:
    yield facts(("device", run.device), ("dtype", run.dtype), ("oracle", run.oracle or "none"), ("status", run.status))
    if run.reason and run.reason != result.reason:
        yield tag("p", prose(run.reason))
    if run.error and run.error not in run.reason:
        yield tag("pre", run.error, class_="error", tabindex=0, role="group", aria_label="Error")


def _beside(run: Run) -> Iterator[Markup]:
    """What was measured beside the verdict, and the notes."""
    if run.maml:
        yield tag("h4", "Under MAML")
        yield facts(*_maml(run.maml))
    if run.notes:
        yield tag("ul", *(tag("li", prose(note)) for note in run.notes), class_="notes")


def _maml(figures: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    yield from ((name, _figure(figures.get(key))) for key, name in _MAML.items())
    if figures.get("inner_steps"):
        yield "steps", f"{counted(figures['inner_steps'], 'inner step')}, {figures.get('outer_steps')} outer"


def _figure(value: object) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value else None
