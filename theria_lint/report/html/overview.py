"""The top of the page: what it amounts to, verdict by verdict, and how it was found out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from theria.verdicts import Verdict
from theria_lint.model import Disposition, LintError, Report
from theria_lint.report.html.markup import Markup, joined, prose, tag
from theria_lint.report.html.words import VERDICTS, facts, located, sign
from theria_lint.report.outcome import unexplained_targets
from theria_lint.report.style import counted, place


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
