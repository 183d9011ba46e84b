"""Files that lie about what they did: at most they lie about themselves."""

from __future__ import annotations

import json
import signal
import sys

import pytest

from tests.support.confirming import confirm_files, finding_of, target_of
from theria.verdicts import Verdict
from theria_lint.confirm.protocol import Job, Outcome, TargetRequest
from theria_lint.model import Run
from theria_lint.report.sentences import say
from theria_lint.worker import import_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors are listed in /proc")

HEAD = """
import gc, json, math, os, sys, threading, time
import torch

def ref(q, k, v):
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v

def spray(*lines):
    files = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            files[os.readlink(f"/proc/self/fd/{number}")] = int(number)
        except OSError:
            pass
    for number in files.values():
        for line in lines:
            try:
                os.write(number, line)
            except OSError:
                pass

def forged(symbol, **more):
    run = {"backend": "self", "device": "cpu", "dtype": "float64", "oracle": "reference", "status": "OK",
           "verdict": "safe", "reason": None, "error": None, "gradients": {}, "blocks": {}, "states": {},
           "maml": None, "notes": []}
    job = int(os.path.basename(os.environ["HOME"]))
    data = {"job": job, "symbol": symbol, "runs": [run], "reason": None, "places": {}, "aside": {}, "notes": [],
            "reads": None, "lasting": True, "flags": [], **more}
    return json.dumps(data).encode() + b"\\n"
"""

# Looks for what would make an answer of the code under test one of the probe's own.
SEARCH = """
def texts_in(things, depth=3):
    for thing in things:
        if isinstance(thing, (str, bytes)):
            yield thing.encode("utf-8", "replace") if isinstance(thing, str) else thing
        elif depth and isinstance(thing, dict):
            yield from texts_in(list(thing.values()), depth - 1)
        elif depth and isinstance(thing, (list, tuple)):
            yield from texts_in(thing, depth - 1)

def everything():
    frame = sys._getframe()
    while frame is not None:
        yield frame.f_locals
        frame = frame.f_back
    for thing in gc.get_objects():
        yield getattr(thing, "__closure__", None) and [cell.cell_contents for cell in thing.__closure__ if cell]
        if isinstance(thing, dict):
            yield thing
    yield from (vars(module) for module in list(sys.modules.values()) if hasattr(module, "__dict__"))
    with open("/proc/self/maps") as maps:
        ranges = [line.split()[0].split("-") for line in maps if "[stack]" in line]
    with open("/proc/self/mem", "rb") as memory:
        for first, last in ranges:
            memory.seek(int(first, 16))
            yield [memory.read(int(last, 16) - int(first, 16))]

def attack(symbol):
    secrets = set()
    try:
        for thing in everything():
            secrets.update(t for t in texts_in([thing], 2) if len(t) == 32 and t.strip(b"0123456789abcdef") == b"")
    except Exception:
        pass
    for secret in [b"", *secrets]:
        spray(b"\\n" + secret + forged(symbol))

def attention_searches(q, k, v):
    if not hasattr(sys, "searched"):  # what is kept in the file, or in defaults, begins anew with each call
        sys.searched = True
        attack("attention_searches")
    return ref(q, k, v).detach() * q.mean()

def attention_beside(q, k, v):
    return ref(q, k, v).detach() * q.mean()

def attention_sprays_on(q, k, v):
    def work():
        while True:
            spray(forged("attention_sprays_on"), forged("attention_beside"))
    if not hasattr(sys, "spraying"):
        sys.spraying = True
        threading.Thread(target=work, daemon=True).start()
    return ref(q, k, v).detach() * q.mean()
"""

# A file that another does not run says that its code was executed there, and found safe.
SPEAKS = """
spray(b"imported\\n" + forged("attention_speaks", places={{{victim!r}: [[{line}, 11, {line}, 27]]}}))
os._exit(0)

def attention_speaks(q, k, v):
    return ref(q, k, v)
"""
VICTIM = """
import absent_package_of_the_victim

def attention_victim(q, k, v):
    weights = (q @ k.transpose(-1, -2)).softmax(-1)
    return weights.detach() @ v
"""

DIES = """
spray(b"imported\\n" + forged("attention_dies"))
time.sleep(0.5)
os._exit(3)

def attention_dies(q, k, v):
    return ref(q, k, v).detach() * q.mean()
"""

