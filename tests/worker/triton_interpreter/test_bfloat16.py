"""bfloat16 in Triton's interpreter: float32 arithmetic, rounded once, held against PyTorch's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs triton")

CODE = """
import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x, y, out, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    a, b = tl.load(x + at, mask=at < n, other=0.0), tl.load(y + at, mask=at < n, other=0.0)
    {body}


def of(x, y, dtype=torch.bfloat16):
    out = torch.empty(16, dtype=dtype)
    kernel[(1,)](x, y, out, 16, BLOCK=16)
    return out


x, y = torch.randn(2, 16, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
expected = {expected}
found = of(x, y, expected.dtype)
assert torch.equal(found, expected), (found - expected)
"""

RUN = """
import json, os, runpy, sys, traceback

os.environ["TRITON_INTERPRET"] = "1"
from theria_lint.worker.shims.shim_log import ShimLog
from theria_lint.worker.triton_interpreter import interpreter

interpreter.complete_interpreter(ShimLog())
failures = []
for path in sys.argv[1:]:
    try:
        runpy.run_path(path)
        failures.append("")
    except Exception:
        failures.append(traceback.format_exc())
print(json.dumps(failures))
"""

CASES = [
    ("tl.store(out + at, a + b)", "x + y"),
    ("tl.store(out + at, a * b - b)", "x * y - y"),
    ("tl.store(out + at, a / b)", "x / y"),
    ("tl.store(out + at, -a)", "-x"),
    ("tl.store(out + at, tl.maximum(a, b))", "torch.maximum(x, y)"),
    ("tl.store(out + at, tl.where(a > b, a, b * 2))", "torch.where(x > y, x, y * 2)"),
    ("tl.store(out + at, (a * 100).to(tl.int32))", "(x * 100).to(torch.int32)"),
    ("tl.store(out + at, at.to(tl.bfloat16) + a)", "torch.arange(16).to(torch.bfloat16) + x"),
    ("tl.store(out + at, a - tl.max(a, 0))", "(x.float() - x.float().max()).to(torch.bfloat16)"),
    ("tl.store(out + at, (a.to(tl.float32) * tl.sum(a, 0).to(tl.float32)))", "(x.float() * x.float().sum()"
     ".to(torch.bfloat16).float())"),
]  # fmt: skip


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of each case, what failed: all run in one process, as the interpreter is completed for good."""
    folder = tmp_path_factory.mktemp("kernels")
    paths: list[Path] = []
    for number, (body, expected) in enumerate(CASES):
        paths.append(folder / f"case{number}.py")  # a kernel's source is read from its file
        paths[-1].write_text(CODE.replace("{body}", body).replace("{expected}", expected))
    done = subprocess.run([sys.executable, "-c", RUN, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("number", range(len(CASES)), ids=[body for body, _ in CASES])
def test_arithmetic_is_a_gpus(failures: list[str], number: int) -> None:
    assert failures[number] == ""
