"""What a worker says is checked before it is believed: what is wrong costs one outcome, and never the run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from theria.verdicts import Verdict
from theria_lint.confirm import worker_client
from theria_lint.confirm.protocol import Job, Outcome, TargetRequest, WorkerError
from theria_lint.confirm.worker_client import WorkerClient
from theria_lint.model import Run
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report.sentences import compose_message, say

SOURCE = "def attention(q, k, v):\n    return q\n"
RUN = Run("self", "cpu", "float64", "reference", "OK", Verdict.SAFE, blocks={"q,k": {"norm": 1.0, "error": 0.5}})
GREETING = {
    "python": "3.11.0",
    "torch": "2.13.0",
    "triton": None,
    "device": "cpu",
    "protections": {"files": None},
    "gpus": [],
    "reads": {"files": [], "searched": {}},
}

# Greets, then does for the jobs it is sent what the script after it says: `job` is what was asked, `say` answers.
FAKE = """
import json, os, sys
out = os.dup(1)
def write(data):
    while data:
        data = data[os.write(out, data):]
def say(message):
    write(json.dumps(message).encode() + b"\\n")
def outcome(job, data):
    say({"job": job["id"], "outcome": data if isinstance(data, str) else json.dumps(data)})
def good(job):
    for target in job["targets"]:
        outcome(job, {"job": job["id"], "symbol": target["symbol"], "runs": [], "places": {}, "aside": {},
                      "reason": {"code": "exits", "data": {}}, "notes": [], "reads": None, "lasting": True,
                      "flags": []})
write(GREETING + b"\\n")
for line in sys.stdin:
    job = json.loads(line)
    SCRIPT
    say({"job": job["id"], "end": True})
