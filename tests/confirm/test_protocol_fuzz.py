"""A fuzzer of the protocol: whatever a worker says, the run goes on and nothing is taken that was not asked for.

A worker here is a pair of pipes, so that thousands of messages take seconds. For a longer run name how many examples:
``THERIA_LINT_FUZZ=100000 pytest tests/confirm/test_protocol_fuzz.py``.
"""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from theria.verdicts import Verdict
from theria_lint.confirm.attribution import attribute_suspects
from theria_lint.confirm.coverage_map import CoverageMap, map_back_to_source
from theria_lint.confirm.evidence import Evidence
from theria_lint.confirm.message_checks import NonsenseError
from theria_lint.confirm.protocol import FileDependencies, Job, Outcome, TargetRequest, WorkerError
from theria_lint.confirm.worker_client import WorkerClient
from theria_lint.model import Run, Suspect
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report.sentences import say
from theria_lint.rules.loader import load_rules
from theria_lint.static.scan import scan_source

EXAMPLES = int(os.environ.get("THERIA_LINT_FUZZ", "300"))
FUZZED = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 300, suppress_health_check=list(HealthCheck)
)

SOURCE = """import torch

def attention(q, k, v):
    scores = torch.softmax(q @ k.mT, -1)
    return scores.detach() @ v
"""
PATH = "/project/kernel.py"
SUSPECTS: tuple[Suspect, ...] = tuple(scan_source(PATH, SOURCE, load_rules()))
REACH = CoverageMap(SOURCE, SUSPECTS)
TARGETS = (TargetRequest("attention", "function", {"backends": ["reference"]}), TargetRequest("other", "module"))
JOBS = tuple(Job(number, PATH, TARGETS, {}, (PATH,), "cpu", 1.0, 1, sources={PATH: SOURCE}) for number in range(2))
RUN = Run(
    "self",
    "cpu",
    "float64",
    "reference",
    "OK",
    Verdict.SILENT_COLLAPSE,
    Reason(ReasonCode.EXITS),
    gradients={"q": 0.5, "k": None},
    blocks={"q,k": {"norm": 1.0, "oracle_norm": 2.0, "error": 0.5}},
    states={"q": "right", "q,k": "wrong"},
    maml={"status": "OK", "rel_diff": 0.1, "inner_steps": 1, "outer_steps": 1, "second_order_attn_inputs": ["q"]},
    notes=(Reason(ReasonCode.OUT_OF_TIME),),
)
PLACES = {PATH: ((4, 4, 4, 40), (5, 11, 5, 26))}
READS = FileDependencies((PATH,), {"/p": ("os",)})
NOTE = Reason(ReasonCode.NOT_PROBED_ON, {"configuration": "odd sizes", "reason": Reason(ReasonCode.OUT_OF_TIME)})
GOOD = Reason(ReasonCode.EXITS)
REAL = Outcome(0, "attention", (RUN, replace(RUN, backend="reference")), None, PLACES, PLACES, (NOTE,), READS)
SYMBOLS = tuple(target.symbol for target in TARGETS)

atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, -1, 6, 2**63, 10**30, 10**400]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["attention", "other", PATH, "/etc/passwd", "safe", "self", "q,k", "q", "\x1b]0;x\x07", "\udc80"]),
)
anything = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def mutated(data: Any, draw: random.Random, value: Any) -> Any:
    """JSON data with one place in it changed."""
    data = copy.deepcopy(data)
    holders = list(_holders(data))
    holder = draw.choice(holders)
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    change = draw.randrange(6)
    if not keys or change == 0:
        if isinstance(holder, dict):
            holder[value if isinstance(value, str) else "more"] = value
        else:
            holder.append(value)
        return data
    key = draw.choice(keys)
    if change == 1:
        del holder[key]
    elif change == 2 and isinstance(holder[key], list):
        holder[key] = holder[key] * draw.choice([2, 300])
    elif change == 3 and isinstance(holder, dict):
        holder[value if isinstance(value, str) else str(value)] = holder.pop(key)
    else:
        holder[key] = value
    return data


def _holders(data: Any) -> Iterator[Any]:
    if isinstance(data, (dict, list)):
        yield data
        for inner in data.values() if isinstance(data, dict) else data:
            yield from _holders(inner)


