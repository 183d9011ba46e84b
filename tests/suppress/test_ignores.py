"""Ignore comments: what they cover, which are unused, and writing them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lint_case import UNSAFE, Lint
from theria_lint.config import Settings
from theria_lint.pipeline import lint_paths
from theria_lint.sources.gitignore import GitignorePatterns
from theria_lint.suppress import apply
from theria_lint.suppress.ignore_comments import add_ignores, find_ignores

SOURCE = """\
import torch

{above_function}
@decorator  {on_decorator}
def attention(q, k, v):  {on_header}
    {inside}
    p = torch.softmax(
        q @ k.transpose(-1, -2),  {in_statement}
        -1,
    ).detach()
    return p @ v
"""
DETACH = 10


@pytest.mark.parametrize(
    ("place", "comment", "covered"),
    [
        ("above_function", "# theria: ignore[THL002] known", True),
        ("on_decorator", "# theria: ignore[THL002]", False),
        ("on_header", "# theria: ignore[THL002]", False),
        ("inside", "# theria: ignore[THL002]", True),
        ("inside", "# theria: ignore", True),
        ("inside", "# theria:ignore[THL001, THL002]", True),
        ("inside", "# noqa  # theria: ignore[THL002]", True),
        ("inside", "# theria: ignore[THL001]", False),
        ("inside", "# theria: ignored", False),
        ("inside", "# theria: ignore[]", False),
        ("inside", "'# theria: ignore[THL002]'", False),
        ("in_statement", "# theria: ignore[THL002]", True),
        ("in_statement", "# ignore[THL002]", False),
    ],
)
def test_what_a_comment_covers(place: str, comment: str, covered: bool) -> None:
    places = dict.fromkeys(["above_function", "on_decorator", "on_header", "inside", "in_statement"], "")
    ignores = find_ignores(SOURCE.format(**{**places, place: comment}))
    assert any(ignore.covers_suspect("THL002", DETACH) for ignore in ignores) is covered


def test_a_comment_on_a_decorator_covers_decorators_and_header() -> None:
    text = "@torch.no_grad()  # theria: ignore\ndef f(q):\n    return q.detach()\n"
    (ignore,) = find_ignores(text)
    assert (ignore.first, ignore.last) == (1, 2)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("# theria: ignore-file[THL002] all of it is logged\n" + UNSAFE, 0),
        (UNSAFE + "# theria: ignore-file\n", 0),
        ("# theria: ignore-file[thl002]\n" + UNSAFE, 0),
        ("# theria: ignore-file[Detach]\n" + UNSAFE, 0),
        ("# theria: ignore-file[THL001]\n" + UNSAFE, 1),
        ("# theria: ignore-files\n" + UNSAFE, 1),
        ("# theria: ignore-start[detach]\n" + UNSAFE + "# theria: ignore-end\n", 0),
        ("# theria: ignore-start[THL001]\n# theria: ignore-start\n" + UNSAFE + "# theria: ignore-end\n" * 2, 0),
        ("# theria: ignore-start\n# theria: ignore-end\n" + UNSAFE, 1),
        ("# theria: ignore-start\n" + UNSAFE, 1),
        (UNSAFE.replace(".detach()", ".detach()  # theria: ignore[DETACH]"), 0),
    ],
)
def test_a_file_or_a_range_is_covered_by_id_or_name(lint: Lint, folder: Path, text: str, code: int) -> None:
    (folder / "kernel.py").write_text(text)
    assert lint("kernel.py").exit_code == code


def test_half_of_a_range_covers_nothing_and_is_reported(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text("# theria: ignore-end\n" + UNSAFE + "# theria: ignore-start\n")
    told = lint("kernel.py").stdout
    assert "kernel.py:1: warning: `theria: ignore-end` ends no range" in told
    assert "kernel.py:8: warning: `theria: ignore-start` silences nothing" in told
    assert "THL002 detach: unconfirmed" in told


def test_a_comment_for_the_file_covers_all_cells(lint: Lint, folder: Path) -> None:
    cells = [
        {"cell_type": "code", "source": text, "metadata": {}, "outputs": [], "execution_count": None}
        for text in ("# theria: ignore-file[detach]", UNSAFE)
    ]
    book = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "book.ipynb").write_text(json.dumps(book))
    told = lint("book.ipynb")
    assert (told.exit_code, told.stdout) == (0, "1 file, 0 suspects; 1 silenced by ignore comments.\n")


def test_a_misspelt_rule_is_answered_with_what_may_be_meant(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text("# theria: ignore-file[detatch]\n" + UNSAFE)
    assert 'Did you mean "detach"?' in lint("kernel.py").stdout


def test_comments_count_in_text_that_does_not_parse() -> None:
    assert [ignore.line for ignore in find_ignores("x = 1  # theria: ignore\n%magic\n")] == [1]


def test_an_ignored_finding_is_counted_and_does_not_fail(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE.rstrip() + "  # theria: ignore[THL002] the caller wants a constant\n")
    result = lint()
    assert (result.stdout, result.exit_code) == (
        "1 file, 0 suspects; 1 target, not measured; 1 silenced by ignore comments.\n",
        0,
    )


def test_unused_comments_are_reported_and_fail_only_on_demand(lint: Lint, folder: Path) -> None:
    text = "import torch\nx = 1  # theria: ignore[THL002]\ny = 2  # theria: ignore\nz = 3  # theria: ignore[THL999]\n"
    (folder / "a.py").write_text(text)
    result = lint()
    lines = result.stdout.splitlines()
    assert lines[0] == "a.py:2: warning: unused `theria: ignore[THL002]`: there is no such suspect here"
    assert lines[1] == "  help: Remove it"
    assert lines[2] == "a.py:3: warning: unused `theria: ignore`: there is no such suspect here"
    assert lines[4] == "a.py:4: warning: `theria: ignore[THL999]` names no rule"
    assert lines[5].startswith("  note: the rules are THL001, ")
    assert lines[-1] == "1 file, 0 suspects; 3 unused ignore comments."
    assert result.exit_code == 0
    assert lint("--fail-on", "unused-ignore").exit_code == 1


def test_half_of_a_comment_can_be_unused(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE.rstrip() + "  # theria: ignore[THL001,THL002]\n")
    assert lint().stdout.startswith("kernel.py:6: warning: unused `theria: ignore[THL001]`: ")


def test_a_comment_for_a_rule_that_is_not_selected_is_not_unused(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE.rstrip() + "  # theria: ignore[THL002]\n")
    assert lint("--select", "THL001").stdout == "1 file, 0 suspects; 1 target, not measured.\n"


def test_a_comment_in_a_cell_covers_its_cell(lint: Lint, folder: Path) -> None:
    import json

    cells = [{"cell_type": "code", "source": text} for text in (UNSAFE.rstrip() + "  # theria: ignore[THL002]", UNSAFE)]
    (folder / "n.ipynb").write_text(json.dumps({"cells": cells}))
    result = lint("--output-format", "concise")
    assert result.stdout.startswith("n.ipynb:cell 2:6:20: THL002 ")
    assert result.stdout.count("\n") == 1


AWKWARD = """\
import torch
def attention(q, k, v):
    p = torch.softmax(q @ k.transpose(-1, -2), -1).detach()  # a reason
    r = torch.softmax(q @ k.transpose(-1, -2), -1).detach() \\
        + p
    s = ("a string", p.detach(), '''that
goes on''')
    t = p.detach()  # theria: ignore[THL001]
    return r.detach() + p.detach() @ v
