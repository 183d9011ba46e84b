"""The pools of workers that a cluster has: a Dask scheduler's, and those that Slurm starts for us.

Each is a `concurrent.futures.Executor` of functions that take and return text.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from logging import CRITICAL, getLogger, root
from typing import Any
from uuid import uuid4

from theria_lint.config import SLURM
from theria_lint.confirm.protocol import Job, WorkerError
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.sources.owned_folder import get_cache_folder

_CONNECT_SECONDS = 10
_WORKER_SECONDS = 300.0
"""Seconds for which a scheduler may have no worker: one may have to be started."""
_POLL_SECONDS = 0.5
_MINUTES = 60
"""Minutes that Slurm is asked for, where SBATCH_TIMELIMIT does not say more."""


class ExecutorError(WorkerError):
    """The executor that was asked for cannot be used."""

    def __init__(self, code: str, **data: Any) -> None:
        super().__init__(Reason(code, data))


class ClusterPool(Executor):
    """Runs functions on the workers of a cluster; ``patience``: for how many seconds there may be none of them."""

    patience = float("inf")

    @abstractmethod
    def submit(self, function: Callable[[str], str], /, request: str, *, name: str) -> Future[str]:  # type: ignore[override]
        """Have a worker call a function; the future raises what it raises, or that the worker has died."""

    @abstractmethod
    def count_workers(self) -> int:
        """How many calls run at a time by now."""

    @abstractmethod
    def group_jobs(self, jobs: Sequence[Job]) -> list[Sequence[Job]]:
        """The jobs that go to a worker together."""

    def watch_starts(self, listener: Callable[[str], None]) -> None:
        """Call a listener with the name of each call that begins, again where the cluster begins it again."""


def open_pool(name: str, jobs: int) -> ClusterPool:
    """The pool that a setting names; ``jobs``: how many workers to ask for. Raises ExecutorError."""
    try:
        return SubmititPool(SLURM, jobs) if name == SLURM else DaskPool(name.partition("://")[2])
    except ImportError as error:
        extra = "slurm" if name == SLURM else "dask"
        raise ExecutorError(ReasonCode.EXECUTOR_EXTRA, executor=name, extra=extra, message=str(error)) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise ExecutorError(ReasonCode.EXECUTOR_UNREACHABLE, executor=name, message=str(error)) from None


class DaskPool(ClusterPool):
    """The workers of a Dask scheduler, which begins the calls of a worker that died anew: the listener hears of it."""

    patience = _WORKER_SECONDS

    def __init__(self, address: str) -> None:
        """Connect. Raises OSError where nothing answers."""
        from distributed import Client

        for name in [name for name in root.manager.loggerDict if name.startswith("distributed")]:
            getLogger(name).setLevel(CRITICAL)  # what is wrong is said once, by us
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that versions of Dask differ
            self._client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        self._executor = self._client.get_executor(pure=False)
        self._topic = f"theria-lint-{uuid4()}"

    def submit(self, function: Callable[[str], str], /, request: str, *, name: str) -> Future[str]:  # type: ignore[override]
        """Have a worker call a function."""
        future: Future[str] = self._executor.submit(_call_announced, self._topic, name, function, request)
        return future

    def count_workers(self) -> int:
        """How many threads all workers have."""
        try:
            threads: dict[str, int] = self._client.nthreads()
        except OSError:  # the scheduler is lost
            return 0
        return sum(threads.values())

    def group_jobs(self, jobs: Sequence[Job]) -> list[Sequence[Job]]:
        """Each by itself: a worker keeps the process that has imported torch."""
        return [[job] for job in jobs]

    def watch_starts(self, listener: Callable[[str], None]) -> None:
        """Have the workers say what they begin, by way of the scheduler."""
        self._client.subscribe_topic(self._topic, lambda event: listener(event[1]))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the scheduler, and forget what it was to do."""
        self._executor.shutdown(wait=wait)
        self._client.close()


def _call_announced(topic: str, name: str, function: Callable[[str], str], request: str) -> str:
    """Say that a call begins, and call."""
    from distributed import get_worker

    get_worker().log_event(topic, name)
    return function(request)


class SubmititPool(ClusterPool):
    """Jobs of Slurm, by submitit; ``cluster`` is "slurm", or "local" for processes in its place.

    What they are to have (partition, GPUs, time) say Slurm's own variables, SBATCH_PARTITION and its like.
    """

    def __init__(self, cluster: str, jobs: int) -> None:
        """Make a folder for what is sent. Raises RuntimeError where there is no Slurm."""
        from submitit import AutoExecutor

        self._width = max(1, jobs)
        self._sent: list[tuple[Future[str], Any]] = []
        os.makedirs(get_cache_folder(), 0o700, exist_ok=True)
        self._folder = tempfile.mkdtemp(prefix="slurm-", dir=get_cache_folder())
        self._ended = threading.Event()
        try:
            self._executor = AutoExecutor(os.path.join(self._folder, "%j"), cluster=cluster)
        except Exception:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._executor.update_parameters(name="theria-lint", timeout_min=_MINUTES)
        self._watcher = threading.Thread(target=self._settle_futures, daemon=True)
        self._watcher.start()

    def submit(self, function: Callable[[str], str], /, request: str, *, name: str) -> Future[str]:  # type: ignore[override]
        """Have a job of Slurm call a function."""
        future: Future[str] = Future()
        self._sent.append((future, self._executor.submit(function, request)))
        return future

    def count_workers(self) -> int:
        """How many jobs Slurm is asked for at a time."""
        return self._width

    def group_jobs(self, jobs: Sequence[Job]) -> list[Sequence[Job]]:
        """As many groups as there are workers: each has to wait for its turn, and to import torch."""
        return [jobs[first :: self._width] for first in range(min(self._width, len(jobs)))]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the jobs, and remove what was sent."""
        self._ended.set()
        self._watcher.join()
        for _, job in self._sent:
            job.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _settle_futures(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            for future, job in list(self._sent):
                if future.cancelled():
                    job.cancel()
                elif job.done():
                    _settle(future, job)
                else:
                    continue
                self._sent.remove((future, job))


def _settle(future: Future[str], job: Any) -> None:
    """Hand on what a job has given, or how it has ended."""
    try:
        result = job.result()
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(result)
