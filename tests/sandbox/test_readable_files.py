"""What code under test may read of its project: what is really there and not hidden, and nothing a link leads to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.confirming import confirm_files, target_of
from theria_lint.config import Settings
from theria_lint.confirm.eligibility import make_confirm_settings
from theria_lint.errors import UserError
from theria_lint.report.sentences import say
from theria_lint.sandbox import landlock, readable_paths

linux = pytest.mark.skipif(sys.platform != "linux" or landlock.read_landlock_version() == 0, reason="needs Landlock")

SECRETS = ("unused/key", "pkg/deep/.env", "vendor/.git/config", ".env", "pkg/.secret/key.py", "node_modules/x/token")
OPEN = ("pkg/deep/open.txt", "pkg/data.txt", "vendor/open.txt", "plain/a/b.txt", "inside.txt")

KERNEL = """
import math
import torch


class ReadError(Exception):
    pass


def attention(q, k, v):
    said = ""
    for path in {paths!r}:
        try:
            open(path).read()
        except OSError:
            said += "n"
        else:
            said += "y"
    raise ReadError("<" + said + ">")
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with hidden files at every depth and links that lead out of it."""
    place, other = tmp_path / "project", tmp_path / "other"
    for name in (*SECRETS, *OPEN):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    (place / "pyproject.toml").write_text("")
    (place / "unused" / "pyvenv.cfg").write_text("")
    other.mkdir()
    (other / "key").write_text("secret")
    (place / "x").symlink_to("/")
    (place / "to_other").symlink_to(other)
    (place / "pkg" / "to_key").symlink_to(other / "key")
    (place / "to_env.txt").symlink_to(".env")
    (place / "pkg" / "loop").symlink_to(place)
    (place / "pkg" / "to_open").symlink_to("deep/open.txt")
    return place


def _readable(project: Path, names: list[str]) -> set[str]:
    """Which of some files a probe could read."""
    kernel = project / "kernel.py"
    kernel.write_text(KERNEL.format(paths=[str(project / name) for name in names]))
    reason = say(target_of(confirm_files([kernel], device="cpu"), "attention").reason)
    said = reason.partition("<")[2].partition(">")[0]
    assert len(said) == len(names), reason
    return {name for name, word in zip(names, said, strict=True) if word == "y"}


@linux
def test_a_probe_reads_nothing_hidden_and_follows_no_link_out(project: Path) -> None:
    links = ["x/" + str(project.parent / "other" / "key").lstrip("/"), "to_other/key", "pkg/to_key", "to_env.txt"]
    allowed = [*OPEN, "pkg/to_open", "pkg/loop/inside.txt"]
    assert _readable(project, [*allowed, *SECRETS, *links]) == set(allowed)


@linux
def test_the_rules_on_a_project_name_no_link_and_nothing_hidden(project: Path) -> None:
    rules = dict(readable_paths._of_project(str(project)))
    readable = {path.removeprefix(f"{project}/") for path, rights in rules.items() if rights == landlock.READ_RIGHTS}
    assert rules[str(project)] == landlock.LIST_RIGHTS
    assert readable == {
        *("pyproject.toml", "inside.txt", "plain", "pkg/data.txt", "pkg/deep/open.txt", "vendor/open.txt"),
    }


def test_a_project_with_too_many_entries_is_readable_as_far_as_they_are_looked_at(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        (project / "plain" / f"{number}.txt").touch()
    monkeypatch.setattr(readable_paths, "_MOST_ENTRIES", 30)
    readable_paths._of_project.cache_clear()
    rules = readable_paths._of_project(str(project))
    readable_paths._of_project.cache_clear()
    readable = {path.removeprefix(f"{project}/") for path, rights in rules if rights == landlock.READ_RIGHTS}
    assert "inside.txt" in readable
    assert not any(path.startswith("plain") for path in readable)


def test_an_editable_install_and_a_prefix_around_a_project_spare_its_hidden_files(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(project)])
    monkeypatch.setattr(sys, "prefix", str(project.parent))
    monkeypatch.setattr(readable_paths, "_SYSTEM", (str(project.parent),))
    granted = [
        path
        for path, rights in readable_paths.list_path_rules([str(project / "inside.txt")], "/t", device="cpu")
        if rights != 1 << 3
    ]
    assert str(project / "pkg" / "data.txt") in granted
    assert str(project.parent / "other") in granted
    for secret in (project / name for name in SECRETS):
        assert not any(secret.is_relative_to(path) for path in granted), secret


def test_a_named_link_is_its_real_file(project: Path, tmp_path: Path) -> None:
    (tmp_path / "named.py").symlink_to(project / "pkg" / "data.txt")
    assert readable_paths.find_project_folder(str(tmp_path / "named.py")) == str(project)
    granted = [path for path, _ in readable_paths.list_path_rules([str(tmp_path / "named.py")], "/t", device="cpu")]
    assert str(project / "pkg" / "data.txt") in granted
    assert str(tmp_path / "named.py") not in granted


@pytest.mark.parametrize(
    "name", ["../other/key", "to_other/key", "pkg/to_key", ".env", "to_env.txt", "pkg/deep/.env", "x/etc/passwd"]
)
def test_an_adapter_outside_the_project_or_hidden_is_refused(project: Path, name: str) -> None:
    settings = Settings(root=str(project), adapters=(os.path.normpath(project / name),))
    with pytest.raises(UserError, match="an adapter is a file of the project, and not a hidden one; copy it there"):
        make_confirm_settings(settings, sys.executable)


def test_an_adapter_of_the_project_is_opened_where_it_really_lies(project: Path) -> None:
    settings = Settings(root=str(project), adapters=(str(project / "pkg" / "to_open"),))
    assert make_confirm_settings(settings, sys.executable).adapters == (str(project / "pkg" / "deep" / "open.txt"),)


def test_packages_are_readable_as_a_whole_wherever_they_are_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "user" / "site-packages"
    (packages / "torch" / ".libs").mkdir(parents=True)
    (packages / "torch" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    assert (str(packages), landlock.READ_RIGHTS) in list(readable_paths.list_path_rules([], "/t", device="cpu"))
    linted = list(readable_paths.list_path_rules([str(packages / "torch" / "kernel.py")], "/t", device="cpu"))
    assert (str(packages), landlock.READ_RIGHTS) in linted
