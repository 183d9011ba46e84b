"""A working directory full of modules with our names: none of them is imported in place of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lint_case import UNSAFE

_NAMES = (
    *(
        "__future__",
        "ast",
        "click",
        "concurrent",
        "dataclasses",
        "gc",
        "hashlib",
        "io",
        "json",
        "libcst",
        "pickle",
        "re",
    ),
    *("multiprocessing", "symtable", "tempfile", "theria", "tomllib", "torch", "typing", "unicodedata"),
)


@pytest.fixture
def hostile(folder: Path) -> Path:
    """A folder with a kernel and a module of every name that leaves a trace when it is imported."""
    for name in _NAMES:
        (folder / f"{name}.py").write_text(f"open({str(folder.parent / 'trace')!r}, 'a').write('{name} ')\n")
    (folder / "theria-lint.toml").write_text('exclude = ["none"]\n')
    (folder / "kernel.py").write_text(UNSAFE)
    return folder


def _says(command: list[str], *paths: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    answer = subprocess.run(
        [*command, "--no-confirm", "--quiet", *paths], capture_output=True, text=True, env=environment
    )
    assert not answer.stderr
    return answer.stdout


def test_the_module_and_the_command_import_nothing_from_the_working_directory(hostile: Path) -> None:
    script = str(Path(sys.executable).parent / "theria-lint")
    for command in ([sys.executable, "-m", "theria_lint"], [script]):
        assert _says(command, "kernel.py").startswith("kernel.py:6:20: THL002")
        assert not (hostile.parent / "trace").exists()


def test_processes_that_are_spawned_import_nothing_from_there_either(hostile: Path) -> None:
    for number in range(4):
        (hostile / f"large_{number}.py").write_text(UNSAFE + "# " + "x" * 500_000 + "\n")
    start = hostile.parent / "start.py"
    start.write_text(
        "if __name__ == '__main__':\n"
        "    import multiprocessing, sys\n"
        "    from theria_lint.__main__ import main\n"
        "    multiprocessing.set_start_method('spawn')\n"
        "    main()\n"
    )
    assert _says([sys.executable, str(start)], "--jobs", "2", "--no-cache", ".").count("THL002") == 5
    assert not (hostile.parent / "trace").exists()


def test_a_folder_that_holds_the_linter_itself_serves_it(tmp_path: Path) -> None:
    import theria_lint

    (tmp_path / "theria_lint").symlink_to(Path(theria_lint.__file__).parent)
    (tmp_path / "kernel.py").write_text(UNSAFE)
    answer = subprocess.run(
        [sys.executable, "-m", "theria_lint", "--no-confirm", "--quiet", "kernel.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.stdout.startswith("kernel.py:6:20: THL002"), answer.stderr


def test_with_the_safe_path_nothing_of_the_working_directory_is_imported_at_all(hostile: Path) -> None:
    for name in ("contextlib", "functools", "types", "warnings"):
        (hostile / f"{name}.py").write_text(f"open({str(hostile.parent / 'trace')!r}, 'a').write('{name} ')\n")
    assert _says([sys.executable, "-P", "-m", "theria_lint"], "kernel.py").startswith("kernel.py:6:20: THL002")
    assert not (hostile.parent / "trace").exists()


def test_no_code_beside_a_rule_is_run(hostile: Path) -> None:
    rule = hostile / "rules" / "THL900-x"
    rule.mkdir(parents=True)
    text = "severity = 'warning'\ndetector = 'names'\nmessage = 'm'\nwhat-it-does = 'w'\nwhy = 'w'\nremedy = 'r'\n"
    (rule / "rule.toml").write_text(f"id = 'THL900'\nname = 'x'\nreferences = []\ntokens = ['detach']\n{text}")
    for name in ("__init__.py", "rule.py", "detector.py", "conftest.py"):
        (rule / name).write_text(f"open({str(hostile.parent / 'trace')!r}, 'a').write('{name} ')\n")
    (hostile / "theria-lint.toml").write_text('rule-paths = ["rules"]\n')
    assert "THL900" in _says([sys.executable, "-m", "theria_lint"], "--list-rules")
    assert not (hostile.parent / "trace").exists()
