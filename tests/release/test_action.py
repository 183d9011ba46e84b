"""The GitHub Action: what it declares fits together, and its steps do what they say, run as a runner runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.lint_case import CLEAN, UNSAFE

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = ACTION["runs"]["steps"]
PIP = '#!/bin/sh\nprintf "%s\\n" "$@" > "$PIP_LOG"\n'


def test_what_it_declares_fits_together() -> None:
    assert ACTION["runs"]["using"] == "composite"
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(ACTION["inputs"])
    assert all(step.get("shell") == "bash" for step in STEPS if "run" in step)
    assert set(re.findall(r"steps\.(\w+)\.", text)) == {step["id"] for step in STEPS if "id" in step}
    # A value that is put into a script by the runner could end a word in it: all go by the environment.
    assert not any("${{" in step.get("run", "") for step in STEPS)
    assert all({"description", "default"} <= set(about) for about in ACTION["inputs"].values())


class Runner:
    """Runs the steps of the action that are shell, with inputs, and keeps their outputs."""

    def __init__(self, folder: Path, **inputs: str) -> None:
        self.folder, self.outputs = folder, {}
        self.inputs = {name: about["default"] for name, about in ACTION["inputs"].items()} | inputs
        (folder / "bin").mkdir()
        for name, text in (
            ("python", PIP),
            ("theria-lint", f'#!/bin/sh\nexec "{sys.executable}" -m theria_lint "$@"\n'),
        ):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        step = next(step for step in STEPS if step["name"] == name)
        output = self.folder / "output"
        output.write_text("")
        environment = {key: self._fill(value) for key, value in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.folder,
            env=os.environ | environment | {
                "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "GITHUB_OUTPUT": str(output),
                "PIP_LOG": str(self.folder / "pip"), "PYTHONPATH": str(ROOT),
                "XDG_CACHE_HOME": str(self.folder / "cache"),
            },
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        self.outputs |= dict(line.split("=", 1) for line in output.read_text().splitlines())
        return done

    def _fill(self, value: Any) -> str:
        known = {f"inputs.{name}": text for name, text in self.inputs.items()}
        known |= {f"steps.lint.outputs.{name}": text for name, text in self.outputs.items()}
        known |= {"github.action_path": "/the/action", "runner.temp": str(self.folder)}
        return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda found: known[found[1]], str(value))


@pytest.mark.parametrize(
    ("inputs", "installed"),
    [
        ({}, ["--extra-index-url", "https://download.pytorch.org/whl/cpu", "/the/action[confirm]"]),
        ({"extra-index-url": ""}, ["/the/action[confirm]"]),
        ({"confirm": "false"}, ["/the/action"]),
    ],
)
def test_it_installs_what_is_wanted(tmp_path: Path, inputs: dict[str, str], installed: list[str]) -> None:
    runner = Runner(tmp_path, **inputs)
    assert runner.run("Install theria-lint").returncode == 0
    assert (tmp_path / "pip").read_text().splitlines() == ["-m", "pip", "install", "--quiet", *installed]


def test_findings_are_annotated_kept_as_sarif_and_fail_the_job_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "a kernel.py").write_text(UNSAFE)
    (tmp_path / "clean.py").write_text(CLEAN)
    runner = Runner(tmp_path, paths="a kernel.py\nclean.py\n", confirm="false", args="--select\nTHL002")
    done = runner.run("Run theria-lint")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("::warning file=a kernel.py,line=6,")
    report = json.loads(Path(runner.outputs["sarif-file"]).read_text())
    assert [result["ruleId"] for result in report["runs"][0]["results"]] == ["THL002"]
    assert runner.run("Report the outcome").returncode == 1


def test_what_is_wrong_fails_the_job_without_a_report(tmp_path: Path) -> None:
    runner = Runner(tmp_path, paths="none.py; touch ran", args="$(touch ran)")
    done = runner.run("Run theria-lint")
    assert "none.py; touch ran: no such file or directory" in done.stderr + done.stdout or "touch" in done.stderr
    assert "sarif-file" not in runner.outputs
    assert runner.run("Report the outcome").returncode == 2
    assert not (tmp_path / "ran").exists()
