"""Around training: checkpoints, autocast, and several processes, each with derivatives of both orders."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tests.support.attention_grid import build
from tests.support.attention_oracle import derivative_blocks
from theria.attention import attention, backend_names


@pytest.mark.parametrize("backend", ["reference", "custom"])
def test_what_a_checkpoint_computes_again_is_the_same(backend: str) -> None:
    """The weights that are dropped too: the state of random numbers is put back."""
    case = build(queries=3, keys=4)

    def run(*tensors: Tensor, **options: object) -> Tensor:
        out: Tensor = attention(*tensors, backend=backend, dropout_p=0.3, softcap=1.2, **options)  # type: ignore[call-overload]
        return out.sin()

    def run_again(*tensors: Tensor, **options: object) -> Tensor:
        torch.manual_seed(3)
        out: Tensor = checkpoint(run, *tensors, use_reentrant=False, **options)
        torch.manual_seed(4)  # what is computed again may not depend on what comes after
        return out

    def run_once(*tensors: Tensor, **options: object) -> Tensor:
        torch.manual_seed(3)
        return run(*tensors, **options)

    expected = dict(derivative_blocks(case, run_once))
    for name, block in derivative_blocks(case, run_again):
        torch.testing.assert_close(block, expected[name], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("backend", backend_names())
def test_autocast_computes_in_its_dtype_and_differentiates_in_that_of_the_inputs(backend: str) -> None:
    case = build(dtype=torch.float32)

    def differentiate(run: Callable[..., Tensor]) -> list[Tensor]:
        inputs = (case.q, case.k, case.v)
        out = run(*inputs)
        first = torch.autograd.grad(out.float().sin().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(torch.stack([x.sin().sum() for x in first]).sum(), inputs)
        return [out, *first, *second]

    def run(*tensors: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):  # around the forward alone, as PyTorch asks for
            return attention(*tensors, backend=backend)

    found = differentiate(run)
    assert [x.dtype for x in found] == [torch.bfloat16, *[torch.float32] * 6]
    half = differentiate(lambda *x: attention(*(a.bfloat16() for a in x), backend=backend))
    for a, b in zip(found, half, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_processes_agree_with_one() -> None:
    """``DistributedDataParallel`` and FSDP2."""
    from tests.support.parallel_step import run_processes

    run_processes(2, "cpu", "custom")


@pytest.mark.gpu
@pytest.mark.parametrize("backend", backend_names())
def test_gpus_agree_with_one(backend: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA GPUs")
    from tests.support.parallel_step import run_processes

    run_processes(2, "cuda", backend)
