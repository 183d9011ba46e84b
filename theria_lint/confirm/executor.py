"""Where jobs run: the small interface between what is to be run and the machines that run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from theria_lint.confirm.protocol import Greeting, Job, Outcome, TargetRequest

OutcomeListener = Callable[[Outcome | None, list[tuple[Job, TargetRequest]]], None]
"""Called with an outcome that has just come, None where a job begins, and with what runs now."""


class KernelStore(Protocol):
    """Keeps compiled kernels between runs, as text."""

    def load_kernels(self) -> str:
        """What was kept of this interpreter on this machine; the empty text if nothing was."""

    def store_kernels(self, packed: str) -> None:
        """Keep it."""


class JobExecutor(Protocol):
    """Runs jobs, which are data, somewhere: `WorkerClient` on this machine, `ClusterExecutor` on others."""

    @property
    def greeting(self) -> Greeting:
        """What the jobs run in; what may keep the code under test in its place is known better with every job."""

    @property
    def width(self) -> int:
        """How many jobs run at a time."""

    def wait_for_greeting(self) -> None:
        """Wait until jobs can be run. Raises WorkerError if they cannot be."""

    def run_jobs(self, jobs: Sequence[Job], listener: OutcomeListener) -> dict[int, dict[str, Outcome]]:
        """Run jobs and return the outcomes of each, by symbol, as far as there are any."""

    def end_jobs(self) -> None:
        """End what runs, for good: who waits for it goes on. Safe in a signal handler."""

    def close(self) -> None:
        """Leave nothing behind."""
