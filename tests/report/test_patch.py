"""Several rewrites in one patch: what they share is in it once, what contradicts or cannot be is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from theria_lint.model import Disposition, Finding, Rewrite, Span, Suspect
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report.patch import make_patch
from theria_lint.result import Environment, LintReport

SOURCE = "a = 1\nb = 2\nc = 3\n"


def report(path: str, *texts: str) -> LintReport:
    """A finding for each text that a rewrite gives the file."""
    suspect = Suspect("THL002", "detach", "error", path, Span(1, 1, 1, 2), "f", "", "", (1, 1), "drop-call")
    findings = tuple(
        Finding(
            suspect,
            Disposition.CONFIRMED,
            None,
            Reason(ReasonCode.NOT_CONFIRMED),
            Rewrite(f"f{number}", ((path, text),)),
        )
        for number, text in enumerate(texts)
    )
    return LintReport(Environment(), 1, findings, (), (), sources={(path, None): SOURCE})


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = Path("k.py")
    file.write_text(SOURCE)
    return file


def changed(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\n") if line[:1] in b"+-" and line[:3] not in (b"+++", b"---", b"")]


def test_a_rewrite_adds_what_the_ones_before_it_lack(path: Path) -> None:
    text, left_out = make_patch(
        report("k.py", "A = 1\nb = 2\nc = 3\n", "A = 1\nb = 2\nC = 3\n", "a = 1\nB = 2\nc = 3\n")
    )
    assert changed(text) == [b"-a = 1", b"+A = 1", b"-c = 3", b"+C = 3", b"-b = 2", b"+B = 2"]
    assert text.startswith(b"With this change f1 was run, and is safe.\n--- a/k.py\n+++ b/k.py\n@@ -1,3 +1,3 @@\n")
    assert b" A = 1\n-b = 2\n+B = 2\n C = 3\n" in text
    assert left_out == []


def test_of_two_that_contradict_each_other_the_second_is_left_out(path: Path) -> None:
    text, left_out = make_patch(report("k.py", "A = 1\nb = 2\nc = 3\n", "Z = 1\nb = 2\nc = 3\n"))
    assert changed(text) == [b"-a = 1", b"+A = 1"]
    assert left_out == [
        "The rewrite that makes f1 safe is left out: it changes lines that another one changes; apply that first and "
        "lint again."
    ]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"a = 2\n", "k.py has changed since it was read"),
        (None, "k.py cannot be read: No such file or directory"),
        (SOURCE.replace("\n", "\r").encode(), "a carriage return alone"),
    ],
)
def test_a_file_that_cannot_be_patched_is_left_out(path: Path, data: bytes | None, told: str) -> None:
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    text, (sentence,) = make_patch(report("k.py", "A = 1\nb = 2\nc = 3\n"))
    assert text == b""
    assert told in sentence
