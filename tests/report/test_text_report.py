"""The text format as its reader meets it: maps of every shape, frames that fit, nothing that moves the cursor."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.sample_report import KERNEL, REPORT, told
from theria_lint.model import Rewrite, Run, Span, Target, TargetKind, TargetResult, Verdict
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report import ReportView, render
from theria_lint.report.grid import format_gradients, format_heatmap
from theria_lint.report.style import TerminalStyle, frame_source, measure_width, wrap_text

ROOT = Path(__file__).parents[2]
PLAIN = TerminalStyle(False)


def run_of(states: dict[str, str], error: float | None = 0.5) -> Run:
    """A run whose blocks and gradients are in the given states; what is missing has no norm, nor what is zero."""
    blocks = {
        key: {"norm": 0.0 if state in ("missing", "zero") else 2.0, "oracle_norm": 0.0 if state == "zero" else 2.0,
              "error": error}
        for key, state in states.items() if "," in key
    }  # fmt: skip
    errors = {key: error for key in states if "," not in key}
    return Run("self", "cpu", "float64", "reference", "OK", Verdict.SILENT_CORRUPTION, told("odd"), gradients=errors,
               blocks=blocks, states=states)  # fmt: skip


def target_of(symbol: str, *runs: Run) -> TargetResult:
    target = Target("kernels/g.py", 3, symbol, TargetKind.FUNCTION, frozenset({symbol}))
    return TargetResult(target, Verdict.SILENT_CORRUPTION, told("odd"), runs)


def alone(*targets: TargetResult) -> str:
    return render(REPORT._replace(findings=(), targets=targets, errors=(), unused_ignores=()), "text", ReportView())


@pytest.mark.parametrize("unicode", [True, False])
def test_every_state_has_a_mark_of_its_own(unicode: bool) -> None:
    states = {"q,q": "missing", "q,k": "wrong", "q,v": "unclear", "k,q": "right", "k,k": "zero"}
    rows = "\n".join(format_heatmap(run_of(states), PLAIN, unicode))
    marks = ("∅ missing", "≠ 5.0e-01", "? unclear", "· 5.0e-01", "0 zero")
    ascii_marks = ("x missing", "! 5.0e-01", "? unclear", ". 5.0e-01", "0 zero")
    for mark in marks if unicode else ascii_marks:
        assert mark in rows
    assert unicode or rows.isascii()


def test_what_is_far_off_is_red() -> None:
    rows = [
        format_heatmap(run_of({"q,q": "wrong"}, error), TerminalStyle(True), True)[1] for error in (0.05, 0.5, None)
    ]
    assert ["\033[31m" in row for row in rows] == [False, True, True]


def test_a_report_with_blocks_ends_with_what_their_signs_mean() -> None:
    legend = "blocks: · right; 0 zero, and truly so; ∅ missing; ≠ wrong; ? too noisy to tell"
    assert legend in alone(target_of("kernel", run_of({"q,q": "missing"})))
    assert legend not in alone(target_of("kernel"))


def test_gates_and_parameters_have_rows_and_columns_of_their_own() -> None:
    names = ("q", "k", "v", "gate_logits", "p")
    states = {f"{a},{b}": "right" for a in ("p", "gate_logits", "v", "k", "q") for b in ("out", *names[::-1])}
    head, *rows = format_heatmap(run_of(states), PLAIN, True)
    assert head.split() == ["blocks", "∂/∂q", "∂/∂k", "∂/∂v", "∂/∂p", "∂/∂gate_logits", "∂/∂W"]
    assert [row.split()[0] for row in rows] == ["g_q", "g_k", "g_v", "g_p", "g_gate_logits"]
    starts = [head.index(name) for name in head.split()[1:]]
    assert all(row[start] == "·" for row in rows for start in starts)


def test_a_module_of_x_has_a_map_of_one_row() -> None:
    run = run_of({"x": "wrong", "x,x": "missing", "x,out": "right"})
    assert format_gradients(run, PLAIN, True) == "gradients  x ≠ 5.0e-01"
    assert [row.split() for row in format_heatmap(run, PLAIN, True)] == [
        ["blocks", "∂/∂x", "∂/∂W"],
        ["g_x", "∅", "missing", "·", "5.0e-01"],
    ]


def test_the_same_map_is_drawn_once() -> None:
    run, other = run_of({"q,q": "missing"}), replace(run_of({"q,q": "wrong"}), backend="custom")
    text = alone(target_of("Kernel", run, other, replace(run, backend="triton")), target_of("kernel", run))
    assert text.count("∅ missing") == 2  # one of them in the legend
    assert text.count("≠ 5.0e-01") == 1
    assert text.count("; the same errors as Kernel") == 2


def test_carets_stand_under_the_suspect_after_tabs_and_wide_characters() -> None:
    row = '\tx = "漢字", e\u0301, q.detach()'
    column = row.index("q.detach") + 1
    line, carets = frame_source(row, Span(1, column, 1, column + 10), PLAIN)
    assert measure_width(carets[: carets.index("^")]) == measure_width(line[: line.index("q.detach")])
    assert carets.strip(" 1|") == "^" * 10


@pytest.mark.parametrize("widest", [60, 80, 160])
@pytest.mark.parametrize("before", [0, 30, 150, 400])
def test_a_frame_shows_the_suspect_of_a_long_line_and_fits(before: int, widest: int) -> None:
    row = "a = " + "b + " * (before // 4) + "q.detach()" + " + c" * 100
    column = row.index("q.detach") + 1
    line, carets = frame_source(row, Span(1, column, 1, column + 10), PLAIN, widest=widest)
    assert max(measure_width(line), measure_width(carets)) <= widest
    at = carets.index("^")
    assert line[at : at + 10] == "q.detach()"
    assert line.endswith("...")
    assert line.startswith("1 | ...") == (before + 14 > widest - 4)


def test_carets_of_a_suspect_wider_than_the_frame_fill_it() -> None:
    line, carets = frame_source("f(" + "q, " * 100 + ")", Span(1, 1, 1, 300), PLAIN, widest=60)
    assert len(line) == len(carets) == 60


def test_long_text_is_wrapped_to_the_terminal_and_never_else() -> None:
    for columns in (60, 100):
        text = render(REPORT, "text", ReportView(width=columns))
        prose = [
            line for line in text.splitlines() if line.startswith(("  evidence", "      ", "  remedy", "  reason"))
        ]
        assert prose
        assert max(map(len, prose)) <= columns
    words = "evidence: " + "word " * 60
    assert wrap_text(words, "  ", 0) == [f"  {words}".rstrip()]
    assert " ".join(" ".join(wrap_text(words, "  ", 50)).split()) == words.strip()


def test_nothing_from_the_code_under_test_moves_the_cursor() -> None:
    evil = "\x1b[2J\x9b\r\u202e"
    source = KERNEL.replace("q @ k.mT", f"q @ k.mT # {evil}")
    suspect = replace(REPORT.findings[0].suspect, path="k.py", message=evil, symbol=evil, remedy=evil)
    finding = replace(REPORT.findings[0], suspect=suspect, reason=told(evil))
    run = replace(run_of({"q,q": "wrong"}), error=evil, notes=(told(evil),), reason=told(evil))
    report = REPORT._replace(
        findings=(finding,),
        targets=(replace(target_of(evil, run), reason=told(evil)),),
        errors=(REPORT.errors[0]._replace(reason=told(evil), path=evil),),
        sources={("k.py", None): source},
    )
    for view in (ReportView(), ReportView(verbose=True), ReportView(width=80)):
        text = render(report, "text", view)
        assert not set("\x1b\x9b\r\u202e") & set(text)
        assert "\\x1b[2J" in text


def test_a_verified_rewrite_is_shown_by_its_lines() -> None:
    path = "kernels/a b.py"
    new = KERNEL.replace(".detach()", "", 1)
    first = replace(REPORT.findings[1], rewrite=Rewrite("Attention", ((path, new),)))
    text = render(REPORT._replace(findings=(first,)), "text", ReportView())
    assert "rewrite: with this change Attention was run, and is safe; your files are as they were\n" in text
    assert '    - 7 |         return ("漢" and p @ v).detach()\n    + 7 |         return ("漢" and p @ v)\n' in text
    long = replace(first, rewrite=Rewrite("Attention", ((path, "x\n" * 40),)))
    assert "more lines; --output-format html shows all)" in render(
        REPORT._replace(findings=(long,)), "text", ReportView()
    )


def printed(*arguments: str, **environment: str) -> str:
    """What linting an example statically prints to a terminal of 70 columns."""
    script = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]))"
    command = [sys.executable, "-m", "theria_lint", "--no-confirm", "--no-cache", "--isolated", *arguments]
    done = subprocess.run(
        [sys.executable, "-c", script, *command, "examples/kernels/detached_output.py"],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "70", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.stdout.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_terminal_gets_colours_unless_it_is_told_not_to() -> None:
    assert "\x1b[1;33munconfirmed\x1b[0m" in printed()
    plain = printed(NO_COLOR="1")
    assert "\x1b[" not in plain
    places = [line for line in plain.splitlines() if line.startswith("examples/")]
    assert len(places) == 1  # in one piece, whatever its length, so that a terminal can open it
    assert max(len(line) for line in plain.splitlines() if line not in places) <= 70
    assert "\x1b[" not in printed("--color", "never")
    assert "\x1b[" in printed("--color", "always", NO_COLOR="1")


def test_the_same_evidence_is_told_once() -> None:
    reason = Reason(ReasonCode.NO_WORKER, {"reason": Reason(ReasonCode.NO_TORCH), "looked_at": []})
    first = replace(REPORT.findings[0], reason=reason)
    others = [
        replace(first, suspect=replace(first.suspect, span=Span(line, 1, line, 2), path=path))
        for line, path in ((7, "kernels/a b.py"), (2, "other.py"))
    ]
    text = render(REPORT._replace(findings=(first, *others), targets=()), "text", ReportView())
    assert text.count("evidence: nothing was run: no interpreter that may run the code has torch\n") == 1
    assert text.count("evidence: the same as at kernels/a b.py:5\n") == 2
    assert text.count("help: Choose an interpreter") == 1


def test_what_is_said_of_a_target_is_told_anew_in_another_file() -> None:
    told_of = {"target": "f", "reason": told("odd"), "alone": False}
    first = replace(REPORT.findings[0], reason=Reason(ReasonCode.SAFE_WITH_IT, told_of))
    other = replace(first, suspect=replace(first.suspect, path="other.py"))
    text = render(REPORT._replace(findings=(first, other), targets=()), "text", ReportView())
    assert text.count("evidence: f is safe with it: odd\n") == 2


def test_a_target_that_could_not_be_judged_tells_why_and_its_suspects_where() -> None:
    failed = Reason(ReasonCode.PACKAGE_MISSING, {"package": "flash_attn", "interpreter": "python"})
    result = replace(REPORT.targets[0], verdict=Verdict.INCONCLUSIVE, reason=failed, runs=())
    not_run = Reason(ReasonCode.TARGET_NOT_RUN, {"target": "Attention", "reason": failed})
    findings = tuple(replace(finding, reason=not_run) for finding in REPORT.findings[:2])
    text = render(REPORT._replace(findings=findings, targets=(result,)), "text", ReportView())
    assert text.count("flash_attn is missing") == 1
    assert text.count("evidence: Attention could not be judged: see kernels/a b.py:3\n") == 2