"""


@pytest.mark.parametrize("data", [AWKWARD.encode(), b"\xef\xbb\xbf" + AWKWARD.replace("\n", "\r\n").encode()])
def test_written_comments_silence_everything_and_change_nothing_else(lint: Lint, folder: Path, data: bytes) -> None:
    (folder / "kernel.py").write_bytes(data)
    result = lint("--add-ignores")
    assert (result.stdout, result.exit_code) == ("kernel.py: 6 findings ignored.\n", 0)
    after = (folder / "kernel.py").read_bytes()
    assert ast.dump(ast.parse(after)) == ast.dump(ast.parse(data))
    assert after.startswith(data[:12])
    assert after.count(b"\r\n") == (after.count(b"\n") if b"\r\n" in data else 0)
    silent = lint()
    assert silent.exit_code == 0
    assert silent.stdout.endswith(
        "1 file, 0 suspects; 1 target, not measured; 1 unused ignore comment; 6 silenced by ignore comments.\n"
    )
    assert lint("--add-ignores").stdout == ""
    assert (folder / "kernel.py").read_bytes() == after


@pytest.mark.parametrize("brackets", [" [THL001]", "[THL001", " [THL001", "[]", " []", "[ , ]", "\t[detach-not"])
def test_brackets_that_name_another_rule_silence_no_more(lint: Lint, folder: Path, brackets: str) -> None:
    (folder / "kernel.py").write_text(UNSAFE.replace(".detach()", f".detach()  # theria: ignore{brackets}"))
    result = lint()
    assert result.exit_code == 1
    assert "kernel.py:6:20: THL002 " in result.stdout
    assert ("]" not in brackets) or "kernel.py:6: warning: " in result.stdout


def test_a_space_before_the_brackets_means_nothing(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE.replace(".detach()", ".detach()  # theria: ignore [THL002]"))
    assert lint().exit_code == 0


def test_comments_leave_each_line_its_end(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_bytes(UNSAFE.replace("\n", "\r\n", 3).encode())
    lint("--add-ignores")
    after = (folder / "kernel.py").read_bytes()
    assert after == UNSAFE.replace(".detach()", ".detach()  # theria: ignore[THL002]").replace("\n", "\r\n", 3).encode()


def test_no_comment_is_written_to_a_file_that_has_changed(folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    report = lint_paths(("kernel.py",), Settings(confirm=False, cache=False))
    (folder / "kernel.py").write_text("mine = 1\n")
    (added,) = add_ignores(report)
    assert (added.written, added.obstacle) == (0, "kernel.py has changed since it was read")
    assert (folder / "kernel.py").read_text() == "mine = 1\n"


def test_the_mode_of_a_file_is_kept(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "kernel.py").chmod(0o750)
    lint("--add-ignores")
    assert (folder / "kernel.py").stat().st_mode & 0o777 == 0o750


MANY = 60_000
LARGE_TEXTS = {
    "after code": "x = 1  # theria: ignore\n" * MANY,
    "above code": "# theria: ignore\n" * MANY + "x = 1\n",
    "above each": "# theria: ignore\nx = 1\n" * MANY,
    "never closed": "x = 1  " + "# theria: ignore[" * MANY + "\n",
}
FIND = """
import sys
from theria_lint.config import Settings
from theria_lint.pipeline import lint_paths
from theria_lint.sources.gitignore import GitignorePatterns
from theria_lint.suppress import apply
from theria_lint.suppress.ignore_comments import add_ignores, find_ignores
print(len(find_ignores(sys.stdin.read())))
"""


@pytest.mark.parametrize("shape", LARGE_TEXTS)
def test_comments_on_every_line_are_read_in_one_go(shape: str) -> None:
    text = LARGE_TEXTS[shape]
    found = subprocess.run([sys.executable, "-c", FIND], input=text, capture_output=True, text=True, timeout=60)
    assert int(found.stdout) == (0 if shape == "never closed" else MANY)


def test_many_comments_over_many_suspects_are_held_against_each_other_in_one_go() -> None:
    program = """
