"""Kernels with the obstacles of published ones: each gets the verdict that its mathematics deserves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kept_workers import keep_workers
from theria_lint.confirm.confirm import ConfirmSettings, confirm_suspects
from theria_lint.model import SourceFile, TargetResult
from theria_lint.report.sentences import say
from theria_lint.static.targets import find_targets

HEAD = "import torch\nimport torch.nn.functional as F\n\n\n"
SOFTMAX = "torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ v"

EAGER = {
    "asserts is_cuda": (f"def attention(q, k, v):\n    assert q.is_cuda\n    return {SOFTMAX}\n", "safe"),
    "asserts the device's type": (
        f"def attention(q, k, v):\n    if q.device.type != 'cuda':\n        raise ValueError('a GPU is needed')\n"
        f"    return {SOFTMAX}\n",
        "safe",
    ),
    "makes tensors on the GPU": (
        f"def attention(q, k, v):\n    zero = torch.zeros(1, device='cuda').to(q)\n    return zero + {SOFTMAX}\n",
        "safe",
    ),
    "asks for the current GPU": (
        f"def attention(q, k, v):\n    torch.cuda.synchronize(torch.cuda.current_device())\n    return {SOFTMAX}\n",
        "safe",
    ),
    "takes a broken path on a GPU only": (
        f"def attention(q, k, v):\n    out = {SOFTMAX}\n    return out.detach() if q.is_cuda else out\n",
        "hard_structural",
    ),
    "wants a gate a channel": (
        "def attention(q, k, v, g):\n    assert g.shape == k.shape and q.shape == k.shape\n"
        "    return torch.sigmoid(q * g.exp()) @ k.transpose(-1, -2) @ v\n",
        "safe",
    ),
    "does not depend on its inputs": ("def attention(q, k, v):\n    return (q + k + v) * 0.0\n", "inconclusive"),
    "has poles": (
        "def attention(q, k, v):\n    z = q @ k.sum(-2, keepdim=True).mT\n    return q @ (k.mT @ v) / (z + 1e-6)\n",
        "safe",
    ),
}


def probe(path: Path, source: str, symbol: str) -> TargetResult:
    """The target's result, without suspects."""
    path.write_text(source)
    file = SourceFile(str(path), source, (), find_targets(str(path), source))
    with keep_workers():
        found = confirm_suspects([file], ConfirmSettings(device="cpu"))
    (target,) = [t for t in found.targets if t.target.symbol == symbol]
    return target


@pytest.mark.parametrize("name", EAGER)
def test_eager_code_that_wants_a_gpu_or_more_arguments(tmp_path: Path, name: str) -> None:
    body, verdict = EAGER[name]
    source = HEAD + body
    result = probe(tmp_path / "kernel.py", source, "attention")
    assert result.verdict == verdict, result.reason


def test_the_help_that_was_needed_is_told(tmp_path: Path) -> None:
    source = HEAD + EAGER["asserts is_cuda"][0]
    (run,) = (r for r in probe(tmp_path / "kernel.py", source, "attention").runs if r.backend == "self")
    assert any("is_cuda answering as on a GPU" in say(note) for note in run.notes)


TRITON = """import torch
import triton
import triton.language as tl


@triton.autotune(configs=[triton.Config({"BT": 16}), triton.Config({"BT": 32})], key=["T"])
@triton.jit
def forward_kernel(q, k, v, o, T, D: tl.constexpr, BT: tl.constexpr):
    i = tl.program_id(0)
    p_q = tl.make_block_ptr(q + i * T * D, (T, D), (D, 1), (0, 0), (BT, D), (1, 0))
    p_v = tl.make_block_ptr(v + i * T * D, (T, D), (D, 1), (0, 0), (BT, D), (1, 0))
    p_k = tl.make_block_ptr(k + i * T * D, (D, T), (1, D), (0, 0), (D, BT), (0, 1))
    p_o = tl.make_block_ptr(o + i * T * D, (T, D), (D, 1), (0, 0), (BT, D), (1, 0))
    acc = tl.zeros([BT, D], dtype=tl.float32)
    for step in range(0, tl.cdiv(T, BT)):
        start = step.to(tl.int32) * BT
        s = tl.dot(tl.load(p_q, boundary_check=(0, 1)), tl.load(tl.advance(p_k, (0, start)), boundary_check=(0, 1)))
        acc += tl.dot(s, tl.load(tl.advance(p_v, (start, 0)), boundary_check=(0, 1)))
    tl.store(p_o, acc.to(p_o.dtype.element_ty), boundary_check=(0, 1))


class LinearAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        assert q.is_cuda
        ctx.save_for_backward(q, k, v)
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        o = torch.empty_like(q)
        T, D = q.shape[-2:]
        forward_kernel[(q.numel() // (T * D),)](q, k, v, o, T, D=D)
        return o

    @staticmethod
    def backward(ctx, do):
        q, k, v = ctx.saved_tensors
        with torch.no_grad():
            dq = do @ v.mT @ k
            dk = v @ do.mT @ q
            dv = k @ q.mT @ do
        return dq, dk, dv


def linear_attention(q, k, v):
    assert q.shape == k.shape == v.shape
    return LinearAttention.apply(q, k, v)
"""


def test_a_triton_kernel_that_insists_on_a_gpu(tmp_path: Path) -> None:
    """Block pointers, autotuning, a loop over tensors, ``is_cuda``; its backward is opaque to autograd."""
    source = TRITON
    result = probe(tmp_path / "kernel.py", source, "linear_attention")
    assert result.verdict == "silent_collapse", result.reason
    assert max(error for error in result.runs[0].gradients.values() if error is not None) < 1e-3
