"""A step with second derivatives in several processes: each has its part of the batch, and all must agree with one.

Run by tests, on the CPU with gloo and on GPUs with nccl; by hand

    python -m tests.support.parallel_step --device cuda --processes 2
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from theria.attention import attention


class Attending(nn.Module):
    """A layer of attention, and one that follows it."""

    def __init__(self, backend: str) -> None:
        super().__init__()
        self.backend = backend
        self.qkv, self.last = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        out = attention(q, k, v, backend=self.backend, is_causal=True)
        return torch.tanh(self.last(out.transpose(1, 2).flatten(2)))


def build(backend: str, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Attending(backend), Attending(backend)).to(device, torch.float64)


def take_step(model: nn.Module, x: Tensor) -> None:
    """Backward of a loss with a gradient penalty: it differentiates the model twice."""
    x = x.requires_grad_()
    out = model(x)
    (gradient,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    loss = out.square().sum((1, 2)).mean() + gradient.square().sum((1, 2)).mean()
    loss.backward()


def wrap_ddp(model: nn.Module, device: torch.device) -> nn.Module:
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def wrap_fsdp(model: nn.Module, device: torch.device) -> nn.Module:
    """Parameters in parts, but whole after the first backward: the double backward needs them again."""
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in [*model.children(), model]:
        fully_shard(layer, mesh=mesh)
        layer.set_reshard_after_backward(False)  # type: ignore[operator]
    return model


WRAPPERS: dict[str, Callable[[nn.Module, torch.device], nn.Module]] = {"ddp": wrap_ddp, "fsdp": wrap_fsdp}


def run_process(rank: int, processes: int, device_type: str, backend: str, store: str) -> None:
    """Take the step in each of the wrappers, and raise where its gradients are not those of one process."""
    device = torch.device(device_type, rank) if device_type == "cuda" else torch.device(device_type)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", init_method=f"file://{store}", rank=rank, world_size=processes
    )
    batch = torch.randn(2 * processes, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(device)
    alone = build(backend, device)
    take_step(alone, batch.clone())
    for name, wrap in WRAPPERS.items():
        model = wrap(build(backend, device), device)
        take_step(model, batch[2 * rank : 2 * rank + 2].clone())
        for layer in model.modules():
            if isinstance(layer, FSDPModule):  # gradients are those of the parts
                layer.reshard()
        for parameter, expected in zip(model.parameters(), alone.parameters(), strict=True):
            found: Any = parameter.grad
            found = found.full_tensor() if hasattr(found, "full_tensor") else found
            torch.testing.assert_close(found, expected.grad, msg=partial("{}: {}".format, name))
    torch.distributed.destroy_process_group()


def run_processes(processes: int, device_type: str, backend: str) -> None:
    """Raises where any of the processes does."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        spawn(run_process, (processes, device_type, backend, store), nprocs=processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--backend", default="custom")
    options = parser.parse_args()
    run_processes(options.processes, options.device, options.backend)
    print(f"{', '.join(WRAPPERS)} in {options.processes} processes on {options.device}: as one process")


if __name__ == "__main__":
    main()