"""


def job_of(number: int, *symbols: str) -> Job:
    targets = tuple(TargetRequest(symbol, "function") for symbol in symbols)
    return Job(number, f"/{number}.py", targets, {}, ("/0.py",), "cpu", 1.0, 1, sources={"/0.py": SOURCE})


@dataclass
class KeptKernels:
    """Keeps kernels as a cache does."""

    packed: str = ""

    def load_kernels(self) -> str:
        return self.packed

    def store_kernels(self, packed: str) -> None:
        self.packed = packed


def run(
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    jobs: Sequence[Job],
    greeting: object = GREETING,
    told: Callable[..., None] = lambda *_: None,
    kernels: KeptKernels | None = None,
) -> dict[int, dict[str, Outcome]]:
    """The outcomes of jobs by a worker that follows a script."""
    text = greeting if isinstance(greeting, bytes) else json.dumps(greeting).encode()
    program = FAKE.replace("SCRIPT", script.replace("\n", "\n    ")).replace("GREETING", repr(text))

    def popen(self: WorkerClient, root: str, environment: object) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, bufsize=0)

    monkeypatch.setattr(WorkerClient, "_popen", popen)
    with WorkerClient(sys.executable, "cuda" if kernels else "cpu", 2, kernels) as worker:
        worker.wait_for_greeting()
        return worker.run_jobs(jobs, told)


def forged(**changes: object) -> str:
    data = replace(Outcome(0, "attention", (RUN,)), places={"/0.py": ((1, 0, 2, 5),)}).to_json()
    return json.dumps({**data, **changes})


def with_run(**changes: object) -> str:
    return forged(runs=[{**json.loads(forged())["runs"][0], **changes}])


def test_what_was_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, f"outcome(job, {forged()!r})", [job_of(0, "attention")])
    assert found[0]["attention"].runs[0].verdict is Verdict.SAFE
    assert found[0]["attention"].places == {"/0.py": ((1, 0, 2, 5),)}


def test_kernels_that_come_without_end_harm_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'write(b\'{"kernels": ""}\\n\' * 5000)\ngood(job)'
    found = run(monkeypatch, script, [job_of(0, "attention")])
    assert found[0]["attention"].reason == Reason(ReasonCode.EXITS)


@pytest.mark.parametrize("sent", ["packed", ""])
def test_kernels_that_are_compiled_when_all_has_run_are_kept(monkeypatch: pytest.MonkeyPatch, sent: str) -> None:
    kept = KeptKernels()
    late = f"import time\ntime.sleep(0.3)\nsay({{'kernels': {sent!r}}})"
    script = f"good(job)\nsay({{'job': job['id'], 'end': True}})\n{late}"
    run(monkeypatch, script, [replace(job_of(0, "attention"), device="cuda")], kernels=kept)
    assert kept.packed == sent


def test_a_worker_that_has_kernels_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_client, "_COMPILE_PATIENCE", None)  # to select, without end
    job = replace(job_of(0, "attention"), device="cuda")
    run(monkeypatch, "if 'kernels' in job: continue\ngood(job)", [job], kernels=KeptKernels("packed"))
    run(monkeypatch, "good(job)", [replace(job, device="cpu")], kernels=KeptKernels())
    run(monkeypatch, "good(job)", [job])


@pytest.mark.parametrize("kernels", ["null", "7", "[]"])
def test_kernels_that_are_no_text_are_no_message(monkeypatch: pytest.MonkeyPatch, kernels: str) -> None:
    script = f"good(job)\nwrite(b'{{\"kernels\": {kernels}}}\\n')"
    assert run(monkeypatch, script, [job_of(0, "attention")])[0] == {}


def nested(times: int) -> dict[str, Any]:
    """Reasons within reasons."""
    inner = nested(times - 1) if times else {"code": "exits", "data": {}}
    return {"code": "starts_process", "data": {"reason": inner}}


NONSENSE: dict[str, str] = {
    "not JSON": "imported",
    "nested": "[" * 20_000 + "]" * 20_000,
    "a list": "[]",
    "no names": "{}",
    "a name too many": forged(more=1),
    "symbol that was not asked for": forged(symbol="other"),
    "list for a symbol": forged(symbol=["attention"]),
    "another job": forged(job=1),
    "job that is a list": forged(job=[0]),
    "job that is a bool": forged(job=False),
    "file that is not watched": forged(places={"/1.py": [[1, 0, 1, 1]]}),
    "relative file": forged(places={"0.py": [[1, 0, 1, 1]]}),
    "file that is not watched, aside": forged(aside={"/1.py": [[1, 0, 1, 1]]}),
    "line beyond the end": forged(places={"/0.py": [[1, 0, 4, 0]]}),
    "line 0": forged(places={"/0.py": [[0, 0, 1, 1]]}),
    "line that is not there": forged(places={"/0.py": [[-1, 0, 1, 1]]}),
    "column beyond the line": forged(places={"/0.py": [[1, 24, 1, 25]]}),
    "line that is a bool": forged(places={"/0.py": [[True, 0, 1, 1]]}),
    "line that is a float": forged(places={"/0.py": [[1.0, 0, 1, 1]]}),
    "place of three": forged(places={"/0.py": [[1, 0, 1]]}),
    "more places than there are": forged(places={"/0.py": [[1, 0, 1, 1]] * 500}),
    "verdict": with_run(verdict="fine"),
    "verdict that is a list": with_run(verdict=["safe"]),
    "status": with_run(status="FINE"),
    "state": with_run(states={"q": "fine"}),
    "block of one": with_run(blocks={"q": {"error": 1.0}}),
    "block of three": with_run(blocks={"q,k,v": {"error": 1.0}}),
    "block that is a number": with_run(blocks={"q,k": 1.0}),
    "figure of a block": with_run(blocks={"q,k": {"blame": 1.0}}),
    "error that is no number": with_run(gradients={"q": float("nan")}),
    "error without end": with_run(gradients={"q": float("inf")}),
    "error that no float holds": with_run(gradients={"q": 10**400}),
    "error that is a text": with_run(gradients={"q": "0"}),
    "error that is a bool": with_run(gradients={"q": True}),
    "inner steps": with_run(maml={"inner_steps": "many"}),
    "nested figures": with_run(maml={"status": [[1]]}),
    "terminal in a backend": with_run(backend="\x1b[2J"),
    "notes": with_run(notes="all of them"),
    "runs": forged(runs=[{}]),
    "many runs": forged(runs=json.loads(forged())["runs"] * 100),
    "long reason": forged(reason={"code": "no_worker", "data": {"message": "x" * 100_000}}),
    "reason in words": forged(reason="good"),
    "unknown reason": forged(reason={"code": "well", "data": {}}),
    "reason without its data": forged(reason={"code": "import_too_slow", "data": {}}),
    "reason with other data": forged(reason={"code": "import_too_slow", "data": {"seconds": "many"}}),
    "reason that no run has": forged(reason={"code": "blamed_elsewhere", "data": {"reason": None, "suspects": []}}),
    "reasons without end": forged(reason=nested(100)),
    "reads": forged(reads={"files": [1], "searched": {}}),
    "relative reads": forged(reads={"files": ["x"], "searched": {}}),
    "searched": forged(reads={"files": [], "searched": []}),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_costs_the_target_that_ran(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    script = f"outcome(job, {NONSENSE[name]!r}) if job['id'] == 0 else good(job)"
    found = run(monkeypatch, script, [job_of(0, "attention"), job_of(1, "attention")])
    assert found[0]["attention"].runs == ()
    assert found[0]["attention"].reason.code == ReasonCode.NONSENSE_ANSWER
    assert found[1]["attention"].reason == Reason(ReasonCode.EXITS)


def test_a_text_that_cannot_be_printed_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(
        monkeypatch,
        f"outcome(job, {forged(reason={'code': 'raised', 'data': {'kind': chr(0xDC80), 'message': ''}})!r})",
        [job_of(0, "attention")],
    )
    assert say(found[0]["attention"].reason) == "?"


BAD_ENDS = {
    "no JSON": 'write(b"nonsense\\n")',
    "no message": "say(7)",
    "nested message": 'write(b"[" * 100000 + b"\\n")',
    "job that does not run": 'say({"job": 99, "end": True})',
    "job that is a list": 'say({"job": [0], "end": True})',
    "line without end": 'while True: write(b"x" * 65536)',
    "exit": "os._exit(1)",
}


@pytest.mark.parametrize("name", BAD_ENDS)
def test_a_worker_that_comes_to_a_bad_end_is_replaced(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The jobs that ran beside are run again, those behind it run as they are."""
    monkeypatch.setattr(worker_client, "_LONGEST_MESSAGE", 1 << 20)
    script = f"if job['id'] == 1:\n    {BAD_ENDS[name]}\ngood(job)"
    jobs = [job_of(number, "one", "two") for number in range(5)]
    found = run(monkeypatch, script, jobs)
    assert found.pop(1) == {}
    assert {number: set(outcomes) for number, outcomes in found.items()} == {
        other: {"one", "two"} for other in (0, 2, 3, 4)
    }