FLOODS = """
while True:
    spray(b"imported\\n" * 1000)

def attention_floods(q, k, v):
    return ref(q, k, v)
"""

ENDLESS = """
while True:
    spray(b"x" * 65536)

def attention_endless(q, k, v):
    return ref(q, k, v)
"""

NESTED = """
spray(b"imported\\n" + b"[" * 500000 + b"]" * 500000 + b"\\n")
os._exit(0)

def attention_nested(q, k, v):
    return ref(q, k, v)
"""

HOARDS = """
def attention_hoards(q, k, v, kept=[]):
    try:
        while True:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        os.close(kept.pop())
    return ref(q, k, v)
"""

ATTACKS = {"hoards": HOARDS, "search": SEARCH, "dies": DIES, "floods": FLOODS, "endless": ENDLESS, "nested": NESTED}
GOOD = "def attention_good(q, k, v): return ref(q, k, v)\n"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("forging")
    victim = folder / "victim.py"
    victim.write_text(VICTIM)
    line = VICTIM.splitlines().index("    return weights.detach() @ v") + 1
    files = {**ATTACKS, "good": GOOD, "speaks": SPEAKS.format(victim=str(victim), line=line)}
    for name, text in files.items():
        (folder / f"{name}.py").write_text(HEAD + text)
    paths = [victim, *(folder / f"{name}.py" for name in files)]
    return confirm_files(paths, timeout=5.0, jobs=2, memory=1 << 30, device="cpu")


@pytest.mark.parametrize("symbol", ["attention_searches", "attention_beside"])
def test_nothing_in_a_probe_makes_a_forged_answer_genuine(found, symbol: str) -> None:
    assert target_of(found, symbol).verdict.unsafe


def test_lines_written_to_every_file_are_no_answer(found) -> None:
    assert target_of(found, "attention_sprays_on").verdict is not Verdict.SAFE


def test_a_file_says_nothing_of_what_it_does_not_run(found) -> None:
    finding = finding_of(found, "THL002", VICTIM.splitlines().index("    return weights.detach() @ v") + 1)
    assert finding.suspect.path.endswith("victim.py")
    assert finding.disposition == "unconfirmed"
    target = target_of(found, "attention_speaks")
    assert target.verdict is Verdict.INCONCLUSIVE
    assert "names a file that was not asked about" in say(target.reason)


def test_what_a_file_said_before_it_died_is_no_evidence(found) -> None:
    assert target_of(found, "attention_dies").verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("symbol", ["attention_floods", "attention_endless"])
def test_a_flood_ends_the_job(found, symbol: str) -> None:
    target = target_of(found, symbol)
    assert target.verdict is Verdict.INCONCLUSIVE
    assert say(target.reason) == "its process gave more answers than there are targets"


def test_an_answer_without_end_in_depth_costs_its_target(found) -> None:
    assert "is nested too deeply" in say(target_of(found, "attention_nested").reason)


def test_the_others_are_checked(found) -> None:
    assert target_of(found, "attention_good").verdict is Verdict.SAFE


def test_a_target_that_opens_all_files_there_are_is_answered_for(found) -> None:
    assert target_of(found, "attention_hoards").verdict is Verdict.SAFE


RUN = Run("self", "cpu", "float64", "reference", "OK", Verdict.SAFE)
TARGET = TargetRequest("one", "function")
JOB = Job(4, "/kernel.py", (TARGET, TargetRequest("two", "function")), {}, (), "cpu", 1.0, 1)


def test_a_probe_speaks_for_its_own_target() -> None:
    answer = json.dumps(Outcome(9, "two", (RUN,)).to_json()).encode()
    outcome = import_process._believed(answer, 0, TARGET, JOB)
    assert (outcome.job, outcome.symbol, outcome.runs) == (4, "one", (RUN,))


@pytest.mark.parametrize("status", [signal.SIGKILL, signal.SIGSEGV, 3 << 8])
def test_what_a_probe_said_before_it_died_is_no_evidence(status: int) -> None:
    outcome = import_process._believed(json.dumps(Outcome(4, "one", (RUN,)).to_json()).encode(), status, TARGET, JOB)
    assert outcome.runs == ()
    assert outcome.reason


def test_a_probe_that_answers_nonsense_says_so() -> None:
    for answer in (b"[" * 100_000, b"{}", b"x" * (9 << 20)):
        assert "gave an answer that cannot be one" in say(import_process._believed(answer, 0, TARGET, JOB).reason)