@st.composite
def outcomes(draw: st.DrawFn) -> str:
    """What a job may say: a real outcome, changed in a few places, or anything else."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.text(max_size=60))
    if kind == 1:
        return json.dumps(draw(anything))
    if kind == 2:
        opening = draw(st.sampled_from(["[", '{"job":', '{"runs":[']))
        return opening * draw(st.sampled_from([10, 1000, 30000]))
    data = json.loads(json.dumps(REAL.to_json()))
    chance = draw(st.randoms(use_true_random=False))
    for _ in range(draw(st.integers(0, 3))):
        data = mutated(data, chance, draw(atoms | anything))
    text = json.dumps(data)
    if kind == 3:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.text(max_size=3)) + text[at + draw(st.integers(0, 3)) :]
    return text


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """What a worker may say, which is our own program: mostly messages with outcomes, at times anything."""
    kind = draw(st.integers(0, 19))
    if kind == 0:
        return draw(st.binary(max_size=40)) + b"\n"
    if kind == 1:
        return json.dumps(draw(anything)).encode() + b"\n"
    message: dict[str, Any] = {"job": 0, "outcome": draw(outcomes())}
    if kind == 2:
        message = {"job": draw(atoms), "outcome": draw(anything)}
    elif kind == 3:
        message = {"job": 0, "died": draw(atoms)}
    return json.dumps(message).encode() + b"\n"


def good(job: int, symbols: Iterable[str]) -> bytes:
    """All that is to be said of a job."""
    said = [{"job": job, "outcome": json.dumps(Outcome(job, symbol, reason=GOOD).to_json())} for symbol in symbols]
    return b"".join(json.dumps(message).encode() + b"\n" for message in [*said, {"job": job, "end": True}])


class Spoken(WorkerClient):
    """A worker that begins with a text, whatever it is asked; when it is started anew it answers well."""

    def __init__(self, text: bytes) -> None:
        self.starts = 0
        self._text = text
        super().__init__("python", "cpu", 2)

    def _popen(self, root: str, environment: object) -> subprocess.Popen[bytes]:
        self.starts += 1
        return cast("subprocess.Popen[bytes]", _Process(self._text if self.starts == 1 else None))

    def wait_for_greeting(self) -> None:
        """Nothing greets."""


class _Process:
    """Two pipes in the place of a process."""

    def __init__(self, text: bytes | None) -> None:
        ours, theirs = os.pipe()
        asked, ask = os.pipe()
        self.stdout, self.stdin = os.fdopen(ours, "rb", 0), os.fdopen(ask, "wb", 0)
        self._ended = False
        work = partial(_answer, theirs, asked) if text is None else partial(_pour, theirs, asked, text)
        self._thread = threading.Thread(target=work)
        self._thread.start()

    def poll(self) -> int | None:
        return 0 if self._ended else None

    def terminate(self) -> None:
        if not self._ended:
            self._ended = True
            self.stdin.close()
            while os.read(self.stdout.fileno(), 1 << 16):
                pass
            self._thread.join()

    kill = terminate

    def wait(self, timeout: float | None = None) -> int:
        return 0


def _pour(pipe: int, asked: int, text: bytes) -> None:
    while text:
        text = text[os.write(pipe, text) :]
    os.close(pipe)
    os.close(asked)


def _answer(pipe: int, asked: int) -> None:
    with os.fdopen(asked, "rb") as requests, os.fdopen(pipe, "wb", 0) as answers:
        for line in requests:
            job = json.loads(line)
            answers.write(good(job["id"], [target["symbol"] for target in job["targets"]]))


def check(outcome: Outcome) -> None:
    """Whatever is taken can be used: the code behind takes it, and it says nothing that was not asked."""
    assert outcome.symbol in ("attention", "other")
    assert outcome.places.keys() | outcome.aside.keys() <= {PATH}
    json.dumps(asdict(outcome), allow_nan=True).encode()
    for run in outcome.runs:
        assert run.verdict in Verdict
        json.dumps([run.backend, say(run.reason), run.error, *map(say, run.notes)], ensure_ascii=False).encode()
    reached = REACH.find_executed_suspects(map_back_to_source(outcome.places.get(PATH, ()), SOURCE, SOURCE))
    changed = replace(REAL, runs=(replace(RUN, verdict=Verdict.SAFE),))
    for base in (frozenset[Suspect](), frozenset(reached)):
        known = {base: outcome, frozenset(reached) - base: changed}
        evidence = Evidence(
            "attention", reached, (), {frozenset(): outcome, **known}, (), lambda _: reached, lambda _: reached
        )
        inquiry = attribute_suspects(evidence)
        for _ in range(100):
            try:
                for wanted in next(inquiry):
                    evidence.outcomes.setdefault(wanted, outcome)
            except StopIteration:
                break


@FUZZED
@given(st.lists(messages(), max_size=6), st.booleans())
def test_whatever_is_said_of_one_job_the_other_is_run(said: list[bytes], ends: bool) -> None:
    text = b"".join(message for message in said if b'"job": 1' not in message)
    text += json.dumps({"job": 0, "end": True}).encode() + b"\n" if ends else b""
    with Spoken(text + good(1, SYMBOLS)) as worker:
        found = worker.run_jobs(JOBS, lambda outcome, running: None)
    for outcome in found[0].values():
        check(outcome)
    assert {symbol: outcome.reason for symbol, outcome in found[1].items()} == dict.fromkeys(SYMBOLS, GOOD)


@FUZZED
@given(outcomes())
def test_an_outcome_is_taken_whole_or_not_at_all(text: str) -> None:
    try:
        outcome = Outcome.from_json(json.loads(text))
        JOBS[0].admit(outcome)
    except (NonsenseError, ValueError, RecursionError):
        return
    check(outcome)
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


GREETING = st.fixed_dictionaries({}, optional={"error": anything, "python": anything, "reads": anything})


@FUZZED
@given(st.one_of(anything, GREETING))
def test_any_greeting_is_refused_in_words(greeting: Any) -> None:
    with Spoken(json.dumps(greeting).encode() + b"\n") as worker, pytest.raises(WorkerError) as raised:
        WorkerClient.wait_for_greeting(worker)
    assert say(raised.value.reason)


def test_what_is_real_is_taken() -> None:
    """Otherwise the fuzzer would show nothing."""
    outcome = Outcome.from_json(json.loads(json.dumps(REAL.to_json())))
    assert outcome == REAL
    JOBS[0].admit(outcome)
    assert REACH.find_executed_suspects(PLACES[PATH])
    check(outcome)


def test_what_is_said_well_is_taken() -> None:
    with Spoken(good(0, SYMBOLS) + good(1, SYMBOLS)) as worker:
        found = worker.run_jobs(JOBS, lambda outcome, running: None)
        assert worker.starts == 1
    assert [outcome.reason for job in (0, 1) for outcome in found[job].values()] == [GOOD] * 4