def test_what_was_said_last_before_a_bad_end_is_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "if len(job['targets']) == 1:\n    continue\ngood(job)\nsay({'job': 0, 'died': True})\n"
    script = script.replace("continue", "say({'job': 0, 'end': True}); continue")
    found = run(monkeypatch, script, [job_of(0, "one", "two")])
    assert set(found[0]) == {"one"}


def test_a_worker_that_ends_takes_back_what_a_job_said_last(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "good(job) if len(job['targets']) > 1 else None\nos._exit(1)"
    found = run(monkeypatch, script, [job_of(0, "one", "two")])
    assert set(found[0]) == {"one"}


def test_a_worker_that_cannot_be_replaced_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = []

    def meet(self: WorkerClient) -> None:
        starts.append(self)
        if len(starts) > 1:
            raise WorkerError(Reason(ReasonCode.NO_GREETING))
        assert self._receive_message(60)

    monkeypatch.setattr(WorkerClient, "wait_for_greeting", meet)
    assert run(monkeypatch, "os._exit(1)", [job_of(0, "one", "two"), job_of(1, "one")]) == {0: {}, 1: {}}
    assert len(starts) == 2


def test_requests_and_answers_that_fill_their_pipes_pass_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    long = replace(job_of(0, "one"), overrides={"/0.py": "x" * (1 << 21)})
    script = "outcome(job, 'x' * (1 << 21)); good(job)"
    found = run(monkeypatch, script, [replace(long, id=number) for number in range(6)])
    assert {outcomes["one"].reason.code for outcomes in found.values()} == {ReasonCode.NONSENSE_ANSWER}


GREETINGS: dict[str, Any] = {
    "no JSON": b"hello",
    "no object": [],
    "nested": b"[" * 100_000,
    "a name missing": {"python": "3.11.0"},
    "device": {**GREETING, "device": ["cpu"]},
    "protections": {**GREETING, "protections": {"files": 1}},
    "reads": {**GREETING, "reads": {"files": 1, "searched": {}}},
    "error": {"error": ["no", "text"]},
}


@pytest.mark.parametrize("name", GREETINGS)
def test_a_greeting_that_makes_no_sense_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(WorkerError) as raised:
        run(monkeypatch, "good(job)", [job_of(0, "one")], GREETINGS[name])
    assert raised.value.reason.code == ReasonCode.INTERPRETER_UNFIT
    assert compose_message(raised.value.reason).helps[0].endswith("choose another interpreter with --python")


def test_an_interrupted_worker_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    workers: list[WorkerClient] = []
    start = WorkerClient._start

    def kept(self: WorkerClient) -> None:
        workers.append(self)
        start(self)

    monkeypatch.setattr(WorkerClient, "_start", kept)
    found = run(
        monkeypatch,
        "good(job)",
        [job_of(number, "one") for number in range(9)],
        told=lambda *_: workers[0].end_jobs(),
    )
    assert len(workers) == 1
    assert workers[0]._process.returncode == -15
    assert len(found) == 9
