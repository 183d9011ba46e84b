"""``theria-lint server`` on the command line, and that linting is no slower for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.editor_page import KERNEL

WITHOUT_EXTRA = """
import sys
sys.modules["pygls"] = None
sys.argv[1:] = ["server"]
from theria_lint.__main__ import main
main()
"""
LOADED = """
import sys
sys.argv[1:] = ["--no-confirm", "--output-format", "concise", "kernel.py"]
from theria_lint.__main__ import main
try:
    main()
finally:
    heavy = ("pygls", "lsprotocol", "cattrs", "asyncio", "theria_lint.lsp")
    print([name for name in heavy if name in sys.modules])
"""


@pytest.fixture
def run(folder: Path, variables: dict[str, str]):
    (folder / "kernel.py").write_text(KERNEL)

    def run(*command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, check=False, input=stdin, timeout=120
        )

    return run


def test_without_the_extra_one_sentence_says_what_to_install(run) -> None:
    done = run(sys.executable, "-c", WITHOUT_EXTRA)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("Error: theria-lint server needs pygls 2 and lsprotocol (")
    assert done.stderr.endswith("install them with: pip install 'pygls>=2' lsprotocol.\n")


def test_linting_loads_nothing_of_the_server(run) -> None:
    done = run(sys.executable, "-c", LOADED)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("kernel.py:6:20: THL002 [unconfirmed] ")
    assert lines[1:] == ["[]"]


def test_help_tells_of_the_server(run) -> None:
    assert "server Serve an editor by the Language Server Protocol." in " ".join(
        run("theria-lint", "--help").stdout.split()
    )
    assert run("theria-lint", "server", "--help").stdout.startswith("Usage: theria-lint server [OPTIONS]")


def test_the_server_takes_the_option_that_some_clients_add_and_no_path(run) -> None:
    assert run("theria-lint", "server", "--stdio", stdin="").returncode == 0
    done = run("theria-lint", "server", "kernel.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "kernel.py" in done.stderr


def test_a_path_called_server_is_linted_as_such(run, folder: Path) -> None:
    (folder / "server").mkdir()
    (folder / "server" / "kernel.py").write_text(KERNEL)
    done = run("theria-lint", "--no-confirm", "--output-format", "concise", "./server")
    assert done.stdout.startswith("server/kernel.py:6:20: THL002 [unconfirmed] ")
    done = run("theria-lint", "--no-confirm", "--output-format", "concise", "server")
    assert done.stdout.startswith("server/kernel.py:6:20: THL002 ")