from theria_lint.model import Disposition, Finding, Span, Suspect
from theria_lint.suppress.ignore_comments import IgnoreComment, iter_complaints, select_ignored
def finding(line):
    span = Span(line, 1, line, 2)
    suspect = Suspect("THL002", "detach", "error", "f.py", span, "f", "", "", (1, 1), None)
    return Finding(suspect, Disposition.CLEARED, None, "")
findings = [finding(line) for line in range(1, 20_001)]
ignores = [IgnoreComment(line, ("THL002",), 1, 20_000) for line in range(20_000)]
unused = [IgnoreComment(line, None, 20_001, 30_000) for line in range(20_000)]
complaints = list(iter_complaints(findings, ignores + unused, {"THL002": "detach"}))
print(len(select_ignored(findings, ignores)), len(complaints))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert found.stdout.split() == ["20000", "20000"], found.stderr


def test_a_pattern_for_files_is_compiled_once_for_all_findings(
    lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[list[str]] = []
    monkeypatch.setattr(apply, "GitignorePatterns", lambda p: compiled.append(p) or GitignorePatterns(p))
    (folder / "theria-lint.toml").write_text('[per-file-ignores]\n"kernel.py" = ["THL002"]\n')
    (folder / "kernel.py").write_text(UNSAFE + UNSAFE)
    assert "0 suspects" in lint().stdout
    assert compiled == [["kernel.py"]]
