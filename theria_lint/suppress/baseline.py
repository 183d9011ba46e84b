"""The baseline: accepted findings in a JSON file that can be reviewed.

An entry names path, rule, symbol and the stripped text of the line, not its number, so that moved lines still match;
a count says how many equal ones there are. Unsafe targets that no suspect explains are kept by path and symbol. What
was cleared is kept apart: it is accepted where nothing is run, as in a hook, and nowhere else.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from theria_lint.errors import ReadError, UserError
from theria_lint.model import Disposition, Finding, TargetResult
from theria_lint.reasons import ReasonCode
from theria_lint.report.style import as_json, get_stripped_row
from theria_lint.sources.atomic_write import write_text
from theria_lint.sources.source_text import read_up_to

BASELINE_SCHEMA = 1
_LARGEST = 64 * 1024 * 1024
_PARTS = ("path", "rule", "symbol", "text")
_NOT_RUN = (ReasonCode.NOT_CONFIRMED, ReasonCode.NO_WORKER, ReasonCode.CONFIRMING_OFF, ReasonCode.UNSAVED)
BaselineKey = tuple[str, str, str, str]
SourceTexts = Mapping[tuple[str, int | None], str]


@dataclass
class Baseline:
    """How many findings of each key are accepted, and which targets; paths count from ``directory``."""

    directory: str
    findings: Counter[BaselineKey] = field(default_factory=Counter)
    cleared: Counter[BaselineKey] = field(default_factory=Counter)
    targets: set[tuple[str, str]] = field(default_factory=set)

    def consume_acceptance(self, finding: Finding, sources: SourceTexts) -> bool:
        """Whether ``finding`` is accepted; uses up one of its count. Cleared ones need no acceptance."""
        if finding.disposition is Disposition.CLEARED:
            return False
        key = _make_finding_key(finding, sources, self.directory)
        unrun = finding.reason.code in _NOT_RUN
        counts = next((found for found in (self.findings, self.cleared)[: 1 + unrun] if found[key] > 0), None)
        if counts is None:
            return False
        counts[key] -= 1
        return True

    def accepts_target(self, result: TargetResult) -> bool:
        """Whether an unsafe target is accepted."""
        return _make_target_key(result, self.directory) in self.targets

    def count_stale(self, files: Iterable[str]) -> int:
        """How many findings accepted in ``files`` were not seen there."""
        places = {_make_baseline_path(path, self.directory) for path in files}
        return sum(count for (place, *_), count in self.findings.items() if place in places)


def read_baseline(path: str) -> Baseline:
    """Raise UserError for a file that is missing or is not a baseline."""
    try:
        document = json.loads(read_up_to(_LARGEST, path))
        if document["schema"] != BASELINE_SCHEMA:
            raise UserError(f"{path}: is of schema {document['schema']}; write it again with --write-baseline.")
        found = Baseline(_get_directory(path))
        for entry in document["findings"]:
            found.findings[_read_key(entry)] += int(entry["count"])
        for entry in document.get("cleared", ()):
            found.cleared[_read_key(entry)] += int(entry["count"])
        found.targets.update((entry["path"], entry["symbol"]) for entry in document["targets"])
    except ReadError as error:
        raise UserError(path, error) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise UserError(f"{path}: is not a baseline; write one with --write-baseline.") from None
    return found


def write_baseline(
    path: str, findings: Iterable[Finding], targets: Iterable[TargetResult], sources: SourceTexts
) -> int:
    """Accept all ``findings``, cleared ones where nothing is run, and the unsafe ``targets``.

    Returns how many findings are accepted in any run.
    """
    directory = _get_directory(path)
    kept = [finding for finding in findings if finding.disposition is not Disposition.CLEARED]
    cleared = [finding for finding in findings if finding.disposition is Disposition.CLEARED]
    document: dict[str, Any] = {"schema": BASELINE_SCHEMA}
    document["findings"] = _list_entries(kept, sources, directory)
    if cleared:
        document["cleared"] = _list_entries(cleared, sources, directory)
    unsafe = sorted({_make_target_key(result, directory) for result in targets if result.verdict.unsafe})
    document["targets"] = [{"path": place, "symbol": symbol} for place, symbol in unsafe]
    write_text(path, as_json(document) + "\n")
    return len(kept)


def _list_entries(findings: Iterable[Finding], sources: SourceTexts, directory: str) -> list[dict[str, Any]]:
    counts = Counter(_make_finding_key(finding, sources, directory) for finding in findings)
    return [{**dict(zip(_PARTS, key, strict=True)), "count": counts[key]} for key in sorted(counts)]


def _read_key(entry: Mapping[str, Any]) -> BaselineKey:
    path, rule, symbol, text = (entry[part] for part in _PARTS)
    return path, rule, symbol, text


def _get_directory(path: str) -> str:
    return os.path.realpath(os.path.dirname(path))


def _make_baseline_path(path: str, directory: str) -> str:
    """A path from the directory of a baseline, on whatever way the two are reached."""
    folder, name = os.path.split(path)
    return os.path.relpath(os.path.join(os.path.realpath(folder), name), directory).replace(os.sep, "/")


def _make_finding_key(finding: Finding, sources: SourceTexts, directory: str) -> BaselineKey:
    suspect = finding.suspect
    text = get_stripped_row(sources.get((suspect.path, suspect.cell), ""), suspect.span.line)
    return _make_baseline_path(suspect.path, directory), suspect.rule, suspect.symbol, text


def _make_target_key(result: TargetResult, directory: str) -> tuple[str, str]:
    return _make_baseline_path(result.target.path, directory), result.name
