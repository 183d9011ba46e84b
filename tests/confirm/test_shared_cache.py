"""One cache for several folders, and entries that are not what was written."""

from __future__ import annotations

import copy
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.cached_outcome import AROUND, RUN, SAFE, new_cache, place
from tests.support.kept_workers import keep_workers
from theria_lint.cache import EntryStore
from theria_lint.cli import run_command_line
from theria_lint.confirm.outcome_cache import OutcomeCache, conforms
from theria_lint.confirm.protocol import FileDependencies, Outcome
from theria_lint.confirm.runner import VariantRunner
from theria_lint.reasons import Reason, ReasonCode

HELPER = """
import torch

def weights(q, k):
    return torch.softmax(q @ k.transpose(-2, -1), dim=-1).detach()
"""
KERNEL = """
import torch
from helper import weights

def attention(q, k, v):
    with torch.no_grad():
        scale = q.shape[-1] ** -0.5
    return weights(q * scale, k) @ v.detach()
"""


def project(at: Path) -> Path:
    at.mkdir()
    (at / "helper.py").write_text(HELPER)
    (at / "kernel.py").write_text(KERNEL)
    return at


Lint = Callable[..., str]


@pytest.fixture
def lint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lint:
    """What a run in a folder prints, with one cache for all of them."""

    def run(folder: Path, *options: str, cache: str = "c") -> str:
        monkeypatch.chdir(folder)
        arguments = ["--device", "cpu", "--cache-dir", str(tmp_path / cache), *options]
        with keep_workers():
            return CliRunner().invoke(run_command_line, arguments, prog_name="theria-lint").stdout

    return run


def test_a_second_folder_gives_the_same_results(tmp_path: Path, lint: Lint) -> None:
    first, second = project(tmp_path / "z"), project(tmp_path / "a")
    cold = lint(first), lint(first, "--diff")
    assert "2 confirmed, 1 cleared" in cold[0]
    assert cold[1].count("+++ ") >= 2
    assert (lint(second), lint(second, "--diff")) == cold
    assert lint(second, "--write-baseline", "b.json") == lint(first, "--write-baseline", "b.json")
    assert (first / "b.json").read_bytes() == (second / "b.json").read_bytes()


def test_a_folder_that_was_moved_gives_the_same_results(tmp_path: Path, lint: Lint) -> None:
    cold = lint(project(tmp_path / "old")), lint(tmp_path / "old", "--diff")
    (tmp_path / "old").rename(tmp_path / "new")
    shutil.copytree(tmp_path / "c", tmp_path / "restored", copy_function=shutil.copyfile)
    assert (lint(tmp_path / "new"), lint(tmp_path / "new", "--diff")) == cold
    project(tmp_path / "old")
    assert (lint(tmp_path / "old", cache="restored"), lint(tmp_path / "old", "--diff", cache="restored")) == cold


def test_a_changed_file_under_the_old_path_is_run_again(tmp_path: Path, lint: Lint) -> None:
    lint(project(tmp_path / "p"))
    (tmp_path / "p" / "helper.py").write_text(HELPER.replace(".detach()", ""))
    assert lint(tmp_path / "p") == lint(tmp_path / "p", "--no-cache")


def test_two_files_with_one_text_are_two_variants(tmp_path: Path, lint: Lint) -> None:
    (tmp_path / "p").mkdir()
    for name in ("one", "other"):
        (tmp_path / "p" / f"{name}.py").write_text(HELPER)
    (tmp_path / "p" / "kernel.py").write_text(
        "import one, other\n\ndef attention(q, k, v):\n    return (one.weights(q, k) + other.weights(q, k)) @ v\n"
    )
    plain = lint(tmp_path / "p", "--no-cache")
    assert lint(tmp_path / "p") == plain
    assert lint(tmp_path / "p") == plain


def test_texts_for_another_number_of_files_are_made_again(tmp_path: Path) -> None:
    cache = OutcomeCache(place(tmp_path), "python", "cpu")
    cache.store_texts("recipe", ["one"])
    runner = VariantRunner(None, None, cache)  # type: ignore[arg-type]
    assert runner.get_or_make_texts("recipe", 2, lambda: ["a", "b"]) == ["a", "b"]
    assert cache.load_texts("recipe") == ["a", "b"]


