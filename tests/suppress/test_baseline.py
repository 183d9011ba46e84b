"""The baseline: accepts what is there now, survives moved lines, and does not hide what is new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.lint_case import UNSAFE, Lint


@pytest.fixture
def accepted(lint: Lint, folder: Path) -> Path:
    """A project whose one finding is in the baseline."""
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint("--write-baseline", "base.json")
    assert (result.stdout, result.exit_code) == ("base.json: accepts 1 finding.\n", 0)
    return folder


def test_what_is_accepted_does_not_fail(lint: Lint, accepted: Path) -> None:
    result = lint("--baseline", "base.json")
    assert (result.stdout, result.exit_code) == (
        "1 file, 0 suspects; 1 target, not measured; 1 accepted by the baseline.\n",
        0,
    )


def test_the_file_can_be_read(accepted: Path) -> None:
    entry = {
        "path": "kernel.py",
        "rule": "THL002",
        "symbol": "attention",
        "text": "return (p @ v).detach()",
        "count": 1,
    }
    assert json.loads((accepted / "base.json").read_text()) == {"schema": 1, "findings": [entry], "targets": []}


def test_moved_lines_still_match(lint: Lint, accepted: Path) -> None:
    (accepted / "kernel.py").write_text("# one\n# two\n" + UNSAFE.replace("    return", "\n    return"))
    assert lint("--baseline", "base.json").exit_code == 0


def test_it_is_found_from_another_directory(lint: Lint, accepted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert lint(str(accepted), "--baseline", str(accepted / "base.json")).exit_code == 0


def test_it_is_found_on_another_way(lint: Lint, accepted: Path) -> None:
    (accepted.parent / "way").symlink_to(accepted)
    assert lint("kernel.py", "--baseline", str(accepted.parent / "way" / "base.json")).exit_code == 0
    assert lint(str(accepted.parent / "way"), "--baseline", "base.json").exit_code == 0


@pytest.mark.parametrize(
    "text",
    [
        UNSAFE.replace("(p @ v).detach()", "(p @ v).detach() + 1"),
        UNSAFE.replace("attention", "attention2"),
        UNSAFE + UNSAFE[UNSAFE.index("def") :],
    ],
    ids=["changed", "renamed", "twice"],
)
def test_what_is_new_is_reported(lint: Lint, accepted: Path, text: str) -> None:
    (accepted / "kernel.py").write_text(text)
    result = lint("--baseline", "base.json")
    assert result.exit_code == 1
    assert "1 suspect: 1 unconfirmed" in result.stdout


def test_what_is_gone_is_noted(lint: Lint, accepted: Path) -> None:
    (accepted / "kernel.py").write_text(UNSAFE.replace("p @ v", "2 * p @ v"))
    sentence = "Note: the baseline base.json accepts 1 finding no longer there\n  help: --write-baseline"
    assert lint("--baseline", "base.json").stderr.startswith(sentence)
    (accepted / "other.py").write_text(UNSAFE)
    assert lint("other.py", "--baseline", "base.json").stderr == ""


def test_writing_again_does_not_forget_what_was_accepted(lint: Lint, accepted: Path) -> None:
    (accepted / "theria-lint.toml").write_text('baseline = "base.json"\n')
    before = (accepted / "base.json").read_text()
    lint("--write-baseline", "base.json")
    assert (accepted / "base.json").read_text() == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "findings": [{}], "targets": []}'])
def test_a_file_that_is_none_exits_with_2(lint: Lint, accepted: Path, text: str) -> None:
    (accepted / "base.json").write_text(text)
    result = lint("--baseline", "base.json")
    assert result.stderr == f"Error: {accepted / 'base.json'}: is not a baseline; write one with --write-baseline.\n"
    assert result.exit_code == 2


def test_a_schema_of_the_future_exits_with_2(lint: Lint, accepted: Path) -> None:
    (accepted / "base.json").write_text('{"schema": 2}')
    assert "is of schema 2; write it again with --write-baseline." in lint("--baseline", "base.json").stderr


CLEARED = """\
import torch


def attention(q, k, v):
    s = q @ k.transpose(-1, -2)
    p = (s - s.amax(-1, keepdim=True).detach()).exp()
    return (p / p.sum(-1, keepdim=True)) @ v


def shared_attention(q, k, v):
    p = (q @ k.transpose(-1, -2)).softmax(-1)
    return (p @ v + 0 * p.detach() @ v).detach()
"""


def test_one_that_was_written_with_confirmation_serves_the_static_hook(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(CLEARED.replace("s.amax(-1, keepdim=True).detach()", "s.detach()"))
    written = lint("--no-cache", "--write-baseline", "base.json", "kernel.py", confirm=True)
    document = json.loads((folder / "base.json").read_text())
    assert written.exit_code == 0
    assert document["cleared"]
    static = lint("--no-cache", "--baseline", "base.json", "kernel.py")
    assert (static.exit_code, static.stdout.partition(";")[0]) == (0, "1 file, 0 suspects")


def test_what_was_cleared_is_not_accepted_where_it_is_run(lint: Lint, folder: Path) -> None:
    """A kernel that has become harmful since is no longer what was cleared."""
    (folder / "kernel.py").write_text(UNSAFE)
    lint("--no-cache", "--write-baseline", "base.json", "kernel.py", confirm=True)
    document = json.loads((folder / "base.json").read_text())
    document["cleared"] = document.pop("findings")
    (folder / "base.json").write_text(json.dumps({**document, "findings": [], "targets": []}))
    assert lint("--no-cache", "--baseline", "base.json", "kernel.py").exit_code == 0
    run = lint("--no-cache", "--baseline", "base.json", "kernel.py", confirm=True)
    assert run.exit_code == 1
    assert "confirmed" in run.stdout
