"""Runs the whole line, static and dynamic, on source text or files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from theria_lint.dynamic import Confirmation, ConfirmSettings, confirm
from theria_lint.model import Finding, SourceFile, TargetResult
from theria_lint.static import find_targets, load_rules, scan


def confirm_files(paths: Iterable[Path], **settings: object) -> Confirmation:
    rules = load_rules()
    files = []
    for path in paths:
        source = path.read_text()
        files.append(SourceFile(str(path), source, scan(str(path), source, rules), find_targets(str(path), source)))
    return confirm(files, ConfirmSettings(**settings))  # type: ignore[arg-type]


def confirm_source(folder: Path, source: str, **settings: object) -> Confirmation:
    path = folder / "kernel.py"
    path.write_text(source)
    return confirm_files([path], **settings)


def finding_of(found: Confirmation, rule: str, line: int | None = None) -> Finding:
    (finding,) = [f for f in found.findings if f.suspect.rule == rule and line in (None, f.suspect.span.line)]
    return finding


def target_of(found: Confirmation, symbol: str) -> TargetResult:
    (target,) = [t for t in found.targets if t.target.symbol == symbol]
    return target