KEPT = replace(
    SAFE,
    aside=SAFE.places,
    notes=(Reason(ReasonCode.OUT_OF_TIME),),
    runs=(replace(RUN, maml={"rel": 0.5}, states={"q": "right"}),),
)


@pytest.fixture
def entry(tmp_path: Path) -> tuple[EntryStore, str, Any]:
    """The entries of a cache with one outcome, the name of that, and its data."""
    cache = new_cache(tmp_path)
    time.sleep(0.02)
    cache.mark_worker_start()
    cache.store_worker_info(AROUND, FileDependencies())
    cache.store_outcome("kernel", ["/k.py"], replace(KEPT, reads=FileDependencies()))
    assert cache.load_outcome("kernel", ["/k.py"]) == KEPT
    (path,) = (tmp_path / "cache").rglob("*.outcome.json")
    data = json.loads(path.read_bytes().partition(b"\n")[2])
    return EntryStore(place(tmp_path), "dynamic"), path.parent.name + path.name.removesuffix(".json"), data


def paths_in(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there are values in JSON data, the whole included."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [at, *(path for key, value in inner for path in paths_in(value, (*at, key)))]


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=int(os.environ.get("THERIA_LINT_FUZZ", "300")),
)
@given(st.data())
def test_a_signed_entry_of_another_shape_is_none_or_an_outcome(
    tmp_path: Path, entry: tuple[EntryStore, str, Any], data: st.DataObject
) -> None:
    entries, name, kept = entry
    forged = {"entry": copy.deepcopy(kept)}
    path = ("entry", *data.draw(st.sampled_from(paths_in(kept))))
    holder: Any = forged
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = data.draw(ANY_JSON)
    entries.store_entry(name, forged["entry"])
    cache = new_cache(tmp_path)
    assert cache.load_worker_info() == AROUND
    found = cache.load_outcome("kernel", ["/k.py"])
    assert found is None or (conforms(found, Outcome) and found.places.keys() <= {"/k.py"})


WRONG: dict[str, Callable[[Any], object]] = {
    "a place before the file": lambda outcome: outcome["places"].update({"/k.py": [[0, 0, 1, 5]]}),
    "a place that ends before it begins": lambda outcome: outcome["places"].update({"/k.py": [[3, 0, 1, 5]]}),
    "half a place": lambda outcome: outcome["places"].update({"/k.py": [[1, 0]]}),
    "a number that is a text": lambda outcome: outcome["places"].update({"/k.py": [["1", 0, 1, 5]]}),
    "a state that is none": lambda outcome: outcome["runs"][0]["states"].update({"q": "fine"}),
    "a verdict that is none": lambda outcome: outcome["runs"][0].update({"verdict": "splendid"}),
    "a symbol that is a list": lambda outcome: outcome.update({"symbol": ["attention"]}),
    "a reason that is a number": lambda outcome: outcome.update({"reason": 7}),
    "notes that are a text": lambda outcome: outcome.update({"notes": [1]}),
    "an error that is a text": lambda outcome: outcome["runs"][0]["gradients"].update({"q": "0.5"}),
    "one key more": lambda outcome: outcome.update({"surprise": 1}),
    "one key less": lambda outcome: outcome.pop("runs"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_outcome_that_is_wrong_is_none(tmp_path: Path, entry: tuple[EntryStore, str, Any], wrong: str) -> None:
    entries, name, kept = entry
    WRONG[wrong](kept["outcome"])
    entries.store_entry(name, kept)
    cache = new_cache(tmp_path)
    assert cache.load_worker_info() == AROUND
    assert cache.load_outcome("kernel", ["/k.py"]) is None


def test_what_was_seen_in_files_that_are_no_longer_watched_is_left_out(
    tmp_path: Path, entry: tuple[EntryStore, str, Any]
) -> None:
    cache = new_cache(tmp_path)
    assert cache.load_worker_info() == AROUND
    assert cache.load_outcome("kernel", []) == replace(KEPT, places={}, aside={})
