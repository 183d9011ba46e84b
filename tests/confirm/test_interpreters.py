"""Which interpreter runs the code: never one that the linted project brings, until the user trusts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.lint_case import UNSAFE, Lint
from theria_lint.config import resolve_settings
from theria_lint.confirm import confirm as stage_module
from theria_lint.confirm import python_interpreter
from theria_lint.confirm.confirm import Confirmation, ConfirmSettings
from theria_lint.errors import UserError
from theria_lint.model import SourceFile
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.result import Environment

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the programs are scripts")

HOW = "Say --trust to allow it from now on, or choose another with --python"
TRACED = '#!/bin/sh\ntouch "{trace}"\nexec "{python}" "$@"\n'


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A linter without torch, as pipx and pre-commit install it, and no environment that is active."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "THERIA_LINT_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The interpreters that the dynamic stage, which is a stand-in here, was told to start."""
    started: list[str] = []

    def confirm(files: Sequence[SourceFile], settings: ConfirmSettings, progress: object = None) -> Confirmation:
        started.append(settings.python)
        return Confirmation((), (), Environment("3.11"))

    monkeypatch.setattr(stage_module, "confirm_suspects", confirm)
    return started


def plant(path: Path) -> Path:
    """A program that leaves a trace beside it when it is run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TRACED.format(trace=path.parent / "trace", python=sys.executable))
    path.chmod(0o755)
    return path


def environment(place: Path, *, torch: bool = True) -> Path:
    """An environment with what looks like torch."""
    if torch:
        (place / "lib" / "python3.12" / "site-packages" / "torch").mkdir(parents=True)
    return plant(place / "bin" / "python")


def chosen(**options: object) -> python_interpreter.InterpreterChoice:
    return python_interpreter.choose_interpreter(resolve_settings([], options, None, False).settings)


def test_the_first_of_the_users_own_that_has_torch_is_taken(folder: Path, bare: pytest.MonkeyPatch) -> None:
    assert chosen().refusal == Reason(ReasonCode.NO_TORCH)
    bare.setenv("CONDA_PREFIX", str(folder / "light"))
    light = environment(folder / "light", torch=False)
    assert chosen().refusal == Reason(ReasonCode.NO_TORCH)
    assert [reason.data["interpreter"] for reason in chosen().looked_at] == [sys.executable, str(light)]
    bare.setenv("VIRTUAL_ENV", str(folder / ".venv"))
    active = environment(folder / ".venv")
    assert chosen() == python_interpreter.InterpreterChoice(str(active))
    bare.setattr("importlib.util.find_spec", lambda name: object())
    assert chosen() == python_interpreter.InterpreterChoice(sys.executable)


def test_an_environment_by_a_relative_path_is_not_active(folder: Path, bare: pytest.MonkeyPatch) -> None:
    environment(folder / ".venv")
    bare.setenv("VIRTUAL_ENV", ".venv")
    assert chosen().refusal is not None


@pytest.mark.parametrize("name", [".venv", "venv"])
def test_the_environment_of_the_project_needs_trust(folder: Path, bare: pytest.MonkeyPatch, name: str) -> None:
    python = environment(folder / name)
    told = {"interpreter": f"{name}/bin/python"}
    assert chosen().refusal == Reason(ReasonCode.INTERPRETER_UNTRUSTED, told)
    assert chosen().looked_at == (Reason(ReasonCode.INTERPRETER_WITHOUT_TORCH, {"interpreter": sys.executable}),)
    python_interpreter.store_grant(python_interpreter.make_grant(str(folder), str(python)))
    trusted = Reason(ReasonCode.INTERPRETER_TRUSTED, told)
    assert chosen() == python_interpreter.InterpreterChoice(str(python), trusted)
    bare.setattr("importlib.util.find_spec", lambda name: object())
    assert chosen() == python_interpreter.InterpreterChoice(sys.executable)


@pytest.mark.parametrize("inside", [True, False])
def test_an_interpreter_that_the_configuration_names_needs_trust(
    folder: Path, bare: pytest.MonkeyPatch, inside: bool
) -> None:
    python = plant((folder if inside else folder.parent) / "evil")
    (folder / "theria-lint.toml").write_text(f'python = "{"./evil" if inside else python}"\n')
    shown = "evil" if inside else "../evil"
    untrusted = Reason(ReasonCode.INTERPRETER_UNTRUSTED, {"interpreter": shown})
    assert chosen().refusal == untrusted
    bare.setattr("importlib.util.find_spec", lambda name: object())
    assert chosen() == python_interpreter.InterpreterChoice(sys.executable, untrusted)
    python_interpreter.store_grant(python_interpreter.make_grant(str(folder), str(python)))
    assert chosen().python == str(python)


def test_a_name_that_the_configuration_has_looked_up_needs_trust(folder: Path, bare: pytest.MonkeyPatch) -> None:
    python = plant(folder / "tools" / "python3")
    bare.setenv("PATH", f"tools{os.pathsep}{os.environ['PATH']}")
    (folder / "theria-lint.toml").write_text('python = "python3"\n')
    assert chosen().refusal is not None
    python_interpreter.store_grant(python_interpreter.make_grant(str(folder), str(python)))
    assert chosen().python == str(python)


def test_the_user_may_name_any(folder: Path, bare: pytest.MonkeyPatch) -> None:
    python = plant(folder / "evil")
    (folder / "theria-lint.toml").write_text('python = "./other"\n')
    assert chosen(python="./evil") == python_interpreter.InterpreterChoice(str(python))
    bare.setenv("THERIA_LINT_PYTHON", "./evil")
    assert chosen() == python_interpreter.InterpreterChoice(str(python))


def test_the_users_own_may_be_named_by_the_configuration(folder: Path, bare: pytest.MonkeyPatch) -> None:
    (folder / "theria-lint.toml").write_text(f'python = "{sys.executable}"\n')
    assert chosen() == python_interpreter.InterpreterChoice(sys.executable)
    python = environment(folder / ".venv")
    bare.setenv("VIRTUAL_ENV", str(folder / ".venv"))
    (folder / "theria-lint.toml").write_text('python = ".venv/bin/python"\n')
    assert chosen() == python_interpreter.InterpreterChoice(str(python))
    (folder / "theria-lint.toml").write_text('python = ".venv/bin/other"\n')
    plant(folder / ".venv" / "bin" / "other")
    assert chosen().note is not None


def test_trust_is_for_one_project_and_one_program(folder: Path, bare: pytest.MonkeyPatch) -> None:
    python = environment(folder / ".venv")
    python_interpreter.store_grant(python_interpreter.make_grant(str(folder.parent / "other"), str(python)))
    assert chosen().refusal is not None
    python_interpreter.store_grant(python_interpreter.make_grant(str(folder), str(python)))
    assert chosen().refusal is None
    python.rename(folder / "moved")
    python.symlink_to(plant(folder / "other"))
    assert chosen().refusal is not None


def test_nothing_of_the_project_runs_before_it_is_trusted(
    lint: Lint, folder: Path, bare: pytest.MonkeyPatch, used: list[str]
) -> None:
    python = environment(folder / ".venv")
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint(confirm=True)
    refusal = "nothing was run: .venv/bin/python is the project's choice of interpreter"
    assert (result.exit_code, result.stderr.splitlines()[0]) == (1, f"Note: {refusal}")
    assert f"  note: looked at {sys.executable}: it has no torch" in result.stderr.splitlines()
    assert f"  help: {HOW}" in result.stderr.splitlines()
    assert f"  evidence: {refusal}\n" in result.stdout
    assert (used, (python.parent / "trace").exists()) == ([], False)

    result = lint("--trust", confirm=True)
    said, root, note = result.stderr.splitlines()
    assert said == "Note: .venv/bin/python is trusted from now on"
    assert root == f"  note: to run the code of {folder}"
    assert note == "Note: .venv/bin/python runs the code: you trust it for this project"
    lint(confirm=True)
    assert used == [str(python), str(python)]


def test_what_is_trusted_is_said_so_that_no_terminal_acts_on_it(
    lint: Lint, folder: Path, bare: pytest.MonkeyPatch
) -> None:
    plant(folder / "evil\x1b[2J##vso[x]")
    (folder / "theria-lint.toml").write_text('python = "./evil\\u001b[2J##vso[x]"\n')
    assert lint("--trust").stderr.startswith("Note: evil\\x1b[2J#\\x23vso[x] is trusted from now on")


def test_there_may_be_nothing_to_trust(lint: Lint, folder: Path, bare: pytest.MonkeyPatch) -> None:
    assert lint("--trust").stderr.startswith("Note: the project chooses no interpreter: there is nothing to trust\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"trusted": [{"root": 1, "python": 2, "program": 3}]}',
        '{"trusted": [1]}',
        '{"trusted": {"root": 1}}',
        '{"trusted": [{"root": []}]}',
        "[" * 99_999,
    ],
)
def test_a_file_of_trust_that_is_none_trusts_nothing(folder: Path, bare: pytest.MonkeyPatch, text: str) -> None:
    python = environment(folder / ".venv")
    kept = folder.parent / "configuration" / "theria-lint" / "trusted.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(text)
    assert chosen().refusal is not None
    python_interpreter.store_grant(python_interpreter.make_grant(str(folder), str(python)))
    assert chosen().refusal is None


def test_a_project_cannot_trust_itself(folder: Path, bare: pytest.MonkeyPatch) -> None:
    grant = python_interpreter.make_grant(str(folder), str(environment(folder / ".venv")))
    bare.setenv("XDG_CONFIG_HOME", "relative")
    bare.setenv("HOME", str(folder / "home"))
    with pytest.raises(UserError, match="holds your configuration folder"):
        python_interpreter.store_grant(grant)
    bare.setenv("HOME", str(folder.parent / "home"))
    python_interpreter.store_grant(grant)
    assert python_interpreter.is_trusted(grant)
    (folder.parent / "home").rename(folder / "home")
    bare.setenv("HOME", str(folder / "home"))
    assert not python_interpreter.is_trusted(grant)
