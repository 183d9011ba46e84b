"""Outcomes are kept by everything that they were made from, and nothing less counts as the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.cached_outcome import AROUND, SAFE, new_cache, place
from tests.support.confirming import confirm_source
from theria.verdicts import Verdict
from theria_lint import confirm
from theria_lint.cache import Place
from theria_lint.config import Settings
from theria_lint.confirm.eligibility import make_confirm_settings
from theria_lint.confirm.outcome_cache import OutcomeCache, SnapshotChecker, TooNewError
from theria_lint.confirm.protocol import FileDependencies, Outcome
from theria_lint.confirm.worker_client import WorkerClient
from theria_lint.sources.owned_folder import get_cache_folder

READER = """
import json, sys
from dataclasses import asdict
from theria_lint.worker import importer
from theria_lint.worker.file_dependencies import FileDependencyTracker
tracker = FileDependencyTracker()
tracker.watch_imports()
tracker.restart_tracking(sys.argv[2])
try:
    module = importer.import_file(sys.argv[1])
    getattr(module, "call", lambda: None)()
except Exception:
    pass
print(json.dumps(asdict(tracker.list_reads())))
"""


def reads_of(kernel: Path, temporary: Path) -> FileDependencies:
    """What importing a file, and calling its ``call``, reads: in a Python of its own, as in the worker."""
    temporary.mkdir(exist_ok=True)
    command = [sys.executable, "-P", "-c", READER, str(kernel), str(temporary)]
    environment = {**os.environ, "PYTHONPATH": str(Path(confirm.__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, check=True, env=environment, cwd=temporary)
    return FileDependencies.from_json(json.loads(done.stdout))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A kernel with a helper, an optional dependency, an import when it is called and a file of settings."""
    (tmp_path / "project").mkdir()
    files = {
        "kernel.py": "import json, helper\ntry:\n    import absent_package\nexcept ImportError:\n    pass\n"
        "def call():\n    import late\n    return open(helper.SETTINGS).read()\n",
        "helper.py": "import os\nSETTINGS = os.path.join(os.path.dirname(__file__), 'settings.txt')\n",
        "late.py": "",
        "settings.txt": "causal",
        "unrelated.py": "",
    }
    for name, text in files.items():
        (tmp_path / "project" / name).write_text(text)
    return tmp_path / "project"


Again = Callable[[], Outcome | None]


@pytest.fixture
def again(project: Path, tmp_path: Path) -> Again:
    """Keeps the outcome of the project's kernel; called, it asks a new run's cache for it."""
    cache = new_cache(tmp_path)
    time.sleep(0.02)  # the clock that stamps files is a coarse one
    cache.mark_worker_start()
    cache.store_worker_info(AROUND, FileDependencies())
    cache.store_outcome("kernel", ["/k.py"], replace(SAFE, reads=reads_of(project / "kernel.py", tmp_path / "job")))

    def ask() -> Outcome | None:
        later = new_cache(tmp_path)
        return later.load_outcome("kernel", ["/k.py"]) if later.load_worker_info() else None

    assert ask() == SAFE
    return ask


@pytest.mark.parametrize("name", ["kernel.py", "helper.py", "late.py", "settings.txt"])
def test_a_change_of_anything_that_was_read_counts(project: Path, again: Again, name: str) -> None:
    with (project / name).open("a") as stream:
        stream.write("\n")
    assert again() is None


