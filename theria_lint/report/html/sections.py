"""The top of the page: what it amounts to, verdict by verdict, and how it was found out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from difflib import unified_diff
from typing import Any

from theria.verdicts import COTANGENT, Verdict, variable
from theria_lint.model import Disposition, Finding, Rewrite, Run, TargetResult
from theria_lint.report.grid import Cell, Grid
from theria_lint.report.html.markup import (
    DISPOSITIONS,
    STATES,
    VERDICTS,
    Markup,
    badge,
    facts,
    joined,
    located,
    prose,
    sign,
    tag,
)
from theria_lint.report.html.page import Index, listed
from theria_lint.report.html.source_view import excerpt, line_link
from theria_lint.report.style import counted, place
from theria_lint.report.summary import is_accepted, unexplained_targets
from theria_lint.result import LintError, Report


def overview(report: Report) -> Markup:
    """The sentence to remember, the verdicts, the run."""
    return joined(
        tag("h2", headline(report), class_="headline", id="overview-title"),
        _verdicts(report),
        _run(report),
        _notes(report),
    )


def headline(report: Report) -> str:
    """What the reader came for, in one sentence."""
    verdicts = [result.verdict for result in report.targets]
    files, suspects, targets = (
        counted(count, noun)
        for count, noun in ((report.files, "file"), (len(report.findings), "suspect"), (len(verdicts), "target"))
    )
    judged = sum(verdict is not Verdict.INCONCLUSIVE for verdict in verdicts)
    if not verdicts:
        return f"Nothing was run: {suspects} in {files}." if report.findings else f"No attention code found in {files}."
    if not judged:
        return f"None of {targets} could be judged."
    unsafe = sum(verdict.unsafe for verdict in verdicts)
    if not unsafe:
        return f"No target breaks when it is differentiated twice; {judged} of {targets} judged."
    return f"{unsafe} of {targets} {'breaks' if unsafe == 1 else 'break'} when differentiated twice; {_blame(report)}."


def _blame(report: Report) -> str:
    confirmed = [finding.suspect for finding in report.findings if finding.disposition is Disposition.CONFIRMED]
    lines = len({(suspect.path, suspect.cell, suspect.span.line) for suspect in confirmed})
    if not lines:
        return "no suspect explains it"
    alone = len(unexplained_targets(report))
    others = f", and {counted(alone, 'target')} {'stays' if alone == 1 else 'stay'} unexplained" if alone else ""
    return f"{counted(lines, 'line')} {'is' if lines == 1 else 'are'} to blame{others}"


def _verdicts(report: Report) -> Markup | None:
    counts = Counter(result.verdict for result in report.targets)
    if not counts:
        return None
    tiles = (
        tag("li", tag("strong", sign(VERDICTS[v][0]), " ", str(counts[v])), tag("span", v.value, class_="name"),
            tag("span", VERDICTS[v][1], class_="soft"), class_=f"tile {v.value}{'' if counts[v] else ' none'}")
        for v in Verdict
    )  # fmt: skip
    return joined(_bar(counts), tag("ul", joined(*tiles), class_="tiles"))


def _bar(counts: Counter[Verdict]) -> Markup:
    """The share of each verdict; the tiles under it say the same in words."""
    total, pieces, at = sum(counts.values()), [], 0
    for verdict in Verdict:
        if counts[verdict]:
            pieces.append(tag("rect", x=at, y=0, width=counts[verdict], height=1, class_=verdict.value))
            at += counts[verdict]
    return tag("svg", *pieces, class_="bar", viewBox=f"0 0 {total} 1", preserveAspectRatio="none", aria_hidden="true")


def _run(report: Report) -> Markup:
    ran = report.environment
    silenced = [(report.ignored, "by ignore comments"), (report.baselined, "by the baseline")]
    versions = [("Python", ran.python), ("torch", ran.torch or "missing"), ("triton", ran.triton or "missing"),
                ("device", ran.device or "none")] if ran.python else []  # fmt: skip
    return facts(
        ("files", str(report.files)),
        ("suspects", str(len(report.findings))),
        ("silenced", ", ".join(f"{count} {how}" for count, how in silenced if count) or None),
        *versions,
        ("protections that held", ", ".join(name for name, why in report.protections.items() if why is None)),
        ("protections missing", "; ".join(f"{name} ({why})" for name, why in report.protections.items() if why)),
    )


def _notes(report: Report) -> Markup | None:
    cut = ["The run was ended before every target had run."] if report.interrupted else []
    notes = [*cut, *report.notes]
    return tag("ul", *(tag("li", prose(note)) for note in notes), class_="notes") if notes else None


def unchecked(report: Report) -> Markup:
    """What kept a file from being checked, and ignore comments that cover nothing."""
    notices = [*_notices(report.errors, "error"), *_notices(report.unused_ignores, "warning")]
    return tag("ul", *notices, class_="notices")


def _notices(notices: Iterable[LintError], kind: str) -> Iterator[Markup]:
    for notice in notices:
        where = located(place(notice.path, notice.cell, notice.line, None))
        yield tag("li", tag("span", kind, class_=f"badge {kind}"), where, tag("span", prose(notice.message)))


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
        tag("div", *_target_body(index, result, alone), class_="body"),
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


def _target_body(index: Index, result: TargetResult, alone: bool) -> Iterator[Markup | None]:
    yield tag("p", prose(result.reason), class_="message")
    if alone and not result.blames_others:
        yield tag("p", "No suspect explains it: look at what this target calls in other files and libraries.")
    yield _target_links(index, result)
    if result.runs:
        yield tag("div", *(_run_section(run, result) for run in result.runs), class_="runs")


def _target_links(index: Index, result: TargetResult) -> Markup:
    target = result.target
    kind = tag("li", target.kind.value.replace("_", " "), class_="soft")
    links = [line_link(index, target.path, None, target.line, "In the source")]
    links += [_to_finding(index, finding) for finding in index.findings_of(result)]
    return tag("ul", kind, *(tag("li", link) for link in links if link), class_="links")


def _to_finding(index: Index, finding: Finding) -> Markup:
    suspect = finding.suspect
    words = (tag("code", suspect.rule), f" on line {suspect.span.line} ", badge(finding.disposition))
    return tag("a", *words, href=f"#{index.finding(finding)}")


def _run_section(run: Run, result: TargetResult) -> Markup:
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


# From which relative error on a block that is wrong, or right, gets which shade.
_WRONG = ((0.1, 3), (1e-2, 2), (0.0, 1))
_RIGHT = ((1e-4, 3), (1e-8, 2), (0.0, 1))
# The size of a square of the small map, and the space from one to the next.
_SQUARE, _STEP = 9, 11


def heat_map(grid: Grid) -> Markup:
    """A row for each gradient g_a: its own error, then that of its derivative by each input and by the cotangent W."""
    head = tag(
        "tr",
        tag("td"),
        *([tag("th", "gradient", scope="col", class_="first")] if grid.gradients else []),
        *(tag("th", f"\u2202/\u2202{variable(name)}", scope="col", class_=_place(name)) for name in grid.columns),
    )
    rows = (tag("tr", tag("th", f"g_{name}", scope="row"), *_cells(grid, name)) for name in grid.rows)
    caption = tag("caption", "Relative errors of the gradients g and of their derivatives", class_="hidden")
    table = tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="map")
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Heat map")


def _cells(grid: Grid, row: str) -> Iterator[Markup]:
    if grid.gradients:
        yield _cell(grid.gradients.get(row), "first")
    for column in grid.columns:
        yield _cell(grid.blocks.get((row, column)), _place(column))


def _cell(cell: Cell | None, place: str) -> Markup:
    if cell is None:
        return tag("td", class_=place)
    glyph, meaning = STATES[cell.state]
    says = f"{cell.name}: {cell.state}, {meaning}; {_numbers(cell)}"
    return tag("td", sign(glyph), " ", cell.label, class_=f"{place} {_shade(cell)}".strip(), title=says)


def _numbers(cell: Cell) -> str:
    norm, oracle_norm, error = _figures(cell)
    norms = f"norm {norm}, oracle's {oracle_norm}, " if cell.has_norms else ""
    return f"{norms}relative error {error}"


def _figures(cell: Cell) -> tuple[str, str, str]:
    """The norm (None where autograd gave no tensor), the oracle's, the relative error: of a gradient only the last."""
    error = "not known" if cell.error is None else f"{cell.error:.3g}"
    if cell.oracle_norm is None:
        return "", "", error
    return "None" if cell.norm is None else f"{cell.norm:.3g}", f"{cell.oracle_norm:.3g}", error


