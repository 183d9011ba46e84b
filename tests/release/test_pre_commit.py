"""The hooks, by the real pre-commit: a throw-away repository, the hooks installed from a clone of this checkout.

One test from end to end, so that the hooks' environment is built once.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from tests.support.release_case import CLEARED, ROOT, SAFE, UNSAFE, copy_checkout, need_git, need_index, run

yaml = pytest.importorskip("yaml", reason="needs what pre-commit needs")
pytest.importorskip("pre_commit", reason="needs pre-commit")
pytest.importorskip("torch", reason="the hook theria-lint confirms with a torch")

MEGABYTE = 1_000_000
STATIC, CONFIRMING = "theria-lint-static", "theria-lint"


class Repository:
    """A user's repository with a hook of ours."""

    def __init__(self, folder: Path, hooks: Path) -> None:
        self.folder = folder
        self.hooks = hooks
        self.caches = folder.parent / "caches"
        self.installed = folder.parent / "pre-commit"
        name, mail = "A", "a@example.org"
        self.env = {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in
               (("NAME", name), ("EMAIL", mail))},
            "PRE_COMMIT_HOME": str(self.installed),
            "XDG_CACHE_HOME": str(self.caches),
            "COLUMNS": "80",
        }  # fmt: skip

    def git(self, *arguments: str, code: int = 0) -> str:
        return run("git", *arguments, cwd=self.folder, codes=[code], env=self.env).stdout

    def pre_commit(self, *arguments: str) -> str:
        return run(sys.executable, "-m", "pre_commit", *arguments, cwd=self.folder, env=self.env).stdout

    def use(self, hook: str) -> None:
        """Configure one hook, in the words of the README."""
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        shown = readme.split("```yaml\n", 1)[1].split("```", 1)[0]
        rev = run("git", "rev-parse", "HEAD", cwd=self.hooks, env=self.env).stdout.strip()
        lines = []
        for line in shown.splitlines():
            key, colon, _ = line.partition(": ")
            value = {"  - repo": self.hooks.as_uri(), "    rev": rev, "      - id": hook}.get(key)
            lines.append(f"{key}{colon}{value}" if value else line)
        (self.folder / ".pre-commit-config.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.git("add", ".pre-commit-config.yaml")

    def commit(self, name: str, text: str, code: int = 0) -> str:
        """Write a file and commit it: what the hook printed."""
        (self.folder / name).write_text(text, encoding="utf-8")
        self.git("add", name)
        return self.git("commit", "--message", f"Change {name}", code=code)

    def results(self) -> dict[str, int]:
        """The files in our cache, by their inodes: an entry that is written again is another file."""
        found = {path: path.stat().st_ino for path in self.caches.glob("theria-lint/**/*.json")}
        return {str(path.relative_to(self.caches)): inode for path, inode in found.items()}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    need_git()
    need_index(tmp_path / "index")
    hooks, folder = tmp_path / "hooks", tmp_path / "project"
    folder.mkdir()
    made = Repository(folder, hooks)
    copy_checkout(hooks)
    for arguments in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "Hooks")):
        run("git", *arguments, cwd=hooks, env=made.env)
    made.git("init", "--quiet")
    return made


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def counting_interpreter(folder: Path) -> tuple[Path, Path]:
    """This interpreter behind a script that leaves a line in a log each time it is started, and that log."""
    script, log = folder / "interpreter", folder / "starts"
    log.touch()
    script.write_text(f'#!/bin/sh\necho started >> "{log}"\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script, log


@pytest.mark.parametrize("number", [0, 1])
def test_no_file_is_taken_for_a_command_or_an_option(tmp_path: Path, number: int) -> None:
    """What a hook is called with are names that the author of a change has chosen."""
    hook = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))[number]
    names = ("record", "--trust", "--fix")
    for name in names:
        (tmp_path / name).write_text(UNSAFE, encoding="utf-8")
    words = [*hook["entry"].split()[1:], *hook["args"], *names]
    env = {"THERIA_LINT_CONFIRM": "no", "THERIA_LINT_OUTPUT_FORMAT": "concise", "PYTHONPATH": str(ROOT)}
    told = run(sys.executable, "-m", "theria_lint", *words, cwd=tmp_path, codes=[1], env=env).stdout
    assert sorted(line.partition(":")[0] for line in told.splitlines()) == sorted(names)


def test_the_hooks_refuse_unsafe_kernels_and_accept_the_mended(repository: Repository, tmp_path: Path) -> None:
    repository.use(STATIC)
    repository.pre_commit("install")

    refused = repository.commit("kernel.py", UNSAFE, code=1)
    assert "theria-lint (static)" in refused
    assert "kernel.py:6:20: THL002 detach: unconfirmed" in refused
    assert "Passed" in repository.commit("kernel.py", SAFE)
    assert "(no files to check)" in repository.commit("notes.txt", "q.detach()\n")

    environments = list(repository.installed.glob("repo*/py_env*"))
    assert len(environments) == 1
    assert size(environments[0]) < 60 * MEGABYTE
    assert not list(environments[0].glob("lib*/python*/site-packages/torch"))

    before = repository.results()
    assert before
    assert "Passed" in repository.pre_commit("run", "--all-files")
    assert repository.results() == before

    interpreter, starts = counting_interpreter(tmp_path)
    repository.use(CONFIRMING)
    repository.env["THERIA_LINT_PYTHON"] = str(interpreter)

    refused = repository.commit("kernel.py", UNSAFE, code=1)
    assert "kernel.py:6:20: THL002 detach: confirmed, hard_structural" in refused
    assert "Passed" in repository.commit("kernel.py", CLEARED)
    assert list(repository.installed.glob("repo*/py_env*")) == environments

    # Git runs hooks under a PATH of its own, which kernels may see: results count for the same surroundings only.
    assert "Passed" in repository.pre_commit("run", "--all-files")
    before, started = repository.results(), starts.read_text()
    assert started
    assert "Passed" in repository.pre_commit("run", "--all-files")
    assert repository.results() == before
    assert starts.read_text() == started