def test_a_change_that_hides_its_time_and_size_counts(project: Path, again: Again) -> None:
    before = (project / "settings.txt").stat()
    (project / "settings.txt").write_text("masked")
    os.utime(project / "settings.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert again() is None


def test_the_same_content_written_anew_is_the_same(project: Path, again: Again) -> None:
    for path in project.iterdir():
        text = path.read_text()
        path.unlink()
        path.write_text(text)
    assert again() == SAFE


def test_what_was_not_read_does_not_count(project: Path, again: Again) -> None:
    (project / "unrelated.py").write_text("changed = True")
    (project / "new.py").touch()
    assert again() == SAFE


@pytest.mark.parametrize(
    "name", ["absent_package.py", "absent_package", "late", "helper.cpython-311-x86_64-linux-gnu.so"]
)
def test_a_module_that_would_be_found_now_counts(project: Path, again: Again, name: str) -> None:
    """A missing dependency that is installed, and what takes the place of a module that was found."""
    (project / name).mkdir() if "." not in name else (project / name).touch()
    assert again() is None


def test_a_module_that_is_gone_counts(project: Path, again: Again) -> None:
    (project / "late.py").unlink()
    assert again() is None


def test_a_missing_import_is_outlived_by_its_installation(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text("import absent_package\n")
    reads = reads_of(tmp_path / "kernel.py", tmp_path / "job")
    assert any("absent_package" in names for names in reads.searched.values())
    snapshot = SnapshotChecker().take_snapshot(reads, time.time_ns() + 10**9)
    assert SnapshotChecker().is_unchanged(snapshot)
    (tmp_path / "absent_package.py").touch()
    assert not SnapshotChecker().is_unchanged(snapshot)


def test_what_changes_during_the_run_is_not_kept(tmp_path: Path) -> None:
    before = time.time_ns() - 10**9
    (tmp_path / "kernel.py").touch()
    with pytest.raises(TooNewError):
        SnapshotChecker().take_snapshot(FileDependencies((str(tmp_path / "kernel.py"),)), before)


def test_what_depends_on_the_moment_is_not_kept(tmp_path: Path) -> None:
    cache = new_cache(tmp_path)
    cache.mark_worker_start()
    cache.store_worker_info(AROUND, FileDependencies())
    cache.store_outcome("kernel", ["/k.py"], SAFE)
    cache.store_outcome("kernel", ["/k.py"], replace(SAFE, reads=FileDependencies(), lasting=False))
    assert cache.load_outcome("kernel", ["/k.py"]) is None
    cache.store_outcome("kernel", ["/k.py"], replace(SAFE, reads=FileDependencies()))
    assert cache.load_outcome("kernel", ["/k.py"]) == SAFE


def test_a_file_that_has_come_under_watch_counts_if_it_was_read(project: Path, again: Again, tmp_path: Path) -> None:
    cache = new_cache(tmp_path)
    assert cache.load_worker_info() == AROUND
    assert cache.load_outcome("kernel", ["/k.py", str(project / "unrelated.py")]) == SAFE
    assert cache.load_outcome("kernel", ["/k.py", str(project / "helper.py")]) is None


@pytest.mark.parametrize(
    "junk", [b"", b"[]", b"{", b"{}", b'{"state": 1}', b'{"state": {"files": 7}}', b"\xff", b"null"]
)
def test_a_broken_entry_reads_as_none(tmp_path: Path, again: Again, junk: bytes) -> None:
    for entry in (tmp_path / "cache").rglob("*.json"):
        entry.write_bytes(junk)
    assert again() is None
    assert new_cache(tmp_path).load_outcome("kernel", []) is None


def test_another_environment_knows_nothing(tmp_path: Path, again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert again() is None
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.delenv("PYTHONPATH")
    other = OutcomeCache(place(tmp_path), "/usr/bin/another", "cpu")
    assert other.load_worker_info() is None
    assert OutcomeCache(place(tmp_path), sys.executable, "cuda").load_worker_info() is None


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The file of an interpreter, of which a worker has said what it is."""
    path = tmp_path / "python"
    path.write_text("old")
    time.sleep(0.02)
    cache = new_cache(tmp_path)
    cache.mark_worker_start()
    cache.store_worker_info(AROUND, FileDependencies((str(path),)))
    return path


def test_another_interpreter_in_the_same_place_knows_nothing(tmp_path: Path, program: Path) -> None:
    assert new_cache(tmp_path).load_worker_info() == AROUND
    program.write_text("new")
    assert new_cache(tmp_path).load_worker_info() is None


def test_kernels_are_kept_for_the_interpreter_that_compiled_them(tmp_path: Path, program: Path) -> None:
    cache = new_cache(tmp_path)
    cache.load_worker_info()
    cache.store_kernels("packed")
    assert new_cache(tmp_path).load_kernels() == ""  # nobody has looked whether it is the same interpreter
    later = new_cache(tmp_path)
    assert later.load_worker_info() == AROUND
    assert later.load_kernels() == "packed"
    program.write_text("new")
    other = new_cache(tmp_path)
    other.load_worker_info()
    assert other.load_kernels() == ""


KERNEL = """
import torch
from helper import FACTOR

def attention(q, k, v):
    p = torch.softmax(q @ k.transpose(-2, -1) * FACTOR, dim=-1)
    return p.detach() @ v
"""


def test_a_warm_run_asks_no_worker_and_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helper.py").write_text("FACTOR = 0.5\n")
    settings = {"device": "cpu", "cache": place(tmp_path)}
    (tmp_path / "kernel.py").write_text(KERNEL)
    cold = confirm_source(tmp_path, KERNEL, **settings)
    assert cold.targets[0].verdict is Verdict.HARD_STRUCTURAL
    assert cold.environment.torch
    assert cold.protections
    asked: list[object] = []
    run_jobs = WorkerClient.run_jobs
    monkeypatch.setattr(WorkerClient, "run_jobs", lambda *a: [asked.append(a), run_jobs(*a)][1])
    assert confirm_source(tmp_path, KERNEL, **settings) == cold
    assert not asked
    hints = {"target": "attention", "dtype": "float32"}
    hinted = confirm_source(tmp_path, KERNEL, targets=(hints,), **settings)
    assert hinted.targets[0].runs[0].dtype == "float32"
    assert asked
    asked.clear()
    (tmp_path / "helper.py").write_text("FACTOR = 0.25\n")
    assert confirm_source(tmp_path, KERNEL, **settings).targets != cold.targets
    assert asked


OWN = get_cache_folder()


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        (Settings(cache=False), None),
        (Settings(), Place(OWN, OWN)),
        (Settings(linted=("/project",), cache_dir="/kept"), Place("/kept", "/kept")),
        (Settings(linted=("/project",), cache_dir="/project/kept"), Place("/project/kept", OWN)),
    ],
)
def test_the_settings_say_where_outcomes_are_kept(settings: Settings, where: Place | None) -> None:
    assert make_confirm_settings(settings, sys.executable).cache == where


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_only_looks_like_a_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    endless, sparse = tmp_path / "endless.txt", tmp_path / "sparse.bin"
    endless.symlink_to("/proc/cpuinfo")  # as large as nothing, and yet full, like /proc/kmsg, which never ends
    with sparse.open("wb") as stream:
        stream.truncate(1 << 42)
    for path in (endless, sparse):
        with pytest.raises(ValueError, match=r"is (no file|too large)"):
            SnapshotChecker().take_snapshot(FileDependencies((str(path),)), time.time_ns() + 10**9)
    assert not SnapshotChecker().is_unchanged({"files": {"/proc/self/mem": [0, 1, "digest"]}, "folders": {}})
