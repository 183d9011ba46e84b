"""The sections of the page: overview, findings, targets with their heat maps, errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from theria.verdicts import COTANGENT, Verdict, variable
from theria_lint.model import AS_IT_IS, Disposition, Finding, Rewrite, Run, TargetResult
from theria_lint.report.grid import DerivativeGrid, GridCell
from theria_lint.report.html.evidence_pair import iter_maml_figures, render_evidence, render_helps, render_message
from theria_lint.report.html.markup import (
    DISPOSITIONS,
    STATES,
    VERDICTS,
    Markup,
    join_children,
    render_badge,
    render_facts,
    render_path,
    render_prose,
    render_sign,
    tag,
)
from theria_lint.report.html.page import PageAnchors, join_values
from theria_lint.report.html.source_view import render_excerpt, render_line_link
from theria_lint.report.measurement_messages import describe_maml
from theria_lint.report.patch import iter_diff_rows
from theria_lint.report.sentences import compose_message, say, say_all
from theria_lint.report.style import format_count, format_place
from theria_lint.report.summary import is_accepted, is_out_of_time, list_unexplained_targets
from theria_lint.report.unexplained import UnexplainedTargets
from theria_lint.result import LintReport


def render_overview(report: LintReport) -> Markup:
    """The sentence to remember, the verdicts, the run."""
    return join_children(
        tag("h2", format_headline(report), class_="headline", id="overview-title"),
        _render_verdicts(report),
        _render_environment(report),
        _render_notes(report),
    )


def format_headline(report: LintReport) -> str:
    """What the reader came for, in one sentence."""
    verdicts = [result.verdict for result in report.defaults]
    files, suspects, targets = (
        format_count(count, noun)
        for count, noun in ((report.files, "file"), (len(report.findings), "suspect"), (len(verdicts), "target"))
    )
    judged = sum(verdict is not Verdict.INCONCLUSIVE for verdict in verdicts)
    if not verdicts:
        return f"Nothing was run: {suspects} in {files}." if report.findings else f"No attention code found in {files}."
    if not judged:
        return f"None of {targets} could be judged."
    unsafe = sum(verdict.unsafe for verdict in verdicts)
    turned = [result.name for result in report.configurations if result.verdict.unsafe]
    if not unsafe and turned:
        others = f" and {format_count(len(turned) - 1, 'other configuration')}" if len(turned) > 1 else ""
        verb = "breaks" if len(turned) == 1 else "break"
        told = f"As its defaults have it, no target breaks when it is differentiated twice; {turned[0]}{others} {verb}"
        return f"{told}; {_format_blame(report)}."
    if not unsafe:
        return f"No target breaks when it is differentiated twice; {judged} of {targets} judged."
    verb = "breaks" if unsafe == 1 else "break"
    return f"{unsafe} of {targets} {verb} when differentiated twice; {_format_blame(report)}."


def _format_blame(report: LintReport) -> str:
    confirmed = [finding.suspect for finding in report.findings if finding.disposition is Disposition.CONFIRMED]
    lines = len({(suspect.path, suspect.cell, suspect.span.line) for suspect in confirmed})
    if not lines:
        return "no suspect explains it"
    alone = len(list_unexplained_targets(report))
    others = f", and {format_count(alone, 'target')} {'stays' if alone == 1 else 'stay'} unexplained" if alone else ""
    return f"{format_count(lines, 'line')} {'is' if lines == 1 else 'are'} to blame{others}"


def _render_verdicts(report: LintReport) -> Markup | None:
    counts = Counter(result.verdict for result in report.targets)
    if not counts:
        return None
    tiles = (
        tag("li", tag("strong", render_sign(VERDICTS[v][0]), " ", str(counts[v])), tag("span", v.value, class_="name"),
            tag("span", VERDICTS[v][1], class_="soft"), class_=f"tile {v.value}{'' if counts[v] else ' none'}")
        for v in Verdict
    )  # fmt: skip
    return join_children(_render_verdict_bar(counts), tag("ul", join_children(*tiles), class_="tiles"))


def _render_verdict_bar(counts: Counter[Verdict]) -> Markup:
    """The share of each verdict; the tiles under it say the same in words."""
    total, pieces, at = sum(counts.values()), [], 0
    for verdict in Verdict:
        if counts[verdict]:
            pieces.append(tag("rect", x=at, y=0, width=counts[verdict], height=1, class_=verdict.value))
            at += counts[verdict]
    return tag("svg", *pieces, class_="bar", viewBox=f"0 0 {total} 1", preserveAspectRatio="none", aria_hidden="true")


def _render_environment(report: LintReport) -> Markup:
    ran = report.environment
    silenced = [(report.ignored, "by ignore comments"), (report.baselined, "by the baseline")]
    versions = [("Python", ran.python), ("torch", ran.torch or "missing"), ("triton", ran.triton or "missing"),
                ("device", ran.device or "none")] if ran.python else []  # fmt: skip
    return render_facts(
        ("files", str(report.files)),
        ("suspects", str(len(report.findings))),
        ("silenced", ", ".join(f"{count} {how}" for count, how in silenced if count) or None),
        *versions,
    )


def _render_notes(report: LintReport) -> Markup | None:
    cut = ["The run was ended before every target had run."] if report.interrupted or is_out_of_time(report) else []
    notes = [*cut, *say_all(report.notes)]
    return tag("ul", *(tag("li", render_prose(note)) for note in notes), class_="notes") if notes else None


# So many findings of a disposition, or inconclusive targets, are shown open; of more, none is.
_MOST_OPEN = 25


def render_findings(anchors: PageAnchors) -> Markup:
    """Confirmed ones first, then those that nobody could decide, open as long as they are few; cleared ones last."""
    return join_children(*(_render_finding_group(anchors, kind) for kind in DISPOSITIONS))


def _render_finding_group(anchors: PageAnchors, kind: Disposition) -> Markup | None:
    here = [finding for finding in anchors.findings if finding.disposition is kind]
    if not here:
        return None
    is_open = kind is not Disposition.CLEARED and len(here) <= _MOST_OPEN
    head = tag("h3", f"{kind.value.capitalize()} ", tag("span", str(len(here)), class_="count"))
    says = tag("p", DISPOSITIONS[kind][1], class_="soft")
    return tag("div", head, says, *(_render_finding(anchors, finding, is_open) for finding in here), class_="group")


def _render_finding(anchors: PageAnchors, finding: Finding, is_open: bool) -> Markup:
    suspect = finding.suspect
    where = format_place(suspect.path, suspect.cell, suspect.span.line, suspect.span.column)
    head = tag(
        "summary",
        tag("span", render_badge(finding.disposition), class_="lead"),
        tag(
            "span",
            tag("span", tag("code", suspect.rule), f" {suspect.name}", class_="rule"),
            render_path(where),
            class_="title",
        ),
        tag("span", render_badge(finding.verdict), class_="trail") if finding.verdict else None,
    )
    return tag(
        "details",
        head,
        tag("div", *_render_finding_body(anchors, finding), class_="body"),
        id=anchors.get_finding_anchor(finding),
        open=is_open,
        class_=f"item finding {finding.disposition.value}",
        data_kind="finding",
        data_disposition=finding.disposition.value,
        data_verdict=finding.verdict.value if finding.verdict else "",
        data_rule=suspect.rule,
    )


def _render_finding_body(anchors: PageAnchors, finding: Finding) -> Iterator[Markup | None]:
    suspect = finding.suspect
    yield tag("p", render_prose(suspect.message), class_="message")
    yield render_excerpt(anchors, finding)
    pair, told = render_evidence(finding.reason)
    yield render_message("Evidence", told, ())
    yield pair
    yield render_helps((suspect.remedy.rstrip("."), *told.helps))
    if finding.rewrite:
        first = anchors.get_first_with_rewrite(finding)
        yield render_rewrite(finding.rewrite, anchors.report) if first is finding else _link_to_rewrite(anchors, first)
    yield _render_finding_links(anchors, finding)


def _render_finding_links(anchors: PageAnchors, finding: Finding) -> Markup | None:
    suspect = finding.suspect
    links = [render_line_link(anchors, suspect.path, suspect.cell, suspect.span.line, "In the source")]
    found, more = anchors.list_targets_of(finding)
    for result in found:
        verdict = (" ", render_badge(result.verdict)) if result.verdict is not finding.verdict else ()
        links.append(
            tag(
                "a",
                "Target ",
                tag("code", result.name),
                *verdict,
                href=f"#{anchors.get_target_anchor(result)}",
            )
        )
    items = [tag("li", link) for link in links if link]
    severity = tag("li", suspect.severity, class_="soft")
    return tag("ul", severity, *items, _count_more(more), class_="links") if items else None


def _link_to_rewrite(anchors: PageAnchors, first: Finding) -> Markup:
    return tag("p", "The rewrite that mends it is shown at ", _link_to_finding(anchors, first))


_DIFF_CLASSES = {"+": "added", "-": "removed", "@": "hunk"}


def render_rewrite(change: Rewrite, report: LintReport) -> Markup:
    """The lines that a rewrite changes in every file that the report has the text of."""
    parts = [
        part for path, new in change.files for part in _render_changed_file(path, report.sources.get((path, None)), new)
    ]
    proof = tag("p", "With this change ", tag("code", change.symbol), " was run, and it is safe. No file was changed.")
    return tag("details", tag("summary", "The rewrite that mends it"), proof, *parts, class_="more rewrite")


def _render_changed_file(path: str, old: str | None, new: str) -> Iterator[Markup]:
    yield tag("p", path, class_="path")
    if old is None:
        yield tag("p", "This file holds no finding: the report has not kept its text to compare with.", class_="soft")
        return
    code = tag("code", join_children(*(_render_diff_line(line) for line in iter_diff_rows(path, old, new, context=2))))
    yield tag("pre", code, class_="code diff", tabindex=0, role="group", aria_label=f"Changes in {path}")


def _render_diff_line(line: str) -> Markup:
    return tag("span", line, Markup("\n"), class_=f"row {_DIFF_CLASSES.get(line[:1], 'same')}")


def render_targets(anchors: PageAnchors) -> Markup:
    """The worst verdicts first."""
    alone = UnexplainedTargets(anchors.report)
    undecided = sum(result.verdict is Verdict.INCONCLUSIVE for result in anchors.targets)
    few = undecided <= _MOST_OPEN
    return join_children(
        *(
            _render_target(anchors, result, alone, few and result.verdict is Verdict.INCONCLUSIVE)
            for result in anchors.targets
        )
    )


def _render_target(anchors: PageAnchors, result: TargetResult, alone: UnexplainedTargets, is_open: bool) -> Markup:
    kinds = anchors.list_kinds_of(result)
    worst = next((run for run in result.runs if run.verdict is result.verdict and run.blocks), None)
    head = tag(
        "summary",
        tag("span", render_badge(result.verdict), class_="lead"),
        tag("span", *_render_target_title(anchors, result), class_="title"),
        tag("span", render_small_map(DerivativeGrid.from_run(worst)), class_="trail") if worst else None,
    )
    return tag(
        "details",
        head,
        tag("div", *_render_target_body(anchors, result, alone), class_="body"),
        id=anchors.get_target_anchor(result),
        open=is_open,
        class_=f"item target {result.verdict.value}",
        data_kind="target",
        data_verdict=result.verdict.value,
        data_rule=join_values(rule for rule, _ in kinds),
        data_disposition=join_values(disposition for _, disposition in kinds),
    )


def _render_target_title(anchors: PageAnchors, result: TargetResult) -> Iterator[Markup]:
    target = result.target
    yield tag("span", tag("code", result.name), class_="symbol")
    yield render_path(f"{target.path}:{target.line}")
    if is_accepted(anchors.report, result):
        yield tag("span", "accepted", class_="soft")


def _render_target_body(
    anchors: PageAnchors, result: TargetResult, alone: UnexplainedTargets
) -> Iterator[Markup | None]:
    told = alone.explain(result, compose_message(result.reason))
    yield render_message("Reason", told, told.helps)
    yield _render_target_links(anchors, result)
    if result.runs:
        yield tag("div", *(_render_run(run, result) for run in result.runs), class_="runs")


def _render_target_links(anchors: PageAnchors, result: TargetResult) -> Markup:
    target = result.target
    kind = tag("li", target.kind.value.replace("_", " "), class_="soft")
    links = [render_line_link(anchors, target.path, None, target.line, "In the source")]
    found, more = anchors.list_findings_of(result)
    links += [_link_to_finding(anchors, finding) for finding in found]
    return tag("ul", kind, *(tag("li", link) for link in links if link), _count_more(more), class_="links")


def _count_more(count: int) -> Markup | None:
    return tag("li", f"and {count} more", class_="soft") if count else None


def _link_to_finding(anchors: PageAnchors, finding: Finding) -> Markup:
    suspect = finding.suspect
    words = (tag("code", suspect.rule), f" on line {suspect.span.line} ", render_badge(finding.disposition))
    return tag("a", *words, href=f"#{anchors.get_finding_anchor(finding)}")


def _render_run(run: Run, result: TargetResult) -> Markup:
    grid = DerivativeGrid.from_run(run)
    measured = [render_heat_map(grid), render_numbers(run)] if grid.rows else []
    return tag(
        "section",
        tag("h3", f"{_name_backend(run)} ", render_badge(run.verdict) if len(result.runs) > 1 else None),
        *_render_run_facts(run, result),
        *measured,
        *_render_run_extras(run),
        class_="run",
    )


def _name_backend(run: Run) -> str:
    return "Run as it is" if run.backend == AS_IT_IS else f"Run with the {run.backend} backend"


def _render_run_facts(run: Run, result: TargetResult) -> Iterator[Markup]:
    yield render_facts(
        ("device", run.device), ("dtype", run.dtype), ("oracle", run.oracle or "none"), ("status", run.status)
    )
    if run.reason and run.reason != result.reason:
        yield tag("p", render_prose(say(run.reason)))
    if run.error and run.error not in say(run.reason):
        yield tag("pre", run.error, class_="error", tabindex=0, role="group", aria_label="Error")


def _render_run_extras(run: Run) -> Iterator[Markup]:
    """What was measured beside the verdict, and the notes."""
    if run.maml:
        yield tag("h4", "Under MAML")
        yield tag("p", f"In MAML {describe_maml(run.maml)}.")
        yield render_facts(*iter_maml_figures(run.maml))
    if run.notes:
        yield tag("ul", *(tag("li", render_prose(say(note))) for note in run.notes), class_="notes")


# From which relative error on a block that is wrong, or right, gets which shade.
_WRONG_SHADES = ((0.1, 3), (1e-2, 2), (0.0, 1))
_RIGHT_SHADES = ((1e-4, 3), (1e-8, 2), (0.0, 1))
# The size of a square of the small map, and the space from one to the next.
_SQUARE, _STEP = 9, 11


def render_heat_map(grid: DerivativeGrid) -> Markup:
    """A row for each gradient g_a: its own error, then that of its derivative by each input and by the cotangent W."""
    head = tag(
        "tr",
        tag("td"),
        *([tag("th", "gradient", scope="col", class_="first")] if grid.gradients else []),
        *(
            tag("th", f"\u2202/\u2202{variable(name)}", scope="col", class_=_get_column_class(name))
            for name in grid.columns
        ),
    )
    rows = (tag("tr", tag("th", f"g_{name}", scope="row"), *_render_cells(grid, name)) for name in grid.rows)
    caption = tag("caption", "Relative errors of the gradients g and of their derivatives", class_="hidden")
    table = tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="map")
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Heat map")


def _render_cells(grid: DerivativeGrid, row: str) -> Iterator[Markup]:
    if grid.gradients:
        yield _render_cell(grid.gradients.get(row), "first")
    for column in grid.columns:
        yield _render_cell(grid.blocks.get((row, column)), _get_column_class(column))


def _render_cell(cell: GridCell | None, place: str) -> Markup:
    if cell is None:
        return tag("td", class_=place)
    glyph, meaning = STATES[cell.state]
    says = f"{cell.name}: {cell.state}, {meaning}; {_format_cell_numbers(cell)}"
    return tag(
        "td", render_sign(glyph), " ", cell.label, class_=f"{place} {_get_cell_classes(cell)}".strip(), title=says
    )


def _format_cell_numbers(cell: GridCell) -> str:
    norm, oracle_norm, error = _format_cell_figures(cell)
    norms = f"norm {norm}, oracle's {oracle_norm}, " if cell.has_norms else ""
    return f"{norms}relative error {error}"


def _format_cell_figures(cell: GridCell) -> tuple[str, str, str]:
    """The norm (None where autograd gave no tensor), the oracle's, the relative error: of a gradient only the last."""
    error = "not known" if cell.error is None else f"{cell.error:.3g}"
    if cell.oracle_norm is None:
        return "", "", error
    return "None" if cell.norm is None else f"{cell.norm:.3g}", f"{cell.oracle_norm:.3g}", error


