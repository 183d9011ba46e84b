"""Open the executor that a setting names."""

from __future__ import annotations

from theria_lint.config import LOCAL
from theria_lint.confirm.executor import JobExecutor, KernelStore


def open_executor(name: str, python: str, device: str, jobs: int, kernels: KernelStore | None = None) -> JobExecutor:
    """The executor of a name, for an interpreter and a device, with so many jobs at a time. Raises WorkerError.

    ``kernels`` are kept for this machine alone.
    """
    if name == LOCAL:
        from theria_lint.confirm import worker_client

        return worker_client.WorkerClient(python, device, jobs, kernels)
    from theria_lint.confirm.cluster_executor import ClusterExecutor
    from theria_lint.confirm.cluster_pools import open_pool

    return ClusterExecutor(open_pool(name, jobs), name, python, device)
