"""``--output-format text``: for people on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from theria_lint.report.style import Style, counted, inert, printable, wrapped

if TYPE_CHECKING:
    from theria_lint.report import View
    from theria_lint.result import Report


def render(report: Report, view: View) -> str:
    """Findings with source and evidence, targets that stand for themselves, errors, and a summary."""
    return inert(_text(report, view, Style(view.colour)))


def _text(report: Report, view: View, style: Style) -> str:
    if view.statistics:
        return _statistics(report)
    if view.quiet:
        from theria_lint.report import concise

        return concise.render(report, view)
    facts = (_environment(report) if view.verbose else "") + _protections(report, view)
    summary = style.paint("\n".join(wrapped(_summary(report), "", view.width)), bold=True) + "\n" + facts
    if not (report.findings or report.targets or report.errors or report.unused_ignores):
        return summary
    from theria_lint.report.text_blocks import blocks

    return "".join(f"{block}\n\n" for block in blocks(report, view, style)) + summary


def _summary(report: Report) -> str:
    parts = [f"{counted(report.files, 'file')}, {counted(len(report.findings), 'suspect')}{_dispositions(report)}"]
    if report.targets:
        parts.append(f"{counted(len(report.targets), 'target')}{_verdicts(report)}")
    counts = [(len(report.errors), "error"), (len(report.unused_ignores), "unused ignore comment")]
    parts += [counted(count, noun) for count, noun in counts if count]
    silenced = [(report.ignored, "silenced by ignore comments"), (report.baselined, "accepted by the baseline")]
    parts += [f"{count} {what}" for count, what in silenced if count]
    return "; ".join(parts) + "."


def _environment(report: Report) -> str:
    ran = report.environment
    if ran.python is None:
        return ""
    versions = [f"Python {ran.python}", f"torch {ran.torch or 'missing'}", f"triton {ran.triton or 'missing'}"]
    return printable(f"Run with {', '.join(versions)}, on {ran.device or 'no device'}.") + "\n"


def _protections(report: Report, view: View) -> str:
    """What held the code that was run in its place; without --verbose, only what did not hold."""
    held = [name for name, refusal in report.protections.items() if refusal is None]
    missing = [f"{name} ({refusal})" for name, refusal in report.protections.items() if refusal is not None]
    lines = [f"Protections that held: {', '.join(held)}."] if held and view.verbose else []
    lines += [f"Protections that this machine did not give: {'; '.join(missing)}."] if missing else []
    return "".join(printable(line) + "\n" for line in lines)


def _dispositions(report: Report) -> str:
    if not report.findings:
        return ""
    from theria_lint.model import Disposition

    found = [finding.disposition for finding in report.findings]
    return _listed(f"{found.count(kind)} {kind.value}" for kind in Disposition if kind in found)


def _verdicts(report: Report) -> str:
    from theria.verdicts import Verdict

    found = [result.verdict for result in report.targets]
    return _listed(f"{found.count(verdict)} {verdict.value}" for verdict in Verdict if verdict in found)


def _listed(items: Iterable[str]) -> str:
    return f": {', '.join(items)}"


def _statistics(report: Report) -> str:
    from collections import Counter

    counts = Counter((item.suspect.rule, item.suspect.name, item.disposition.value) for item in report.findings)
    rows = [printable(f"{count:>6}  {rule} {name}: {kind}") for (rule, name, kind), count in sorted(counts.items())]
    return "".join(row + "\n" for row in rows)
