"""Jobs that run on other machines: with the same results and the same enclosure, and never of other bytes."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.confirming import confirm_files
from tests.support.kept_workers import keep_workers
from tests.support.lint_case import UNSAFE, Lint
from theria_lint.cache import Place
from theria_lint.config import LOCAL
from theria_lint.confirm import cluster_worker
from theria_lint.confirm.cluster_executor import ClusterExecutor
from theria_lint.confirm.cluster_pools import ClusterPool, ExecutorError, SubmititPool
from theria_lint.confirm.confirm import open_executor
from theria_lint.confirm.protocol import FileDependencies, Greeting, Job, Outcome, TargetRequest, digest_text
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report.sentences import say
from theria_lint.result import Environment

SLOW = "import time\n\ntime.sleep(1)\n"
"""Begins a file of which an import lasts, so that it can be met by what happens meanwhile."""


@pytest.fixture
def project(folder: Path) -> list[Path]:
    files = [folder / "unsafe.py", folder / "safe.py"]
    files[0].write_text(SLOW + UNSAFE)
    files[1].write_text(SLOW + UNSAFE.replace(".detach()", ""))
    return files


@contextmanager
def sent_to(pool: ClusterPool, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs inside use a pool, whatever the executor is called."""

    def make(name: str, python: str, device: str, *_: object) -> ClusterExecutor:
        return ClusterExecutor(pool, name, python, device)

    monkeypatch.setattr("theria_lint.confirm.confirm.open_executor", make)
    yield
    monkeypatch.setattr("theria_lint.confirm.confirm.open_executor", open_executor)


def list_descendants(process: int) -> list[int]:
    children = [
        int(pid) for file in Path(f"/proc/{process}/task").glob("*/children") for pid in file.read_text().split()
    ]
    return [*children, *(pid for child in children for pid in list_descendants(child))]


def test_a_worker_that_is_killed_costs_nothing_but_time(project: list[Path], tmp_path: Path) -> None:
    """Two processes of Dask; one is killed while it runs a job, with all that it has started."""
    distributed = pytest.importorskip("distributed")
    kept = {"device": "cpu", "cache": Place(str(tmp_path / "cache"), str(tmp_path / "cache"))}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        kept["executor"] = cluster.scheduler_address.replace("tcp://", "dask://")
        killed: list[int] = []

        def kill(what: str, done: int, known: int) -> None:
            if what.count("attention") == 2 and not killed:
                nanny = max(cluster.workers.values(), key=lambda nanny: len(list_descendants(nanny.pid)))
                nanny.close_gracefully()  # starts no other in its place
                killed.extend([nanny.pid, *list_descendants(nanny.pid)])
                os.kill(nanny.pid, signal.SIGKILL)

        found = confirm_files(project, progress=kill, **kept)
    assert len(killed) > 1, "it had started a process for the code under test"
    assert not [pid for pid in killed if Path(f"/proc/{pid}").exists()]
    here = confirm_files(project, device="cpu", executor=LOCAL)
    assert (found.findings, found.targets) == (here.findings, here.targets)
    assert [finding.disposition for finding in found.findings] == ["confirmed"]
    assert found.environment == here.environment
    assert found.protections == here.protections, "the same sandbox holds there"
    # All that was found is kept here: without a scheduler the same comes out.
    assert confirm_files(project, **kept).findings == found.findings


