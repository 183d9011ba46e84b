"""Every GPU is used, and evenly: the assignment is data, and told with pretended GPUs."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.lint_case import Lint
from theria_lint.confirm.protocol import GpuShare, Job, TargetRequest, read_reason
from theria_lint.confirm.worker_client import WorkerClient, choose_share
from theria_lint.reasons import ReasonCode
from theria_lint.report.sentences import say
from theria_lint.worker import server
from theria_lint.worker.visible_gpus import list_gpus


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("width", [1, 2, 5, 16])
def test_no_queue_is_longer_than_another_by_more_than_what_ended(count: int, width: int) -> None:
    """Jobs of any length: each goes to a shortest queue, and never has more than its part of the memory."""
    chance, gpus = random.Random(count * width), [str(number) for number in range(count)]
    running: list[GpuShare] = []
    used: set[str] = set()
    for _ in range(200):
        share = choose_share(gpus, running, width)
        assert share is not None
        lengths = {gpu: sum(other.visible == gpu for other in running) for gpu in gpus}
        assert lengths[share.visible] == min(lengths.values())
        running.append(share)
        used.add(share.visible)
        for gpu in gpus:
            assert sum(other.memory for other in running if other.visible == gpu) <= 1 + 1e-9
        if len(running) == width:
            del running[chance.randrange(width)]
    assert len(used) == min(count, width)


def test_a_share_does_not_depend_on_what_else_runs() -> None:
    alone = choose_share(["0", "1"], [], 6)
    beside = choose_share(["0", "1"], [GpuShare("0", 0.5), None, GpuShare("1", 0.5)], 6)
    assert alone == beside == GpuShare("0", 1 / 3)
    assert choose_share(["GPU-a"], [], 1) == GpuShare("GPU-a", 1.0), "alone a job has all of it"
    assert choose_share([], [], 4) is None


@pytest.mark.parametrize(
    ("device", "named", "count", "gpus"),
    [
        ("cuda", "", 2, ["0", "1"]),
        ("auto", "", 2, ["0", "1"]),
        ("cuda:1", "", 2, ["1"]),
        ("cuda:2", "", 2, []),
        ("cuda", "2, 3", 2, ["2", "3"]),
        ("cuda:1", "2,3", 2, ["3"]),
        ("cuda", "GPU-1a,GPU-2b,gone", 2, ["GPU-1a", "GPU-2b"]),
        ("cuda:0", "MIG-5", 1, ["MIG-5"]),
        ("auto", "", 0, []),
        ("cpu", "0", 0, []),
    ],
)
def test_the_gpus_are_those_that_torch_sees(device: str, named: str, count: int, gpus: list[str]) -> None:
    """A number counts among those that the variable leaves, and jobs are told in its words."""
    assert list_gpus(device, named, count) == gpus


FAKE = """
import json, sys
greeting = {"python": "3", "torch": "2", "triton": None, "device": "cuda", "protections": {}, "gpus": ["4", "7"]}
print(json.dumps({**greeting, "reads": {"files": [], "searched": {}}}), flush=True)
waiting = []
for line in sys.stdin:
    waiting.append(json.loads(line))
    if len(waiting) < 4:
        continue
    for job in waiting:
        told = {"kind": job["gpu"]["visible"], "message": str(job["gpu"]["memory"])}
        outcome = {"job": job["id"], "symbol": "f", "runs": [], "places": {}, "aside": {}, "notes": [], "flags": []}
        outcome |= {"reason": {"code": "probe_raises", "data": told}, "reads": None, "lasting": True}
        print(json.dumps({"job": job["id"], "outcome": json.dumps(outcome)}))
        print(json.dumps({"job": job["id"], "end": True}), flush=True)
    waiting.clear()
"""


def test_the_worker_is_told_which_gpu_each_job_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def popen(self: WorkerClient, root: str, environment: object) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", FAKE], stdin=pipe, stdout=pipe, bufsize=0)

    monkeypatch.setattr(WorkerClient, "_popen", popen)
    jobs = [Job(n, "/a.py", (TargetRequest("f", "function"),), {}, (), "cuda", 30.0, 1) for n in range(8)]
    with WorkerClient(sys.executable, "cuda", 4) as worker:
        worker.wait_for_greeting()
        found = worker.run_jobs(jobs, lambda *_: None)
    shares = [found[n]["f"].reason.data for n in range(8)]  # type: ignore[union-attr]
    assert sorted(share["kind"] for share in shares) == ["4"] * 4 + ["7"] * 4
    assert {share["message"] for share in shares} == {"0.5"}


@pytest.mark.parametrize("device", ["cuda:x", "cuda:-1", "cuda:01", "gpu"])
def test_what_is_no_device_is_one_sentence(lint: Lint, device: str) -> None:
    found = lint("--device", device)
    assert found.exit_code == 2
    assert found.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert device in found.stderr


def test_a_gpu_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2)
    torch = SimpleNamespace(__version__="2.13.0", cuda=cuda, set_num_threads=lambda count: None)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    refused: Any = server._make_greeting("cuda:2")
    assert say(read_reason(refused["error"])) == "--device cuda:2 was asked for, and torch sees 2 GPUs"
    assert server._make_greeting("auto")["gpus"] == ["0", "1"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert server._make_greeting("cuda:1")["gpus"] == ["1"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1", "whatever this worker starts sees no other"
    cuda.is_available = lambda: False
    refused = server._make_greeting("cuda:0")
    assert refused["error"]["code"] == ReasonCode.NO_CUDA
