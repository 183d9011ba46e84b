"""What users install: the built distributions, in an environment that holds nothing else.

One test from end to end, so that everything is built once.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import theria_lint
from tests.support.release_case import ROOT, SAFE, UNSAFE, copy_checkout, need_git, need_index, run

VERSION = theria_lint.__version__


def test_the_version_is_written_in_one_place() -> None:
    assert "version" not in re.findall(
        r"^(\w+) = ", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert released[0].partition(" ")[0] == VERSION
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d{2}-\d{2}\)", heading) for heading in released)
    assert len(set(headings)) == len(headings)
    assert f"rev: v{VERSION} " in (ROOT / "README.md").read_text(encoding="utf-8")


def wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def source_names(checkout: Path) -> set[str]:
    """What a wheel must hold: every file of the packages, and the rules inside the linter."""
    names = {path.relative_to(checkout).as_posix() for room in ("theria", "theria_lint", "rules")
             for path in (checkout / room).rglob("*") if path.is_file()}  # fmt: skip
    shipped = {f"theria_lint/rules/data/{name[6:]}" if name.startswith("rules/") else name for name in names}
    return {*shipped, "theria_lint/report/reasons.md", "theria_lint/configuration-1.schema.json"}


def test_distributions_install_into_a_clean_environment_and_lint_there(tmp_path: Path) -> None:
    pytest.importorskip("build", reason="needs build")
    need_git()
    need_index(tmp_path / "index")
    checkout, built, place = tmp_path / "checkout", tmp_path / "dist", tmp_path / "project"
    copy_checkout(checkout)
    place.mkdir()

    # The wheel is built from the unpacked sdist.
    run(sys.executable, "-m", "build", "--outdir", built, checkout, cwd=place)
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    assert wheel.name == f"theria_lint-{VERSION}-py3-none-any.whl"
    assert wheel_names(wheel) == source_names(checkout)
    assert {
        "theria/py.typed",
        "theria_lint/py.typed",
        "theria_lint/rules/data/THL001-no-grad/rule.toml",
    } <= wheel_names(wheel)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "mkdocs.yml", "docs/index.md", "tests/test_readme.py"} <= names

    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment, cwd=place)
    python, linter = environment / "bin" / "python", environment / "bin" / "theria-lint"
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=place)
    installed = json.loads(run(python, "-m", "pip", "list", "--format=json", cwd=place).stdout.splitlines()[0])
    assert not {"torch", "triton", "numpy"} & {package["name"] for package in installed}

    (place / "unsafe.py").write_text(UNSAFE, encoding="utf-8")
    (place / "safe.py").write_text(SAFE, encoding="utf-8")
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin", "VIRTUAL_ENV": ""}
    assert run(linter, "--version", cwd=place).stdout == f"theria-lint {VERSION}\n"
    assert run(linter, "--no-confirm", "safe.py", cwd=place, env=env).stdout.startswith("1 file")
    found = run(linter, "--no-confirm", "--quiet", "unsafe.py", cwd=place, env=env, codes=[1]).stdout
    assert found.startswith("unsafe.py:6:20: THL002 [unconfirmed]")
    assert "no torch" in run(linter, "unsafe.py", cwd=place, env=env, codes=[1]).stdout
    assert run(linter, "--explain", "THL004", cwd=place).stdout.startswith("# THL004 opaque-backward")

    # From the sdist, the same thing comes out.
    run(python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", sdist, cwd=place)
    assert run(linter, "--no-confirm", "--quiet", "unsafe.py", cwd=place, env=env, codes=[1]).stdout == found