def test_slurm_runs_what_this_machine_runs(
    project: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with sent_to(SubmititPool("local", 2), monkeypatch):
        found = confirm_files(project[1:], device="cpu", executor="slurm")
    here = confirm_files(project[1:], device="cpu")
    assert [target.verdict for target in found.targets] == ["safe"]
    assert (found.findings, found.targets) == (here.findings, here.targets)
    assert found.protections == here.protections
    assert list((tmp_path / "theria-lint").iterdir()) == [], "what was sent is removed"


GREETING = Greeting(Environment("3.12.0", "2.13.0", None, "cpu"), {"calls": None})
Worker = Callable[[dict[str, Any]], dict[str, Any]]


class PretendedPool(ClusterPool):
    """A pool with a worker that is a function of what it is sent."""

    def __init__(self, work: Worker) -> None:
        self.sent: list[list[int]] = []
        self._work = work

    def submit(self, function: object, /, request: str, *, name: str) -> Future[str]:  # type: ignore[override]
        asked = json.loads(request)
        self.sent.append([job["id"] for job in asked["jobs"]])
        future: Future[str] = Future()
        try:
            future.set_result(json.dumps(self._work(asked)))
        except OSError as error:
            future.set_exception(error)
        return future

    def count_workers(self) -> int:
        return 1

    def group_jobs(self, jobs: Sequence[Job]) -> list[Sequence[Job]]:
        return [[job] for job in jobs]


def answer(asked: dict[str, Any], **changed: Any) -> dict[str, Any]:
    said = [
        [job["id"], json.dumps(Outcome(job["id"], target["symbol"], reason=Reason(ReasonCode.EXITS)).to_json())]
        for job in asked["jobs"]
        for target in job["targets"]
    ]
    return {"worker": "node7", "greeting": GREETING.to_json(), "outcomes": said, "digests": {}, **changed}


def make_job(number: int, path: Path, **changed: Any) -> Job:
    return Job(number, str(path), (TargetRequest("f", "function"),), {}, (), "cpu", 30.0, 1 << 30, **changed)


def run(work: Worker, jobs: Sequence[Job]) -> tuple[dict[int, Outcome], PretendedPool]:
    """The outcome of each job at a worker."""
    pool = PretendedPool(work)
    executor = ClusterExecutor(pool, "dask://host:1", sys.executable, "cpu")
    executor.wait_for_greeting()
    found = executor.run_jobs(jobs, lambda *_: None)
    return {number: outcomes["f"] for number, outcomes in found.items()}, pool


def test_jobs_of_a_worker_that_dies_are_sent_once_more(tmp_path: Path) -> None:
    met: Counter[int] = Counter()

    def work(asked: dict[str, Any]) -> dict[str, Any]:
        for job in asked["jobs"]:
            met[job["id"]] += 1
            if job["id"] == 2 or met[job["id"]] < job["id"] + 1:
                raise OSError("gone")
        return answer(asked)

    found, pool = run(work, [make_job(number, tmp_path / "a.py") for number in range(3)])
    assert [found[number].reason.code for number in range(3)] == ["exits", "exits", "worker_lost"]  # type: ignore[union-attr]
    assert Counter(job for jobs in pool.sent for job in jobs) == {0: 1, 1: 2, 2: 2}


def test_a_job_that_the_cluster_begins_again_and_again_is_given_up(tmp_path: Path) -> None:
    """As Dask does, which tells of every beginning."""

    class Restless(PretendedPool):
        def watch_starts(self, listener: Callable[[str], None]) -> None:
            self.listener = listener

        def submit(self, function: object, /, request: str, *, name: str) -> Future[str]:  # type: ignore[override]
            if not json.loads(request)["jobs"]:
                return super().submit(function, request, name=name)
            for _ in range(3):
                self.listener(name)
            return Future()

    executor = ClusterExecutor(Restless(answer), "dask://host:1", sys.executable, "cpu")
    executor.wait_for_greeting()
    outcome = executor.run_jobs([make_job(0, tmp_path / "a.py")], lambda *_: None)[0]["f"]
    assert outcome.reason
    assert outcome.reason.code == ReasonCode.WORKER_LOST


def test_a_scheduler_is_not_flooded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theria_lint.confirm.cluster_executor._MOST_SENT", 3)
    waiting: set[str] = set()
    most: list[int] = []

    class Slow(PretendedPool):
        def submit(self, function: object, /, request: str, *, name: str) -> Future[str]:  # type: ignore[override]
            waiting.add(name)
            most.append(len(waiting))
            future: Future[str] = Future()
            said = json.dumps(answer(json.loads(request)))

            def finish() -> None:
                waiting.discard(name)
                future.set_result(said)

            threading.Timer(0.01, finish).start()
            return future

    executor = ClusterExecutor(Slow(answer), "dask://host:1", sys.executable, "cpu")
    executor.wait_for_greeting()
    found = executor.run_jobs([make_job(number, tmp_path / "a.py") for number in range(10)], lambda *_: None)
    assert [list(found[number]) for number in range(10)] == [["f"]] * 10
    assert max(most) == 3


class SilentPool(PretendedPool):
    """A pool that takes everything, and never answers."""

    patience = 0.3

    def submit(self, function: object, /, request: str, *, name: str) -> Future[str]:  # type: ignore[override]
        self.sent.append([])
        return Future()


def test_a_pool_without_workers_is_waited_for_in_vain_for_so_long() -> None:
    executor = ClusterExecutor(SilentPool(answer), "dask://host:1", sys.executable, "cpu")
    with pytest.raises(ExecutorError) as raised:
        executor.wait_for_greeting()
    assert raised.value.reason == Reason(
        ReasonCode.EXECUTOR_SILENT, {"executor": "dask://host:1", "seconds": SilentPool.patience}
    )


def test_where_the_last_worker_is_lost_a_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theria_lint.confirm.cluster_executor._LOOK", 0.1)
    monkeypatch.setattr("theria_lint.confirm.cluster_executor._MOST_SENT", 1)
    pool = SilentPool(answer)
    executor = ClusterExecutor(pool, "dask://host:1", sys.executable, "cpu")
    monkeypatch.setattr(pool, "count_workers", lambda: 0)
    found = executor.run_jobs([make_job(number, tmp_path / "a.py") for number in range(2)], lambda *_: None)
    assert {outcomes["f"].reason.code for outcomes in found.values()} == {ReasonCode.EXECUTOR_SILENT}  # type: ignore[union-attr]


def test_a_worker_without_the_linter_is_one_sentence() -> None:
    def work(asked: dict[str, Any]) -> dict[str, Any]:
        raise OSError("No module named 'theria_lint'")

    with pytest.raises(ExecutorError) as raised:
        ClusterExecutor(PretendedPool(work), "dask://host:1", sys.executable, "cpu").wait_for_greeting()
    assert say(raised.value.reason).startswith("no worker of the executor dask://host:1 can run anything")
    assert "No module named 'theria_lint'" in say(raised.value.reason)


def test_a_cluster_that_takes_nothing_is_one_sentence() -> None:
    """As Slurm does, where the partition that was asked for is none."""

    class Refusing(PretendedPool):
        def submit(self, function: object, /, request: str, *, name: str) -> Future[str]:  # type: ignore[override]
            raise RuntimeError("sbatch: error: invalid partition specified")

    with pytest.raises(ExecutorError) as raised:
        ClusterExecutor(Refusing(answer), "slurm", sys.executable, "cpu").wait_for_greeting()
    assert "invalid partition specified" in say(raised.value.reason)


def test_a_run_that_is_ended_waits_for_nobody(tmp_path: Path) -> None:
    """By Ctrl-C, or as its time is over."""
    pool = SilentPool(answer)
    executor = ClusterExecutor(pool, "dask://host:1", sys.executable, "cpu")
    threading.Timer(0.1, executor.end_jobs).start()
    assert executor.run_jobs([make_job(0, tmp_path / "a.py")], lambda *_: None) == {0: {}}
    assert executor.run_jobs([make_job(1, tmp_path / "a.py")], lambda *_: None) == {1: {}}
    assert len(pool.sent) == 1, "after its end nothing is sent"


@pytest.mark.parametrize(("what", "there"), [("theria-lint", "0.0.9 (00000000)"), ("torch", "2.4.0+cu121")])
def test_another_version_is_refused_by_name(what: str, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = cluster_worker.describe_installation(sys.executable)
    monkeypatch.setattr(cluster_worker, "describe_installation", lambda python: {**here, what: there})
    pool = PretendedPool(lambda asked: json.loads(cluster_worker.run_on_worker(json.dumps(asked))))
    with pytest.raises(ExecutorError) as raised:
        ClusterExecutor(pool, "slurm", sys.executable, "cpu").wait_for_greeting()
    node = socket.gethostname()
    assert say(raised.value.reason).startswith(f"the worker {node} has another {what}")
    assert f"{there} there, {here[what]} here" in say(raised.value.reason)


def test_a_worker_unlike_the_first_is_refused_by_name(tmp_path: Path) -> None:
    def work(asked: dict[str, Any]) -> dict[str, Any]:
        other = Greeting(Environment("3.12.0", "2.13.0", None, "cuda" if asked["jobs"] else "cpu"))
        return answer(asked, greeting=other.to_json())

    found, _ = run(work, [make_job(0, tmp_path / "a.py")])
    assert say(found[0].reason) == "the worker node7 has another device; cuda there, cpu here"


def test_what_a_worker_lacks_is_said_of_all() -> None:
    lacking = Reason(ReasonCode.NO_NAMESPACES)
    less = Greeting(GREETING.environment, {"calls": lacking})
    answers = iter([GREETING, less, GREETING])
    pool = PretendedPool(lambda asked: answer(asked, greeting=next(answers).to_json()))
    executor = ClusterExecutor(pool, "slurm", sys.executable, "cpu")
    executor.wait_for_greeting()
    assert executor.greeting.protections == {"calls": None}
    for number in range(2):
        executor.run_jobs([make_job(number, Path("/a.py"))], lambda *_: None)
        assert executor.greeting.protections == {"calls": lacking}


def test_a_file_that_is_another_one_there_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker looks before it starts anything."""
    monkeypatch.setattr(cluster_worker, "_borrow_worker", lambda *_: pretended_worker())
    path = tmp_path / "a.py"
    path.write_text("x = 1\n")
    same, other = digest_text("x = 1\n"), digest_text("x = 2\n")
    jobs = [
        make_job(0, path, digests={str(path): same}),
        make_job(1, path, digests={str(path): other}),
        make_job(2, path, digests={str(path): same, str(tmp_path / "none.py"): other}),
    ]
    found, _ = run(lambda asked: json.loads(cluster_worker.run_on_worker(json.dumps(asked))), jobs)
    assert [found[number].reason.code for number in range(3)] == ["exits", "file_differs", "file_differs"]  # type: ignore[union-attr]


@contextmanager
def pretended_worker() -> Iterator[Any]:
    class Exiting:
        greeting = GREETING

        def run_jobs(self, jobs: Sequence[Job], listener: object) -> dict[int, dict[str, Outcome]]:
            return {job.id: {"f": Outcome(job.id, "f", reason=Reason(ReasonCode.EXITS))} for job in jobs}

    yield Exiting()


@pytest.mark.parametrize("lasting", [True, False])
def test_an_outcome_of_other_bytes_does_not_count(tmp_path: Path, lasting: bool) -> None:
    """Of what was read beside the linted files, too, the digest there is held against the one here.

    That is so of a target that ran out of time, too, of which nothing is kept.
    """
    helper = tmp_path / "helper.py"
    helper.write_text("x = 1\n")

    def work(asked: dict[str, Any]) -> dict[str, Any]:
        reads = FileDependencies((str(helper), str(tmp_path / "nowhere.py")))
        made = [
            Outcome(job["id"], "f", reason=Reason(ReasonCode.EXITS), reads=reads, lasting=lasting)
            for job in asked["jobs"]
        ]
        said = [[outcome.job, json.dumps(outcome.to_json())] for outcome in made]
        digests = {str(helper): cluster_worker._files.digest_file(str(helper)), str(tmp_path / "nowhere.py"): None}
        if asked["jobs"] and asked["jobs"][0]["id"] == 1:
            digests[str(helper)] = "0" * 32
        return answer(asked, outcomes=said, digests=digests)

    found, _ = run(work, [make_job(0, helper), make_job(1, helper)])
    assert say(found[0].reason) == say(Reason(ReasonCode.EXITS))
    assert found[1].reason == Reason(ReasonCode.FILE_DIFFERS, {"worker": "node7", "file": str(helper)})


def test_an_answer_that_is_none_costs_the_job_that_was_asked(tmp_path: Path) -> None:
    found, _ = run(
        lambda asked: answer(asked) if not asked["jobs"] else {"worker": 3}, [make_job(0, tmp_path / "a.py")]
    )
    assert found[0].reason
    assert found[0].reason.code == ReasonCode.WORKER_LOST


def test_a_scheduler_that_does_not_answer_is_one_sentence(lint: Lint, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the findings are there, undecided."""
    pytest.importorskip("distributed")
    monkeypatch.setattr("theria_lint.confirm.cluster_pools._CONNECT_SECONDS", 0.5)
    Path("kernel.py").write_text(UNSAFE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = lint("--executor", f"dask://127.0.0.1:{port}", "--output-format", "concise", ".", confirm=True)
    assert found.exit_code == 2
    assert found.stdout.startswith("kernel.py:6:20: THL002 [unconfirmed]")
    assert found.stderr.startswith(f"Error: nothing was run: the executor dask://127.0.0.1:{port} cannot be reached; ")
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("dask://h:1", "distributed", "dask"), ("slurm", "submitit", "slurm")]
)
def test_a_missing_extra_is_named(
    lint: Lint, monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    Path("kernel.py").write_text(UNSAFE)
    found = lint("--executor", name, "kernel.py", confirm=True)
    assert found.exit_code == 2
    assert f"Pip install 'theria-lint[{extra}]', here and where the workers run" in found.stdout
    assert found.stderr.startswith(f"Error: nothing was run: the executor {name} needs a package that is missing")


@pytest.mark.parametrize("name", ["dask://host", "dask://host:0", "dask://host:65536", "tcp://host:1", "slurm:1", ""])
def test_what_is_no_executor_is_one_sentence(lint: Lint, name: str) -> None:
    found = lint("--executor", name)
    assert found.exit_code == 2
    assert found.stderr.strip() == (
        f"Error: command line: executor = {name!r}: expected local, slurm or dask://HOST:PORT."
    )


def test_no_file_says_who_runs_code_here(lint: Lint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler is answered by code: a project's configuration may not name one."""
    Path("theria-lint.toml").write_text('executor = "dask://host:8786"\n')
    found = lint(".")
    assert found.exit_code == 2
    assert found.stderr.startswith("Error: theria-lint.toml: executor: who answers at an address may run code here")
    assert lint("--executor", "local", ".").exit_code == 0
    monkeypatch.setenv("THERIA_LINT_EXECUTOR", "slurm")
    assert lint(".").exit_code == 0


def test_an_executor_has_a_cache_of_its_own(tmp_path: Path, project: list[Path]) -> None:
    """What another machine has measured is not this one's."""
    from theria_lint.confirm.outcome_cache import OutcomeCache

    place = Place(str(tmp_path / "cache"), str(tmp_path / "cache"))
    names = {OutcomeCache(place, sys.executable, "cpu", name)._place for name in (LOCAL, "slurm", "dask://a:1")}
    assert len(names) == 3


SAYS_WHAT_IT_SEES = """\
import os

raise RuntimeError("sees " + os.environ["CUDA_VISIBLE_DEVICES"])
"""


def test_a_job_sees_its_gpu_alone(tmp_path: Path) -> None:
    """From before its file is imported: what the variable says then is what CUDA goes by."""
    path = tmp_path / "kernel.py"
    path.write_text(SAYS_WHAT_IT_SEES)
    with keep_workers():
        worker = open_executor(LOCAL, sys.executable, "cpu", 1)
        worker.wait_for_greeting()
        given = replace(worker.greeting, gpus=("GPU-7",))
        known, worker.greeting = worker.greeting, given  # type: ignore[misc]
        outcome = worker.run_jobs([replace(make_job(0, path), device="cuda")], lambda *_: None)[0]["f"]
        worker.greeting = known  # type: ignore[misc]
    assert outcome.reason
    assert outcome.reason.data["message"] == "sees GPU-7"
