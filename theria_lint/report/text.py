"""``--output-format text``: for people on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from theria_lint.report.style import TerminalStyle, escape_unprintable, format_count, inert, wrap_text
from theria_lint.report.summary import is_out_of_time

if TYPE_CHECKING:
    from theria_lint.model import TargetResult
    from theria_lint.report import ReportView
    from theria_lint.result import LintReport


def render(report: LintReport, view: ReportView) -> str:
    """Findings with source and evidence, targets that stand for themselves, errors, and a summary."""
    return inert(_text(report, view, TerminalStyle(view.colour)))


def _text(report: LintReport, view: ReportView, style: TerminalStyle) -> str:
    if view.statistics:
        return _format_statistics(report)
    facts = (_format_environment(report) if view.verbose else "") + _format_protections(report, view)
    facts += _format_durations(report, view)
    summary = style.paint_text("\n".join(wrap_text(_format_summary(report), "", view.width)), bold=True) + "\n" + facts
    if not (report.findings or report.targets or report.errors or report.unused_ignores):
        return summary
    from theria_lint.report.text_blocks import iter_blocks

    return "".join(f"{block}\n\n" for block in iter_blocks(report, view, style)) + summary


def _format_summary(report: LintReport) -> str:
    parts = [
        f"{format_count(report.files, 'file')}, {format_count(len(report.findings), 'suspect')}"
        f"{_format_dispositions(report)}"
    ]
    for results, noun in ((report.defaults, "target"), (report.configurations, "other configuration")):
        if results:
            parts.append(f"{format_count(len(results), noun)}{_format_verdicts(results)}")
    if report.unmeasured is None:
        parts.append("targets were not counted")
    elif report.unmeasured:
        parts.append(f"{format_count(report.unmeasured, 'target')}, not measured")
    counts = [(len(report.errors), "error"), (len(report.unused_ignores), "unused ignore comment")]
    parts += [format_count(count, noun) for count, noun in counts if count]
    silenced = [(report.ignored, "silenced by ignore comments"), (report.baselined, "accepted by the baseline")]
    parts += [f"{count} {what}" for count, what in silenced if count]
    parts += ["interrupted before all had run"] if report.interrupted else []
    parts += ["out of time before all had run"] if is_out_of_time(report) else []
    return "; ".join(parts) + "."


def _format_durations(report: LintReport, view: ReportView) -> str:
    """How long the run took and, where that is wanted, its slowest targets."""
    if view.durations is None and not (view.verbose and view.elapsed):
        return ""
    lines = [f"Took {view.elapsed:.1f} s."]
    if view.durations is not None and not report.seconds:
        lines.append("No target was run: nothing had to be, or all results were kept from earlier runs.")
    for (path, symbol), seconds in list_slowest(report, view.durations):
        lines.append(f"{seconds:>8.1f} s  {path}: {symbol}")
    return "".join(escape_unprintable(line) + "\n" for line in lines)


def list_slowest(report: LintReport, wanted: int | None) -> list[tuple[tuple[str, str], float]]:
    """The targets that took longest, the slowest first: so many, all for 0, none for None."""
    if wanted is None:
        return []
    slowest = sorted(report.seconds.items(), key=lambda item: (-item[1], item[0]))
    return slowest[:wanted] if wanted else slowest


def _format_environment(report: LintReport) -> str:
    ran = report.environment
    if ran.python is None:
        return ""
    versions = [f"Python {ran.python}", f"torch {ran.torch or 'missing'}", f"triton {ran.triton or 'missing'}"]
    return escape_unprintable(f"Run with {', '.join(versions)}, on {ran.device or 'no device'}.") + "\n"


def _format_protections(report: LintReport, view: ReportView) -> str:
    """What held the code that was run in its place; without --verbose, only what did not hold."""
    held = [name for name, refusal in report.protections.items() if refusal is None]
    lines = [f"Protections that held: {', '.join(held)}."] if held and view.verbose else []
    if len(held) < len(report.protections):
        from theria_lint.report.sentences import say_lacking_protections  # nor are its words loaded where all held

        lines.append(say_lacking_protections(report.protections))
    return "".join(escape_unprintable(line) + "\n" for line in lines)


def _format_dispositions(report: LintReport) -> str:
    if not report.findings:
        return ""
    from theria_lint.model import Disposition

    found = [finding.disposition for finding in report.findings]
    return _join_counts(f"{found.count(kind)} {kind.value}" for kind in Disposition if kind in found)


def _format_verdicts(results: Iterable[TargetResult]) -> str:
    from theria.verdicts import Verdict

    found = [result.verdict for result in results]
    return _join_counts(f"{found.count(verdict)} {verdict.value}" for verdict in Verdict if verdict in found)


def _join_counts(items: Iterable[str]) -> str:
    return f": {', '.join(items)}"


def _format_statistics(report: LintReport) -> str:
    from collections import Counter

    counts = Counter((item.suspect.rule, item.suspect.name, item.disposition.value) for item in report.findings)
    rows = [
        escape_unprintable(f"{count:>6}  {rule} {name}: {kind}") for (rule, name, kind), count in sorted(counts.items())
    ]
    return "".join(row + "\n" for row in rows)