def _shade(cell: Cell) -> str:
    """The classes of a cell: its state, and for a number how far off it is."""
    if cell.state not in ("wrong", "right"):
        return cell.state
    error = float("inf") if cell.error is None else cell.error
    steps = _WRONG if cell.state == "wrong" else _RIGHT
    return f"{cell.state} shade{next((shade for floor, shade in steps if error >= floor), 3)}"


def _place(column: str) -> str:
    return "last" if column == COTANGENT else ""


def numbers(run: Run) -> Markup:
    """Every number behind a heat map, as a table."""
    grid = Grid.of(run)
    heads = ("", "state", "norm", "oracle\u2019s norm", "relative error")
    head = tag("tr", *(tag("th", name, scope="col") if name else tag("td") for name in heads))
    rows = (
        tag(
            "tr",
            tag("th", cell.name, scope="row"),
            tag("td", sign(STATES[cell.state][0]), " ", cell.state, class_=f"state {cell.state}"),
            *(tag("td", figure, class_="number") for figure in _figures(cell)),
        )
        for cell in grid.cells()
    )
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="numbers")
    body = tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Numbers")
    return tag("details", tag("summary", "Norms and errors"), body, class_="more")


def small_map(grid: Grid) -> Markup:
    """The Hessian and cotangent blocks as signs of a few pixels each, for a line in a list."""
    width, height = _STEP * len(grid.columns), _STEP * len(grid.rows)
    signs = [
        _small(cell, _STEP * x, _STEP * y)
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
        aria_label=f"Blocks: {grid.summary()}",
    )


def _small(cell: Cell, x: int, y: int) -> Markup:
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


def legend() -> Markup:
    """What the signs of the heat maps mean."""
    entries = (
        tag("li", tag("span", sign(glyph), " ", state, class_=f"key {state}"), " ", meaning)
        for state, (glyph, meaning) in STATES.items()
    )
    return tag("ul", joined(*entries), class_="legend")
