"""Runs the whole line, static and dynamic, on source text or files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.support.kept_workers import keep_workers
from theria_lint.config import Settings
from theria_lint.confirm.confirm import Confirmation, ConfirmSettings, confirm_suspects
from theria_lint.model import Finding, SourceFile, TargetResult
from theria_lint.result import Progress, ScannedFile
from theria_lint.rules.loader import load_rules
from theria_lint.static.cross_file import link_calls
from theria_lint.static.scan import scan_source
from theria_lint.static.targets import find_targets


def confirm_files(paths: Iterable[Path], progress: Progress | None = None, **settings: object) -> Confirmation:
    rules = load_rules()
    files = []
    for path in paths:
        source = path.read_text()
        targets = tuple(find_targets(str(path), source))
        files.append(ScannedFile(str(path), tuple(scan_source(str(path), source, rules)), targets, {None: source}))
    if len(files) > 1:
        files = link_calls(files, [file.path for file in files], Settings(cache=False))
    sources = [SourceFile(file.path, file.texts[None], file.suspects, file.targets) for file in files]
    with keep_workers():
        return confirm_suspects(sources, ConfirmSettings(**settings), progress)  # type: ignore[arg-type]


def confirm_source(folder: Path, source: str, **settings: object) -> Confirmation:
    path = folder / "kernel.py"
    path.write_text(source)
    return confirm_files([path], **settings)


def finding_of(found: Confirmation, rule: str, line: int | None = None) -> Finding:
    (finding,) = [f for f in found.findings if f.suspect.rule == rule and line in (None, f.suspect.span.line)]
    return finding


def target_of(found: Confirmation, symbol: str) -> TargetResult:
    (target,) = [t for t in found.targets if t.name == symbol]
    return target