def _get_cell_classes(cell: GridCell) -> str:
    """The classes of a cell: its state, and for a number how far off it is."""
    if cell.state not in ("wrong", "right"):
        return cell.state
    error = float("inf") if cell.error is None else cell.error
    steps = _WRONG_SHADES if cell.state == "wrong" else _RIGHT_SHADES
    return f"{cell.state} shade{next((shade for floor, shade in steps if error >= floor), 3)}"


def _get_column_class(column: str) -> str:
    return "last" if column == COTANGENT else ""


def render_numbers(run: Run) -> Markup:
    """Every number behind a heat map, as a table."""
    grid = DerivativeGrid.from_run(run)
    heads = ("", "state", "norm", "oracle\u2019s norm", "relative error")
    head = tag("tr", *(tag("th", name, scope="col") if name else tag("td") for name in heads))
    rows = (
        tag(
            "tr",
            tag("th", cell.name, scope="row"),
            tag("td", render_sign(STATES[cell.state][0]), " ", cell.state, class_=f"state {cell.state}"),
            *(tag("td", figure, class_="number") for figure in _format_cell_figures(cell)),
        )
        for cell in grid.iter_cells()
    )
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="numbers")
    body = tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Numbers")
    return tag("details", tag("summary", "Norms and errors"), body, class_="more")


