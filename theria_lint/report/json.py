"""``--output-format json``: schema 1, as ``docs/report-1.schema.json`` gives it.

Lines and columns are 1-based; a finding or error in a notebook has ``cell`` beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from theria.verdicts import Verdict
from theria_lint import __version__
from theria_lint.model import Disposition, Finding, Rewrite, Run, TargetResult
from theria_lint.reasons import Reason
from theria_lint.report import ReportView
from theria_lint.report.patch import list_edits
from theria_lint.report.sentences import compose_message
from theria_lint.report.style import as_json
from theria_lint.report.text import list_slowest
from theria_lint.result import LintError, LintReport

REPORT_SCHEMA = 1


def render(report: LintReport, view: ReportView) -> str:
    """One JSON object; NaN and infinities, which JSON lacks, are null."""
    document = build_document(report)
    if view.durations is not None:
        document["durations"] = _encode_durations(report, view)
    return as_json(_replace_nonfinite(document)) + "\n"


def build_document(report: LintReport) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "schema": REPORT_SCHEMA,
        "version": __version__,
        "environment": report.environment._asdict(),
        "summary": _encode_summary(report),
        "findings": [_encode_finding(finding, report) for finding in report.findings],
        "targets": [_encode_target(result, report.configurations) for result in report.defaults],
        "errors": [_encode_error(error) for error in report.errors],
    }


def _encode_durations(report: LintReport, view: ReportView) -> dict[str, Any]:
    targets = list_slowest(report, view.durations)
    return {
        "seconds": round(view.elapsed, 3),
        "targets": [{"path": path, "symbol": symbol, "seconds": round(took, 3)} for (path, symbol), took in targets],
    }


def _encode_summary(report: LintReport) -> dict[str, int | None]:
    counts = {kind.value: sum(item.disposition is kind for item in report.findings) for kind in Disposition}
    seen = None if report.unmeasured is None else len(report.defaults) + report.unmeasured
    measured = sum(result.verdict is not Verdict.INCONCLUSIVE for result in report.defaults)
    targets = {"targets": seen, "measured": measured}
    return {"files": report.files, "suspects": len(report.findings), **counts, **targets, "errors": len(report.errors)}


def _encode_finding(finding: Finding, report: LintReport) -> dict[str, Any]:
    suspect = finding.suspect
    return {
        "rule": suspect.rule,
        "name": suspect.name,
        "severity": suspect.severity,
        "path": suspect.path,
        **_encode_cell(suspect.cell),
        "line": suspect.span.line,
        "column": suspect.span.column,
        "end_line": suspect.span.end_line,
        "end_column": suspect.span.end_column,
        "message": suspect.message,
        "symbol": suspect.symbol,
        "disposition": finding.disposition.value,
        "verdict": finding.verdict.value if finding.verdict else None,
        **_encode_reason(finding.reason),
        "remedy": suspect.remedy,
        "rewrite": _encode_rewrite(finding.rewrite, report),
    }


def _encode_reason(reason: Reason | None) -> dict[str, Any]:
    """The words for people, the code and the data for programs."""
    known = reason.to_json() if reason else {"code": None, "data": {}}
    told = compose_message(reason)
    return {
        "reason": told.head,
        "reason_notes": list(told.notes),
        "help": list(told.helps),
        "reason_code": known["code"],
        "data": known["data"],
    }


def _encode_rewrite(rewrite: Rewrite | None, report: LintReport) -> dict[str, Any] | None:
    """The lines that were changed when the target was seen to be safe; ``end_line`` is exclusive."""
    if rewrite is None:
        return None
    return {"symbol": rewrite.symbol, "edits": [asdict(edit) for edit in list_edits(rewrite, report.sources)]}


def _encode_cell(cell: int | None) -> dict[str, int]:
    return {} if cell is None else {"cell": cell}


def _encode_target(result: TargetResult, configurations: Iterable[TargetResult]) -> dict[str, Any]:
    """A target as its defaults have it, and what it is with a flag turned."""
    target = result.target
    place = (target.path, target.symbol)
    turned = [other for other in configurations if (other.target.path, other.target.symbol) == place]
    return {
        "path": target.path,
        "line": target.line,
        "symbol": target.symbol,
        "kind": target.kind.value,
        **_encode_verdict(result),
        "configurations": [{"configuration": other.configuration, **_encode_verdict(other)} for other in turned],
    }


def _encode_verdict(result: TargetResult) -> dict[str, Any]:
    return {
        "verdict": result.verdict.value,
        **_encode_reason(result.reason),
        "runs": [_encode_run(run) for run in result.runs],
    }


def _encode_run(run: Run) -> dict[str, Any]:
    return {
        "backend": run.backend,
        "device": run.device,
        "dtype": run.dtype,
        "oracle": run.oracle,
        "status": run.status,
        "verdict": run.verdict.value,
        **_encode_reason(run.reason),
        "error": run.error,
        "gradients": run.gradients,
        "blocks": run.blocks,
        "states": run.states,
        "maml": run.maml,
        "notes": [_encode_reason(note) for note in run.notes],
    }


def _encode_error(error: LintError) -> dict[str, Any]:
    told = _encode_reason(error.reason)
    return {"path": error.path, **_encode_cell(error.cell), "line": error.line, "message": told["reason"], **told}


def _replace_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
