"""Which GPU a job gets, of those that a worker has: jobs are data, and so is this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from theria_lint.confirm.protocol import GpuShare


def choose_share(gpus: Sequence[str], running: Iterable[GpuShare | None], width: int) -> GpuShare | None:
    """The GPU with the shortest queue, the first of several, for one more job; None where there is no GPU.

    ``running`` is what the jobs have that run now. The share of its memory is what each of ``width`` jobs has where all
    run that may: it is the same whatever else runs, so that a verdict does not depend on that.
    """
    if not gpus:
        return None
    queues = Counter(share.visible for share in running if share)
    beside = -(-width // len(gpus))
    return GpuShare(min(gpus, key=lambda gpu: queues[gpu]), 1 / max(1, beside))
