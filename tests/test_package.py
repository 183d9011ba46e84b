"""What a wheel holds, and what importing the packages costs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "triton", "numpy", "libcst", "click")


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_linter_loads_nothing_heavy():
    assert loaded_by("import theria_lint") == set()
    assert loaded_by("import theria_lint.model") == set()
    assert loaded_by("import theria_lint.static.scan") == set()


def test_importing_the_library_loads_no_torch_until_it_is_used():
    assert loaded_by("import theria, theria.verdicts") == set()
    assert "torch" in loaded_by("from theria import probe")
    assert "triton" not in loaded_by("from theria import probe")


def test_the_parents_side_of_the_dynamic_stage_loads_no_torch():
    assert not {"torch", "triton"} & loaded_by("import theria_lint.confirm.confirm, theria_lint.confirm.worker_client")


def test_the_workers_side_needs_neither_click_nor_libcst():
    worker = "theria_lint.worker"
    assert not {"click", "libcst"} & loaded_by(f"import {worker}.server, {worker}.probe_target")


def test_runtime_dependencies_are_light_and_have_lower_bounds_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [requirement.partition(">=")[0] for requirement in project["dependencies"]]
    assert names == ["click", "libcst"]
    assert not any(mark in requirement for requirement in project["dependencies"] for mark in ("==", "<", "~"))


def test_rules_ship_inside_the_wheel():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["force-include"] == {
        "rules": "theria_lint/rules/data",
        "docs/reasons.md": "theria_lint/report/reasons.md",
        "docs/configuration-1.schema.json": "theria_lint/configuration-1.schema.json",
    }
