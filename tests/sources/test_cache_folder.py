"""The folder for results: only what is ours is read, written or removed there, and only what we have written counts."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.lint_case import UNSAFE, Lint
from theria_lint import static
from theria_lint.cache import EntryStore, Place
from theria_lint.sources.owned_folder import KEY, MARK, NAME, TAG, is_within

YEAR = 365 * 24 * 3600
NO_CACHE = "--no-cache"


def aged(path: Path) -> Path:
    """The path, whose times are long gone by."""
    long_ago = time.time() - YEAR
    os.utime(path, (long_ago, long_ago), follow_symlinks=False)
    return path


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of the user's outside the project, with old files named as ours are."""
    place = tmp_path / "victim"
    (place / "ab").mkdir(parents=True)
    for name in ("notes.txt", "ab/notes.txt", f"ab/{30 * 'c'}.suspects.json", "pruned", TAG, KEY):
        aged(place / name).write_text("mine") if (place / name).exists() else (place / name).write_text("mine")
        aged(place / name)
    return place


def contents(place: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder, with the time of its last change."""
    return {
        str(path.relative_to(place)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def planted(place: Path, *, name: str = NAME) -> Path:
    """A folder for results as a project might ship it, with our mark and a key."""
    made = place / name
    made.mkdir(parents=True, exist_ok=True)
    (made / TAG).write_bytes(MARK)
    (made / KEY).write_text("0" * 64)
    return made


Plant = Callable[[Path, Path], None]


def _link_all_halves(cache: Path, victim: Path) -> None:
    (planted(cache) / "static").mkdir()
    for number in range(256):
        (cache / NAME / "static" / f"{number:02x}").symlink_to(victim / "ab")


PLANTS: dict[str, Plant] = {
    "the kind, as it was before": lambda cache, victim: (cache / "static").symlink_to(victim),
    "our folder": lambda cache, victim: (cache / NAME).symlink_to(victim),
    "our folder, marked": lambda cache, victim: (planted(victim, name="."), (cache / NAME).symlink_to(victim))[0],
    "the kind": lambda cache, victim: (planted(cache) / "static").symlink_to(victim),
    "every half of a name": _link_all_halves,
    "the mark": lambda cache, victim: (
        (cache / NAME).mkdir(),
        (victim / TAG).write_bytes(MARK),
        (cache / NAME / TAG).symlink_to(victim / TAG),
    )[1],
    "the day of pruning": lambda cache, victim: (
        (planted(cache) / "static").mkdir(),
        (cache / NAME / "static" / "pruned").symlink_to(victim / "pruned"),
    )[1],
}


@pytest.mark.parametrize("plant", PLANTS)
def test_no_link_in_a_cache_is_followed(lint: Lint, folder: Path, victim: Path, plant: str) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "theria-lint.toml").write_text('cache-dir = "c"\n')
    plain = lint(NO_CACHE).stdout
    (folder / "c").mkdir()
    PLANTS[plant](folder / "c", victim)
    before = contents(victim)
    for _ in range(2):
        assert lint().stdout == plain
    assert contents(victim) == before


def test_what_lies_in_the_named_folder_stays(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    for name in ("static/ab/c.json", "dynamic/ab/c.json", "static/notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
        aged(folder / name)
    before = contents(folder)
    lint("--cache-dir", ".")
    assert {name: state for name, state in contents(folder).items() if not name.startswith(NAME)} == before
    assert (folder / NAME / TAG).read_bytes() == MARK


def find_suspects(cache: Path) -> Path:
    """The one entry that holds suspects; another one holds the targets of the file."""
    (entry,) = (path for path in cache.rglob("*.json") if b'"rule"' in path.read_bytes())
    return entry


def test_pruning_removes_nothing_that_is_not_an_entry(lint: Lint, folder: Path, victim: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    lint("--cache-dir", "cache")
    results = folder / "cache" / NAME / "static"
    entry = find_suspects(results)
    others = [results / name for name in ("notes.txt", "ab.json", "zz", "zz/x.json", "ff/notes.json", "ff/x")]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if path.name in ("zz", "x") else path.write_text("mine")
    link = entry.with_name(f"{30 * 'd'}.part.json")
    link.symlink_to(victim / "notes.txt")
    for path in (*others, link, entry, results / "pruned"):
        aged(path)
    (folder / "kernel.py").write_text("\n" + UNSAFE)
    lint("--cache-dir", "cache")
    assert not entry.exists()
    assert all(path.exists() for path in (*others, link))
    assert (victim / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", [{"notes.txt": b"mine"}, {TAG: b"Signature: another's"}, {TAG: MARK[:-1]}])
def test_a_folder_that_is_not_ours_is_left_alone_and_said_so(
    lint: Lint, folder: Path, content: dict[str, bytes]
) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / NAME).mkdir()
    for name, data in content.items():
        (folder / NAME / name).write_bytes(data)
    before = contents(folder)
    result = lint("--cache-dir", ".")
    assert result.stdout == lint(NO_CACHE).stdout
    where = folder / NAME
    assert result.stderr == (
        "Note: no results are kept: the folder for them is none of theria-lint's\n"
        f"  note: {where}\n  help: Remove it, or name another place with --cache-dir\n"
    )
    assert contents(folder) == before


def test_an_empty_folder_of_that_name_is_taken(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / NAME).mkdir()
    assert lint("--cache-dir", ".").stderr == ""
    assert (folder / NAME / TAG).read_bytes() == MARK


@pytest.mark.parametrize("where", ["..", "../elsewhere", "~", "~/kept", "/tmp/kept", "out", "out/kept", "sub/../../x"])
def test_the_configuration_takes_no_folder_out_of_the_project(lint: Lint, folder: Path, where: str) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "out").symlink_to(folder.parent)
    (folder / "theria-lint.toml").write_text(f'cache-dir = "{where}"\n')
    before = sorted(folder.parent.iterdir())
    result = lint()
    assert result.exit_code == 2
    real = os.path.realpath(folder / Path(where).expanduser())
    assert result.stderr == (
        f"Error: theria-lint.toml: cache-dir leads out of the project, to {real}; "
        "name such a place on the command line, with --cache-dir.\n"
    )
    assert sorted(folder.parent.iterdir()) == before
    assert lint("--cache-dir", "../elsewhere").exit_code == 1
    assert (folder.parent / "elsewhere" / NAME).is_dir()


@pytest.mark.parametrize(
    ("line", "option"),
    [('baseline = "../accepted.json"', "--baseline"), ('rule-paths = ["rules", "out"]', "--rule-path")],
)
def test_nor_a_baseline_or_rules_out_of_it(lint: Lint, folder: Path, line: str, option: str) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "out").symlink_to(folder.parent)
    (folder.parent / "accepted.json").write_text('{"schema": 1, "findings": [], "targets": []}')
    (folder / "theria-lint.toml").write_text(f"{line}\n")
    key = line.partition(" ")[0]
    result = lint("--no-confirm")
    assert result.exit_code == 2
    assert f"theria-lint.toml: {key} leads out of the project, to " in result.stderr
    assert f"name such a place on the command line, with {option}." in result.stderr
    (folder / "theria-lint.toml").unlink()
    assert lint("--no-confirm", "--baseline", "../accepted.json").exit_code == 1


@pytest.mark.parametrize("where", ["kept", "sub/kept", "inner/kept", "."])
def test_the_configuration_may_take_a_folder_in_the_project(lint: Lint, folder: Path, where: str) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "sub").mkdir()
    (folder / "inner").symlink_to(folder / "sub")
    (folder / "theria-lint.toml").write_text(f'cache-dir = "{where}"\n')
    assert lint().exit_code == 1
    assert (folder / where / NAME / TAG).read_bytes() == MARK


def _forbid_scanning(monkeypatch: pytest.MonkeyPatch) -> None:
    def scan(*_: object) -> None:
        raise AssertionError("scanned again")

    monkeypatch.setattr(static, "scan", scan)


def _forged(lint: Lint, folder: Path, place: Path) -> None:
    """A whole cache that says of the kernel that there is nothing in it, signed with the key that lies in it."""
    (folder / "kernel.py").write_text(UNSAFE)
    lint("--cache-dir", str(place))
    key = (place / NAME / KEY).read_text()
    assert key
    for entry in (place / NAME / "static").rglob("*.json"):
        kind = EntryStore(Place(str(place), str(place)), "static")
        kind.store_entry(entry.parent.name + entry.name.removesuffix(".json"), [])


def test_results_that_a_project_brings_do_not_count(lint: Lint, folder: Path, tmp_path: Path) -> None:
    plain = lint(NO_CACHE).stdout
    _forged(lint, folder, tmp_path / "made")
    plain = lint(NO_CACHE).stdout
    assert lint("--cache-dir", str(tmp_path / "made")).stdout != plain, "what was forged is what would be taken"
    shutil.copytree(tmp_path / "made", folder / "c")
    (folder / "theria-lint.toml").write_text('cache-dir = "c"\n')
    assert lint().stdout == plain
    assert lint("--cache-dir", "c").stdout == plain
    (tmp_path / "mine.toml").touch()
    assert lint("--cache-dir", "c", "--config", str(tmp_path / "mine.toml")).stdout == plain


@pytest.mark.parametrize("named", ["project", "project/kernel.py"])
def test_results_in_what_is_linted_from_elsewhere_do_not_count(
    lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    (folder / "project").mkdir()
    _forged(lint, folder / "project", folder / "project" / "c")
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    arguments = ("--isolated", f"../{named}")
    assert lint("--cache-dir", "../project/c", *arguments).stdout == lint(NO_CACHE, *arguments).stdout


def test_a_place_for_keys_that_is_not_ours_is_said(lint: Lint, folder: Path, tmp_path: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    taken = tmp_path / "cache" / "theria-lint" / NAME
    taken.mkdir(parents=True)
    (taken / "mine").touch()
    for arguments in ((), ("--cache-dir", "c")):
        result = lint(*arguments)
        assert result.stderr.startswith(
            f"Note: no results are kept: the folder for them is none of theria-lint's\n  note: {taken}\n"
        )
        assert result.stdout == lint(NO_CACHE).stdout


def test_results_that_are_ours_count_in_the_project_too(
    lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "theria-lint.toml").write_text('cache-dir = "c"\n')
    first = lint().stdout
    _forbid_scanning(monkeypatch)
    assert lint().stdout == first


def test_a_folder_outside_is_restored_as_a_whole(
    lint: Lint, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from the cache of a CI service: in another place, with other times."""
    (folder / "kernel.py").write_text(UNSAFE)
    first = lint("--cache-dir", str(tmp_path / "made")).stdout
    shutil.copytree(tmp_path / "made", tmp_path / "restored", copy_function=shutil.copyfile)
    shutil.rmtree(tmp_path / "made")
    _forbid_scanning(monkeypatch)
    assert lint("--cache-dir", str(tmp_path / "restored")).stdout == first


def test_what_another_version_wrote_is_not_read(
    lint: Lint, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _forged(lint, folder, tmp_path / "made")
    plain = lint(NO_CACHE).stdout
    monkeypatch.setattr("theria_lint.cache.__version__", "0.0.0")
    assert lint("--cache-dir", str(tmp_path / "made")).stdout == plain


def test_a_pipe_in_place_of_an_entry_is_not_waited_for(lint: Lint, folder: Path, tmp_path: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    first = lint("--cache-dir", "c").stdout
    for entry in (folder / "c").rglob("*.json"):
        entry.unlink()
        os.mkfifo(entry)
    assert lint("--cache-dir", "c").stdout == first


def test_a_notebook_with_the_bytes_of_a_module_is_another_thing(lint: Lint, folder: Path) -> None:
    cell = {"cell_type": "code", "source": UNSAFE, "metadata": {}, "outputs": [], "execution_count": 1}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    text = json.dumps(notebook).replace("null", "0")
    (folder / "module.py").write_text(text)
    (folder / "book.ipynb").write_text(text)
    plain = lint(NO_CACHE, "book.ipynb").stdout
    assert "THL002" in plain
    lint("--cache-dir", "c", "module.py")
    assert lint("--cache-dir", "c", "book.ipynb").stdout == plain


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SUSPECT_FIELDS = st.sampled_from(
    ["rule", "name", "severity", "span", "symbol", "message", "remedy", "reach", "neutraliser", "cell", "extra"]
)


@pytest.fixture
def written(lint: Lint, folder: Path) -> tuple[str, Path, object]:
    """What a run without a cache prints, the entry of the suspects in a warm cache, and the data in it."""
    (folder / "kernel.py").write_text(UNSAFE)
    plain = lint("--cache-dir", "../c").stdout
    entry = find_suspects(folder.parent / "c")
    return plain, entry, json.loads(entry.read_bytes().partition(b"\n")[2])


FUZZ = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=int(os.environ.get("THERIA_LINT_FUZZ", "60")),
)


@FUZZ
@given(st.data())
def test_an_entry_with_other_bytes_is_none(written: tuple[str, Path, object], lint: Lint, data: st.DataObject) -> None:
    plain, entry, _ = written
    kept = entry.read_bytes()
    at = data.draw(st.integers(0, len(kept) - 1))
    other = data.draw(st.binary(max_size=8).filter(lambda new: new != kept[at : at + len(new)] or not new))
    cut = data.draw(st.booleans())
    entry.write_bytes(kept[:at] + other + (b"" if cut else kept[at + max(len(other), 1) :]))
    assert lint("--cache-dir", "../c").stdout == plain


@FUZZ
@example(data={"field": "cell", "value": 1})
@example(data={"field": "reach", "value": [10**9, 10**9]})
@example(data={"field": "severity", "value": "fatal"})
@given(st.fixed_dictionaries({"field": SUSPECT_FIELDS, "value": ANY_JSON}))
def test_an_entry_of_another_shape_is_none(
    written: tuple[str, Path, object], lint: Lint, data: dict[str, object]
) -> None:
    """Even if it is signed: texts are all that may differ in a suspect, and what is drawn is seldom the right kind."""
    plain, entry, rows = written
    assert isinstance(rows, list)
    (row,) = rows
    field, value = data["field"], data["value"]
    if isinstance(value, str) or (field in ("neutraliser", "cell") and value is None):
        return
    place = str(entry.parents[3])
    name = entry.parent.name + entry.name.removesuffix(".json")
    for forged in ([{**row, str(field): value}], {"rows": value}, [value]):
        EntryStore(Place(place, place), "static").store_entry(name, forged)
        assert lint("--cache-dir", "../c").stdout == plain


def test_a_link_to_the_named_folder_is_followed(lint: Lint, folder: Path, tmp_path: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "scratch")
    lint("--cache-dir", str(tmp_path / "link" / "kept"))
    assert (tmp_path / "scratch" / "kept" / NAME / TAG).read_bytes() == MARK


def test_where_links_would_be_followed_nothing_is_kept(
    lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("theria_lint.sources.owned_folder._BENEATH", False)
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint("--cache-dir", "c")
    assert (result.stdout, result.stderr) == (lint(NO_CACHE).stdout, "")
    assert not (folder / "c").exists()


PLACES = [
    "",
    NAME,
    f"{NAME}/{TAG}",
    f"{NAME}/{KEY}",
    f"{NAME}/static",
    f"{NAME}/static/pruned",
    "HALF",
    "ENTRY",
    "static",
]
KINDS: dict[str, Plant] = {
    "a link to a folder": lambda path, victim: path.symlink_to(victim),
    "a link to a part": lambda path, victim: path.symlink_to(victim / "ab"),
    "a link to a file": lambda path, victim: path.symlink_to(victim / "notes.txt"),
    "a link to a mark": lambda path, victim: path.symlink_to(victim / TAG),
    "a link to what will be": lambda path, victim: path.symlink_to(victim / "new"),
    "a link to itself": lambda path, victim: path.symlink_to(path),
    "a hard link": lambda path, victim: path.hardlink_to(victim / "notes.txt"),
    "an empty folder": lambda path, victim: path.mkdir(),
    "a full folder": lambda path, victim: shutil.copytree(victim, path),
    "a folder of ours": lambda path, victim: planted(path.parent, name=path.name) and None,
    "a file": lambda path, victim: path.write_text("{}") and None,
    "a pipe": lambda path, victim: os.mkfifo(path),
}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@FUZZ
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(sorted(KINDS))), min_size=1, max_size=5))
def test_whatever_is_planted_in_a_cache_harms_nothing(
    lint: Lint, folder: Path, victim: Path, plants: list[tuple[str, str]]
) -> None:
    cache = folder / "c"
    _remove(cache)
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "theria-lint.toml").write_text('cache-dir = "c"\n')
    plain = lint().stdout
    entry = find_suspects(cache)
    for name, kind in plants:
        path = {"HALF": entry.parent, "ENTRY": entry}.get(name, cache / name)
        if not path.parent.is_dir() or not is_within(str(path.parent), str(folder)):
            continue  # an earlier one has put something else there
        _remove(path)
        KINDS[kind](path, victim)
        if path.is_file() and not path.is_symlink():
            aged(path)
    for path in (victim, *victim.rglob("*")):
        aged(path)
    before = contents(victim)
    for source in (UNSAFE, "\n" + UNSAFE, UNSAFE):
        (folder / "kernel.py").write_text(source)
        result = lint()
        if not is_within(str(cache), str(folder)):
            assert result.exit_code == 2
            assert "cache-dir leads out of the project" in result.stderr
        elif source is UNSAFE:
            assert result.stdout == plain
    assert contents(victim) == before
