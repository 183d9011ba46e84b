"""The GPUs that a worker has, and the one of them that a job sees."""

from __future__ import annotations

import os

from theria_lint.confirm.protocol import GpuShare

VARIABLE = "CUDA_VISIBLE_DEVICES"


def list_gpus(device: str, named: str, count: int) -> list[str]:
    """The GPUs that jobs may be given, in the words of the variable; ``count`` is how many there are.

    ``device`` is ``cuda`` for all or ``cuda:N`` for one, by torch's number: ``named`` is what the variable says by now.
    """
    words = [word for part in named.split(",") if (word := part.strip())]
    gpus = (words or [str(number) for number in range(count)])[:count]
    number = device.partition(":")[2]
    return gpus[int(number) :][:1] if number else gpus


def take_share(share: GpuShare | None) -> None:
    """See no GPU but one from now on: to be called before CUDA is first used in a process."""
    if share is not None:
        os.environ[VARIABLE] = share.visible


def limit_gpu_memory(share: GpuShare | None) -> None:
    """Let torch take no more of the GPU's memory than what this job has a right to."""
    if share is not None and share.memory < 1:
        import torch

        torch.cuda.set_per_process_memory_fraction(share.memory)
