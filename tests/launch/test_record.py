"""``theria-lint record`` and what the linter makes of recorded calls."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.recorded_project import CALLED, lint, make_project, record, run

PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose tests were recorded once."""
    root = tmp_path_factory.mktemp("recorded")
    make_project(root)
    done = record(root, *PYTEST)
    assert done.returncode == 0, done.stderr
    assert "kept 3 calls of 3 of 4 attention targets" in done.stderr
    assert "never called: attention_nobody_calls (shop/kernels.py)" in done.stderr
    return root


@pytest.fixture
def project(recorded: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(recorded, tmp_path / "copy"))


def read(root: Path, symbol: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(call_file(root, symbol).read_text())
    return document


def call_file(root: Path, symbol: str) -> Path:
    return root / ".theria" / "calls" / "shop" / "kernels.py" / symbol / "1.json"


def test_a_call_is_kept_as_data(recorded: Path) -> None:
    document = read(recorded, "WindowAttention")
    assert document["caller"] == "tests/test_kernels.py::test_window"
    assert document["constructor"]["args"][0]["object"]["class"] == "shop.kernels:Config"
    tokens, lengths = (tree["tensor"] for tree in document["args"])
    assert (tokens["shape"], tokens["dtype"], tokens["requires_grad"]) == ([3, 7, 8], "float32", False)
    assert -1 < tokens["mean"] < 1
    assert "kept" not in tokens
    kept = load_file(call_file(recorded, "WindowAttention").with_suffix(".safetensors"))
    assert torch.equal(kept[lengths["kept"]], torch.tensor([7, 3, 5]))
    assert read(recorded, "attend")["args"][4] == {"member": "shop.kernels:Mode.FULL"}


def test_recorded_calls_give_the_verdicts_that_guesses_do_not(recorded: Path) -> None:
    found = lint(recorded)
    verdicts = {symbol: found[symbol]["verdict"] for symbol in CALLED}
    assert verdicts == {
        "WindowAttention": "hard_structural",
        "attend": "safe",
        "HalvedAttention": "silent_corruption",
    }
    assert found["attention_nobody_calls"]["verdict"] == "safe"
    notes = {note["reason_code"]: note["reason"] for note in found["attend"]["runs"][0]["notes"]}
    assert notes["called_as_recorded"] == "called as tests/test_kernels.py::test_attend did"
    guessed = lint(recorded, "--calls", "guessed")
    assert {guessed[symbol]["verdict"] for symbol in CALLED} == {"inconclusive"}
    only = lint(recorded, "--calls", "recorded")
    assert only["attention_nobody_calls"]["reason_code"] == "not_callable"
    assert "no call of it was recorded" in only["attention_nobody_calls"]["reason"]
    assert only["attend"]["verdict"] == "safe"


@pytest.mark.parametrize("options", [("--calls", "recorded"), ()], ids=["recorded", "guesses fail too"])
def test_a_stale_call_is_said_to_be(project: Path, options: tuple[str, ...]) -> None:
    kernels = project / "shop" / "kernels.py"
    kernels.write_text(kernels.read_text().replace("def attend(q, k, v, plan, mode)", "def attend(q, k, v, *, plan)"))
    found = lint(project, *options)["attend"]
    assert found["verdict"] == "inconclusive"
    assert "the call by tests/test_kernels.py::test_attend is stale" in found["reason"]


HOSTILE: dict[str, dict[str, Any]] = {
    "a program as a class": {"object": {"class": "subprocess:Popen", "state": []}},
    "a program as a module": {"module": {"class": "subprocess:Popen", "args": [{"value": "touch RUN"}], "kwargs": {}}},
    "a function of the system": {"function": "os:system"},
    "a module that is not loaded": {"object": {"class": "antigravity:x", "state": []}},
    "a program to be handed over": {"class": "subprocess:Popen"},
    "a program as a named tuple": {"record": {"class": "subprocess:Popen", "parts": [{"value": "touch RUN"}]}},
    "what was lost": {"lost": "an object of Thing"},
    "a tensor that is not there": {
        "tensor": {"shape": [2], "stride": [1], "dtype": "int64", "requires_grad": False, "kept": "t77"}
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_call_executes_nothing(project: Path, name: str) -> None:
    document = read(project, "attend")
    document["args"][3] = HOSTILE[name]
    call_file(project, "attend").write_text(json.dumps(document))
    found = lint(project)
    assert found["attend"]["verdict"] == "inconclusive"
    assert found["HalvedAttention"]["verdict"] == "silent_corruption"
    assert not (project / "RUN").exists()


BROKEN = {
    "no JSON": ("{", "it is not valid JSON"),
    "another format": ('{"format": 2}', "it has no format that is known"),
    "another target": (None, "it is a call of attend in shop/kernels.py"),
    "an unknown kind": ('{"pickle": "gASV"}', "it has no pickle that is known"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_sentence_and_nothing_is_lost(project: Path, name: str) -> None:
    text, said = BROKEN[name]
    file = call_file(project, "attend")
    if text is None:
        file = call_file(project, "HalvedAttention")
        shutil.copy(call_file(project, "attend"), file)
    elif name == "an unknown kind":
        file.write_text(json.dumps(read(project, "attend") | {"args": [json.loads(text)]}))
    else:
        file.write_text(text)
    found = lint(project)
    assert f"note: {file}: {said}" in found["stderr"]
    assert found["WindowAttention"]["verdict"] == "hard_structural"


def test_a_link_out_of_the_project_is_not_followed(project: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    beside = call_file(project, "WindowAttention").with_suffix(".safetensors")
    beside.unlink()
    beside.symlink_to(secret)
    found = lint(project)
    assert "is a link out of the project" in found["stderr"]
    assert found["WindowAttention"]["verdict"] == "inconclusive"


ENDS = {"raise SystemExit(0)": 0, "raise SystemExit(3)": 3, "import os; os.kill(os.getpid(), 9)": 137}


@pytest.mark.parametrize(("program", "code"), ENDS.items())
def test_the_exit_code_of_the_command_is_passed_on(tmp_path: Path, program: str, code: int) -> None:
    make_project(tmp_path)
    done = record(tmp_path, sys.executable, "-c", program)
    assert done.returncode == code
    assert "kept 0 calls of 0 of 4 attention targets" in done.stderr


def test_calls_in_worker_processes_are_kept(tmp_path: Path) -> None:
    folder = make_project(tmp_path)
    script = """
import multiprocessing, torch
def work():
    from shop.kernels import Mode, attend
    q = torch.randn(1, 2, 5, 4)
    attend(q, q, q, {"kind": "full", "scale": 0.5}, Mode.FULL)
if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=work)
    worker.start(); worker.join()
"""
    (tmp_path / "train.py").write_text(script)
    done = record(tmp_path, sys.executable, "train.py")
    assert done.returncode == 0, done.stderr
    assert (folder / "shop" / "kernels.py" / "attend" / "1.json").exists()
    assert json.loads((folder / "shop" / "kernels.py" / "attend" / "1.json").read_text())["caller"] == "train.py:6"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shop"], "no command: write theria-lint record [PATHS] -- COMMAND"),
        (["shop", "--", "/nowhere/program"], "/nowhere/program: cannot be run: No such file or directory."),
        (["tests", "--", "true"], "there is no attention to record in tests."),
        (["--calls-dir", "/proc/nowhere", "shop", "--", "true"], "calls cannot be kept there"),
        (["--no-such-option", "--", "true"], "No such option"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    make_project(tmp_path)
    done = run(tmp_path, "-m", "theria_lint", "record", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("link", [".theria", ".theria/calls"])
def test_calls_are_kept_through_no_link_out_of_the_project(tmp_path: Path, link: str) -> None:
    outside, project = tmp_path / "outside", tmp_path / "project"
    outside.mkdir()
    (project / link).parent.mkdir(parents=True)
    make_project(project)
    (project / link).symlink_to(outside)
    done = run(project, "-m", "theria_lint", "record", "shop", "--", "true")
    assert done.returncode == 2
    assert f"leads out of the project, to {outside}" in done.stderr
    assert list(outside.iterdir()) == []


def test_what_cannot_be_kept_says_why(tmp_path: Path) -> None:
    make_project(tmp_path)
    code = (
        "import torch, threading\nfrom shop.kernels import attend\nq = torch.randn(1, 2, 5, 4)\n"
        "try:\n    attend(q, q, q, threading.Lock(), 1)\nexcept TypeError:\n    pass\n"
    )
    done = record(tmp_path, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "a call of attend in shop/kernels.py is not kept: lock is no type whose objects can be kept" in done.stderr


@pytest.mark.parametrize("processes", [(), ("-n", "2")])
def test_pytest_measures_what_the_tests_called(recorded: Path, processes: tuple[str, ...]) -> None:
    done = run(recorded, *PYTEST[1:], "--second-order", *processes)
    assert done.returncode == 1, done.stdout
    assert "hard_structural  shop/kernels.py:WindowAttention  by tests/test_kernels.py::test_window: " in done.stdout
    assert "safe  shop/kernels.py:attend  by tests/test_kernels.py::test_attend: " in done.stdout
    assert "silent_corruption (allowed)  shop/kernels.py:HalvedAttention" in done.stdout
    allowed = run(
        recorded, *PYTEST[1:], "--second-order", "-o", "second_order_allow=shop/kernels.py:WindowAttention", *processes
    )
    assert allowed.returncode == 0, allowed.stdout


def test_the_plugin_is_quiet_unless_asked(recorded: Path) -> None:
    done = run(recorded, *PYTEST[1:])
    assert done.returncode == 0
    assert "second order" not in done.stdout


SLOW = """
import os
import signal
import time

import torch

from shop.kernels import Mode, attend

q = torch.randn(1, 2, 5, 4)
attend(q, q, q, {"kind": "full", "scale": 0.5}, Mode.FULL)
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(60)
"""


def test_what_was_called_before_a_limit_of_time_ends_the_command_is_kept(tmp_path: Path) -> None:
    make_project(tmp_path)
    (tmp_path / "slow.py").write_text(SLOW)
    done = record(tmp_path, sys.executable, "slow.py")
    assert done.returncode == 128 + signal.SIGTERM
    assert call_file(tmp_path, "attend").exists()
