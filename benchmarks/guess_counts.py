"""Counts which guesses make the calls of callables work: each is taken away, and the call is searched for again.

    PYTHON benchmarks/guess_counts.py TARGETS.json TALLY.json

runs with the Python of the environment that holds the callables (`field_report.py --guesses` starts it). TARGETS.json
maps the paths of files to lists of a symbol and its kind, TALLY.json is where processes that count beside each other
keep how often they took a guess away. It prints lines of JSON: all guesses, then for every callable the call that is
found, the guesses that took part in it, and what is found without each of these: the same call, another, or none. Only
calls are searched for, nothing is probed. The code runs outside the sandbox.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from list_guesses import GENTLE, GUESSES, name_layout, name_size, watch_rows

from theria.probes.point import trial
from theria_lint.confirm.protocol import TargetRequest
from theria_lint.sandbox import confine
from theria_lint.worker import device_fallback, importer
from theria_lint.worker.find_call.opened_target import open_partial
from theria_lint.worker.shims import no_codegen
from theria_lint.worker.shims.fake_cuda import FakeGpu
from theria_lint.worker.shims.shim_log import ShimLog
from theria_lint.worker.triton_interpreter import launching

SECONDS = 15.0
"""Processor time that a search may take, as in a run with a limit of 30 s a target."""

SECONDS_WITHOUT = 6.0
"""How much longer than with all guesses a search without one may take."""

SLOW = 4.0
"""Seconds that a search takes from which guesses are not taken away one by one."""

MEMORY = 4 << 30


def search_call(module: Any, symbol: str, kind: str, fake_gpu: FakeGpu, seconds: float) -> Any:
    """The working call of a target, as the linter looks for it where nothing was recorded."""
    found, request = open_partial(importer.resolve_symbol(module, symbol), TargetRequest(symbol, kind))
    return device_fallback.find_call_with_fallback(found, request, "cpu", seconds, fake_gpu)


def describe_call(call: Any) -> str:
    """What tells a call from another: how it is made, and what it gives."""
    made, spec = call.make_call(), call.spec
    output = trial(made.compute_output, made.inputs, spec.seed)
    inputs = {name: tuple(tensor.shape) for name, tensor in made.inputs.items()}
    choice = {**call.strategy.choice, **spec.choice}
    total = f"{float(output.double().abs().sum()):.6g}"
    return f"{spec.layout} {spec.dtype} {inputs} {choice} {sorted(made.extras)} -> {tuple(output.shape)} {total}"


def watch_search(module: Any, symbol: str, kind: str, fake_gpu: FakeGpu) -> dict[str, Any]:
    """The call of a target, and which guesses took part."""
    seen: dict[str, bool] = {}

    def tell(name: str, early: bool) -> None:
        seen[name] = seen.get(name, False) or early

    watch_rows(tell)
    for guess in GUESSES.values():
        guess.watch(partial(tell, guess.name, guess.early))
    began = time.process_time()
    call = search_call(module, symbol, kind, fake_gpu, SECONDS)
    spent = time.process_time() - began
    used = {name for name, early in seen.items() if early}
    seen.clear()
    told = describe_call(call)
    used |= {*seen, name_layout(call.spec.layout), name_size(call.spec.shape)}
    used |= {GENTLE} if call.spec.gentle else set()
    return {"call": told, "agrees": call.agrees, "seconds": round(spent, 2), "used": sorted(used & GUESSES.keys())}


def search_without(
    names: list[str], seconds: float, module: Any, symbol: str, kind: str, fake_gpu: FakeGpu
) -> dict[str, Any]:
    """The call that is found without some guesses."""
    for name in names:
        GUESSES[name].remove()
    call = search_call(module, symbol, kind, fake_gpu, seconds)
    return {"call": describe_call(call), "agrees": call.agrees}


def ask_child(work: Callable[[], dict[str, Any]], seconds: float) -> dict[str, Any]:
    """What some work in a process of its own gives; what it raised where it gave nothing."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.setsid()
        confine.limit_resources(MEMORY, seconds + 15, device="cpu")
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(6 * seconds) + 60)
        try:
            told = work()
        except BaseException as error:
            told = {"call": None, "why": str(getattr(error, "reason", None) or traceback.format_exc())[-600:]}
        os.write(writer, json.dumps(told).encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    told = json.loads(data) if data else {"call": None, "why": "it died"}
    return dict(told)


class Tally:
    """How often each guess was taken away, and how often no call was left: shared by all that count."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def update(self, name: str = "", lost: bool = False) -> dict[str, list[int]]:
        """The counts, once one more is added."""
        with self._path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            counts: dict[str, list[int]] = json.loads(file.read() or "{}")
            if name:
                tried, without = counts.get(name, [0, 0])
                counts[name] = [tried + 1, without + lost]
                file.truncate(0)
                file.write(json.dumps(counts))
        return counts


def compare(told: dict[str, Any], found: dict[str, Any]) -> str:
    """What is left of a call without a guess."""
    if found["call"] is None:
        return "none"
    return "same" if found["call"] == told["call"] else "other"


def count_file(path: str, targets: list[list[str]], tally: Tally, given: argparse.Namespace, out: Any) -> None:
    """Print a line for each target of a file."""
    log = ShimLog()
    fake_gpu = FakeGpu(log)
    no_codegen.avoid_code_generation(log)
    launching.watch_launches(log, full_precision=False)
    log.watch_missing_packages()
    fake_gpu.install_shims()
    module = device_fallback.import_with_fallback(path, "cpu", fake_gpu)
    gc.collect()
    gc.freeze()
    for symbol, kind in targets:
        target = (module, symbol, kind, fake_gpu)
        if given.without:
            told = ask_child(partial(search_without, given.without, SECONDS, *target), SECONDS)
        else:
            told = ask_child(partial(watch_search, *target), SECONDS)
        told["without"] = {}
        for name in told.get("used", ()) if told.get("seconds", SLOW) < SLOW else ():
            tried, lost = tally.update().get(name, (0, 0))
            if lost < given.enough and tried < given.tries:
                seconds = told["seconds"] + SECONDS_WITHOUT
                found = ask_child(partial(search_without, [name], seconds, *target), seconds)
                told["without"][name] = compare(told, found)
                tally.update(name, found["call"] is None)
        print(json.dumps({"path": path, "symbol": symbol, "kind": kind, **told}), file=out, flush=True)


def main() -> None:
    """Count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", type=Path)
    parser.add_argument("tally", type=Path)
    parser.add_argument("--enough", type=int, default=2, help="how often a guess has to have been needed to be kept")
    parser.add_argument("--tries", type=int, default=10, help="from how many callables each guess is taken away")
    parser.add_argument("--without", nargs="+", help="search without these guesses, and do nothing else")
    given = parser.parse_args()
    out = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    print(json.dumps({"guesses": list(GUESSES)}), file=out, flush=True)
    for path, targets in json.loads(given.targets.read_text()).items():
        pid = os.fork()
        if pid == 0:
            try:
                count_file(path, targets, Tally(given.tally), given, out)
            except BaseException as error:
                print(json.dumps({"path": path, "error": f"{type(error).__name__}: {error}"}), file=out, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
