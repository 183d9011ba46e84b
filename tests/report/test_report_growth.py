"""Reports of many findings and targets: no format asks of each target what it asks of each finding."""

from __future__ import annotations

import subprocess
import sys
from difflib import unified_diff

import pytest

from theria_lint.config import FORMATS
from theria_lint.report.patch import diff_texts, iter_diff_rows

# Every target runs the helper that holds every finding, half of them in one line.
RENDER = """
import sys
from dataclasses import replace
from theria_lint.config import Settings
from theria_lint.model import *
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report import ReportView, render
from theria_lint.report.patch import make_patch
from theria_lint.result import Environment, LintReport, ScannedFile
from theria_lint.suppress.apply import suppress_findings

COUNT = 3_000
why = Reason(ReasonCode.SAFE_WITHOUT_THE_OTHERS, {"target": "attention"})
other = Reason(ReasonCode.NO_TARGET)
row = "    x = (" + "q.detach(), " * COUNT + "'漢')\\n"
source = "def helper(q):\\n" + "    q = q.detach()\\n    q = q + q\\n" * COUNT + row
places = [Span(2 * n + 2, 11, 2 * n + 2, 19) for n in range(COUNT)]
places += [Span(2 * COUNT + 2, 13 + 12 * n, 2 * COUNT + 2, 21 + 12 * n) for n in range(COUNT)]
rewrite = Rewrite("attention", (("a.py", source.replace(".detach()", "")),))
suspects = [
    Suspect("THL002", "detach", "error", "a.py", place, "helper", "cuts", "Do not.", (place.line, place.line), None)
    for place in places
]
findings = [
    Finding(s, Disposition.CONFIRMED, Verdict.SAFE, why, None if n else rewrite) for n, s in enumerate(suspects)
]
run = Run("self", "cpu", "float64", "reference", "OK", Verdict.FIRST_ORDER_ONLY, why)
reaches = frozenset({"helper"})
results = [
    TargetResult(Target("a.py", 1, f"f{n}", TargetKind.FUNCTION, reaches), Verdict.FIRST_ORDER_ONLY, other, (run,))
    for n in range(COUNT)
]
report = LintReport(Environment(), 1, tuple(findings), tuple(results), (), sources={("a.py", None): source})
report = suppress_findings(report, [ScannedFile("a.py", tuple(suspects), (), {None: source})], Settings(), ["a.py"])
print(len(render(report, sys.argv[1], ReportView(width=100))))
"""


@pytest.mark.parametrize("name", FORMATS)
def test_many_findings_that_many_targets_share_are_rendered(name: str) -> None:
    found = subprocess.run([sys.executable, "-c", RENDER, name], capture_output=True, text=True, timeout=100)
    assert found.returncode == 0, found.stderr
    assert 100_000 < int(found.stdout) < 80_000_000


def test_texts_of_lines_that_are_alike_are_compared() -> None:
    code = (
        "from theria_lint.report.patch import diff_texts\n"
        "before = 'q = q.detach()\\nq = q @ k\\n' * 5_000\n"
        "print(len(diff_texts('a.py', before, before.replace('.detach()', ''))))\n"
        "print(len(diff_texts('a.py', before, 'import torch\\n' + before.replace('.detach()', '') + 'x\\n')))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert found.stdout.split() == ["5000", "1"], found.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\nb\nc\n", "a\nx\nc\n"),
        ("a\nb\nc\n", "import a\na\nb\nc\n"),
        ("a\nb\na\nb\n", "a\nb\n"),
        ("", "a\n"),
        ("a\nb", "a\nb\n"),
        ("x\ny\nz\n", "z\ny\nx\n"),
        ("".join(f"l{i % 7}\n" for i in range(900)), "".join(f"l{i % 5}\n" for i in range(800))),
        ("".join(f"l{i % 7}\n" for i in range(900)), "".join(f"l{i % 5}\n" for i in range(900))),
    ],
)
def test_edits_turn_one_text_into_the_other(before: str, after: str) -> None:
    lines = before.splitlines(keepends=True)
    for edit in reversed(diff_texts("a.py", before, after)):
        lines[edit.line - 1 : edit.end_line - 1] = edit.lines
    assert "".join(lines) == after


def test_a_diff_is_what_the_library_makes_of_the_same_changes() -> None:
    before = "".join(f"line {number}\n" for number in range(60))
    after = before.replace("line 3\n", "").replace("line 9\n", "x\ny\n").replace("line 40\n", "z\n") + "end\n"
    wanted = list(unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm=""))[2:]
    assert list(iter_diff_rows("a.py", before, after, 2)) == wanted
