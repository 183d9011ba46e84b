"""A file that is no longer what its suspects were found in is not run, and the reason says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.support.kept_workers import keep_workers
from theria_lint.confirm.confirm import Confirmation, ConfirmSettings, confirm_suspects
from theria_lint.model import SourceFile
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.rules.loader import load_rules
from theria_lint.static.scan import scan_source
from theria_lint.static.targets import find_targets

CUT = "def attention(q, k, v):\n    return (q @ k.mT).softmax(-1).detach() @ v\n"
WHOLE = "def attention(q, k, v):\n    return (q @ k.mT).softmax(-1) @ v\n"
IMPORTING = "import torch\nfrom other import attention as attend\n\n\n" + WHOLE.replace(
    "return", "return attend(q, k, v) +"
)


def source_file(path: Path, source: str) -> SourceFile:
    text = f"import torch\n\n\n{source}"
    path.write_bytes(text.replace("\n", "\r\n").encode())
    return SourceFile(str(path), text, scan_source(str(path), text, load_rules()), find_targets(str(path), text))


def confirm(files: Sequence[SourceFile]) -> Confirmation:
    with keep_workers():
        return confirm_suspects(files, ConfirmSettings(device="cpu"))


def test_a_file_that_changes_after_it_was_checked_is_not_run(tmp_path: Path) -> None:
    file = source_file(tmp_path / "kernel.py", CUT)
    assert confirm([file]).findings[0].disposition == "confirmed"
    (tmp_path / "kernel.py").write_text(f"import torch\n\n\n{WHOLE}")
    (finding,) = confirm([file]).findings
    assert finding.disposition == "unconfirmed"
    changed = Reason(ReasonCode.FILE_CHANGED, {"file": "kernel.py"})
    assert finding.reason == Reason(ReasonCode.TARGET_NOT_RUN, {"target": "attention", "reason": changed})


def test_a_file_that_it_imports_counts_too(tmp_path: Path) -> None:
    files = [source_file(tmp_path / "other.py", CUT), source_file(tmp_path / "kernel.py", IMPORTING)]
    (tmp_path / "other.py").write_text("import torch\n\n\n" + CUT.replace("detach", "contiguous"))
    results = confirm(files).targets
    changed = Reason(ReasonCode.FILE_CHANGED, {"file": "other.py"})
    assert [result.reason for result in results] == [changed] * len(results)
