"""``.ci/release``: refuses what is not ready, and makes wheel, site and tag of what is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import theria
from tests.support.release_case import ROOT

VERSION = theria.__version__
# Stands in for the Python of the checkout: it builds nothing, and leaves what building leaves.
PYTHON = """\
#!/bin/sh
case "$*" in
    "-m build --outdir dist .") mkdir dist; touch dist/it.whl ;;
    "-m mkdocs build --strict --quiet") mkdir site ;;
    "-c import $LACKING") exit 1 ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with what a release looks at, ready for one."""
    folder = tmp_path / "checkout"
    for name in (".ci/release", "theria/version.py", "README.md", ".gitignore"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n## {VERSION} (2026-12-01)\n")
    (folder / "pyproject.toml").write_text('[project.urls]\nRepository = "https://example.org/it"\n')
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    git(folder, "init", "-q")
    commit(folder)
    return folder


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Change it")


def release(folder: Path, lacking: str = "nothing") -> subprocess.CompletedProcess[str]:
    environment = {"PYTHON": str(folder.parent / "python"), "PATH": "/usr/bin:/bin", "LACKING": lacking}
    environment |= {f"GIT_COMMITTER_{part}": "a" for part in ("NAME", "EMAIL")}
    command = [str(folder / ".ci" / "release")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_release_has_a_tag_distributions_and_the_site(checkout: Path) -> None:
    done = release(checkout)
    assert done.returncode == 0, done.stderr
    assert git(checkout, "tag", "--list").split() == [f"v{VERSION}"]
    assert (checkout / "dist" / "it.whl").exists()
    assert (checkout / "site").is_dir()
    assert f"git push origin v{VERSION}" in done.stdout
    again = release(checkout)
    assert (again.returncode, again.stderr) == (
        1,
        f"no release: the tag v{VERSION} is there already; take the next version\n",
    )


@pytest.mark.parametrize(
    ("name", "text", "kept", "told"),
    [
        ("CHANGELOG.md", "# Changelog\n\n## Unreleased\n", True, 'CHANGELOG.md begins with "Unreleased"'),
        ("README.md", "rev: v0.0.9 \n", True, f"the README's hook does not name v{VERSION}"),
        ("pyproject.toml", "[project]\n", True, "pyproject.toml has no [project.urls]; name the repository there"),
        ("new.py", "", False, "there are changes that are not committed"),
    ],
)
def test_what_is_not_ready_is_refused(checkout: Path, name: str, text: str, kept: bool, told: str) -> None:
    (checkout / name).write_text(text)
    if kept:
        commit(checkout)
    done = release(checkout)
    assert done.returncode == 1
    assert told in done.stderr
    assert git(checkout, "tag", "--list") == ""
    assert not (checkout / "dist").exists()


def test_what_is_needed_and_lacking_is_named(checkout: Path) -> None:
    assert "has no mkdocs; run" in release(checkout, lacking="mkdocs").stderr