def render_small_map(grid: DerivativeGrid) -> Markup:
    """The Hessian and cotangent blocks as signs of a few pixels each, for a line in a list."""
    width, height = _STEP * len(grid.columns), _STEP * len(grid.rows)
    signs = [
        _render_small_cell(cell, _STEP * x, _STEP * y)
        for y, row in enumerate(grid.rows)
        for x, column in enumerate(grid.columns)
        if (cell := grid.blocks.get((row, column)))
    ]
    return tag(
        "svg",
        *signs,
        class_="small",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"Blocks: {grid.summarise_states()}",
    )


def _render_small_cell(cell: GridCell, x: int, y: int) -> Markup:
    """A full square is missing, a triangle wrong, a dot right, a dash zero, an empty square unclear."""
    far, middle = _SQUARE, _SQUARE / 2
    shapes = {
        "missing": f"M{x} {y}h{far}v{far}h-{far}z",
        "wrong": f"M{x} {y + far}h{far}l-{middle} -{far}z",
        "right": f"M{x + middle} {y + middle - 2}a2 2 0 1 0 .01 0z",
        "zero": f"M{x + 2} {y + middle}h{far - 4}",
        "unclear": f"M{x + 1} {y + 1}h{far - 2}v{far - 2}h-{far - 2}z",
    }
    return tag("path", d=shapes[cell.state], class_=cell.state)


def render_legend() -> Markup:
    """What the signs of the heat maps mean."""
    entries = (
        tag("li", tag("span", render_sign(glyph), " ", state, class_=f"key {state}"), " ", meaning)
        for state, (glyph, meaning) in STATES.items()
    )
    return tag("ul", join_children(*entries), class_="legend")
