"""What a shell completes, asked as bash asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("theria-lint")


def complete(folder: Path, line: str) -> list[str]:
    """What bash offers for the last word of a line, by the script that the documentation has it read."""
    words = line.split(" ")
    script = (
        f'eval "$(_THERIA_LINT_COMPLETE=bash_source {PROGRAM})"\n'
        "compopt() { :; }\n"
        f'COMP_WORDS=({" ".join(words[:-1])} "{words[-1]}"); COMP_CWORD={len(words) - 1}\n'
        f"_theria_lint_completion {PROGRAM}\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return [word for word in done.stdout.splitlines() if word]


@pytest.mark.skipif(not shutil.which("bash") or not PROGRAM.exists(), reason="needs bash and the installed command")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("theria-lint --select THL00", [f"THL00{number}" for number in range(1, 10)]),
        ("theria-lint --select once", ["once-differentiable"]),
        ("theria-lint --ignore THL001,det", ["THL001,detach"]),
        ("theria-lint --explain silent", ["silent_collapse", "silent_corruption"]),
        ("theria-lint explain silent", ["silent_collapse", "silent_corruption"]),
        ("theria-lint expl", ["explain"]),
        ("theria-lint check --select THL001,THL003,onc", ["THL001,THL003,once-differentiable"]),
        ("theria-lint clean --cache-d", ["--cache-dir"]),
        ("theria-lint record --calls-d", ["--calls-dir"]),
        ("theria-lint record -- touch ran", []),
        ("theria-lint --output-format sar", ["sarif"]),
    ],
)
def test_what_bash_offers(tmp_path: Path, line: str, offered: list[str]) -> None:
    os.environ.pop("COMP_WORDS", None)
    assert complete(tmp_path, line) == offered
