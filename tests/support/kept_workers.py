"""Workers that outlive a run: to import PyTorch takes longer than to run most of what tests run."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from theria_lint.confirm import worker_client
from theria_lint.confirm.worker_client import WorkerClient
from theria_lint.sandbox.environment import select_harmless_variables

_MOST = 2
_kept: dict[object, KeptWorker] = {}


class KeptWorker(WorkerClient):
    """A worker that has greeted once, and runs on where a run would end it."""

    is_ready = False

    def wait_for_greeting(self) -> None:
        if not self.is_ready:
            super().wait_for_greeting()
            self.is_ready = True

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def take_jobs(self, jobs: int) -> None:
        self._jobs = max(1, jobs)

    def _start(self) -> None:
        self.is_ready = False
        super()._start()

    def close(self) -> None:
        if self._ended or self._unread or self._unsent:
            self.end()

    def end(self) -> None:
        _forget(self)
        super().close()


def _forget(worker: KeptWorker) -> None:
    for key in [key for key, kept in _kept.items() if kept is worker]:
        del _kept[key]


def _get_or_start(python: str, device: str, jobs: int, kernels: object = None) -> WorkerClient:
    key = python, device, tuple(sorted(select_harmless_variables(os.environ).items()))
    if key in _kept and not _kept[key].is_alive():
        _kept[key].end()
    worker = _kept.pop(key, None) or KeptWorker(python, device, jobs)
    worker.take_jobs(jobs)
    _kept[key] = worker  # the last used stands last
    while len(_kept) > _MOST:
        next(iter(_kept.values())).end()
    return worker


@contextmanager
def keep_workers() -> Iterator[None]:
    """Let runs inside take a worker that an earlier one has started with the same interpreter and environment."""
    with patch.object(worker_client, "WorkerClient", _get_or_start):
        yield


@atexit.register
def end_kept_workers() -> None:
    """End them, for a test that asks what a run leaves behind."""
    for worker in list(_kept.values()):
        worker.end()
