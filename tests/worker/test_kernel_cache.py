"""Compiled kernels are packed, go from one folder to another, and nowhere else."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from theria_lint.confirm.protocol import Job, TargetRequest
from theria_lint.confirm.worker_client import WorkerClient
from theria_lint.worker.kernel_cache import pack_kernels, read_kernels, unpack_kernels, write_kernels


def keep_kernel(folder: Path) -> Path:
    """What Triton keeps of a kernel, as it keeps it: a group lists the absolute paths of the other files."""
    place = folder / "KEY"
    place.mkdir(parents=True)
    (place / "kernel.cubin").write_bytes(b"\x7fELF\x00")
    listed = {"kernel.cubin": str(place / "kernel.cubin")}
    (place / "__grp__kernel.json").write_text(json.dumps({"child_paths": listed}))
    return place


def test_kernels_are_found_where_they_are_written(tmp_path: Path) -> None:
    keep_kernel(tmp_path / "first")
    packed = pack_kernels(read_kernels(str(tmp_path / "first")))
    assert str(tmp_path) not in base64.b64decode(packed).decode("latin-1")
    write_kernels(unpack_kernels(packed), str(tmp_path / "second"))
    group = json.loads((tmp_path / "second/KEY/__grp__kernel.json").read_text())
    assert group == {"child_paths": {"kernel.cubin": str(tmp_path / "second/KEY/kernel.cubin")}}
    assert (tmp_path / "second/KEY/kernel.cubin").read_bytes() == b"\x7fELF\x00"


def pack(name: str) -> str:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, b"")
    return base64.b64encode(packed.getvalue()).decode()


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a//x", "./x"])
def test_no_name_leaves_the_folder(name: str) -> None:
    assert unpack_kernels(pack("a/x")) == {"a/x": b""}
    assert unpack_kernels(pack(name)) == {}


@pytest.mark.parametrize("text", ["", "é", "AAAA", base64.b64encode(b"PK\x05\x06").decode()])
def test_what_is_no_pack_holds_nothing(text: str) -> None:
    assert unpack_kernels(text) == {}


class Store:
    """Keeps kernels as a cache does."""

    def __init__(self, packed: str = "") -> None:
        self.packed = packed

    def load_kernels(self) -> str:
        return self.packed

    def store_kernels(self, packed: str) -> None:
        self.packed = packed


READS_KERNELS = """import os
import torch


def attention(q, k, v):
    found = os.path.exists(os.path.join(os.environ["TRITON_CACHE_DIR"], "KEY", "kernel.cubin"))
    scores = q @ k.transpose(-2, -1)
    return torch.softmax(scores if found else scores.detach(), dim=-1) @ v
"""


def run_attention(worker: WorkerClient, path: Path, source: str, device: str) -> str:
    path.write_text(source)
    target = TargetRequest("attention", "function", {"backends": ["triton"]})
    job = Job(0, str(path), (target,), {}, (), device, 120.0, 8 << 30)
    outcomes = worker.run_jobs([job], lambda *_: None)
    return str(outcomes[0]["attention"].runs[0].verdict)


def test_a_job_finds_the_kernels_that_were_kept(tmp_path: Path) -> None:
    keep_kernel(tmp_path / "kept")
    packed = pack_kernels(read_kernels(str(tmp_path / "kept")))
    for store, verdict in ((Store(packed), "safe"), (Store(), "hard_structural")):
        with WorkerClient(sys.executable, "auto", 1, store) as worker:
            worker.wait_for_greeting()
            assert run_attention(worker, tmp_path / "kernel.py", READS_KERNELS, "cpu") == verdict


FUSED = """import torch.nn.functional as F


def attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v)
"""


PROBES = """from theria_lint.worker.kernel_compiler import PROBED, probe_fused
print([str(run.verdict) for run in probe_fused(PROBED[0], "cpu").runs if run.backend == "triton"])
"""


def test_what_is_compiled_is_what_targets_need() -> None:
    """In the process that compiles nobody hears of an error."""
    done = subprocess.run([sys.executable, "-c", PROBES], capture_output=True, text=True, check=True)
    assert done.stdout == "['safe']\n"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_what_a_worker_compiles_on_a_gpu_is_kept(tmp_path: Path) -> None:
    store = Store()
    with WorkerClient(sys.executable, "cuda", 1, store) as worker:
        worker.wait_for_greeting()
        while not store.packed:  # it is compiled beside the job
            assert run_attention(worker, tmp_path / "kernel.py", FUSED, "cuda") == "first_order_only"
    assert any(name.endswith(".cubin") for name in unpack_kernels(store.packed))
