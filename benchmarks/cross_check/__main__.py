"""Checks verdicts of theria-lint by other means: double backward against differences, on inputs made by hand.

    PYTHON benchmarks/cross_check [REPORT.json ...] [NAME ...]

runs with the Python of an environment that holds the packages (benchmarks/field_report.py makes one and writes the
reports), and prints one line for every case whose key holds one of the names: how many blocks are right, wrong and
missing, the worst relative errors, the class that follows, and what the reports say. At the end it names the targets of
the reports that have a verdict and no case. It exits with 1 where both disagree. It shares no code with the linter.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import cases
import cases_kernels
import cases_mixed
import cases_recorded
import cases_vit
import torch
from case import Make
from measure_case import Check, Found

CASES = cases.CASES | cases_vit.CASES | cases_mixed.CASES | cases_kernels.CASES | cases_recorded.CASES
NONE = "inconclusive"


def verdicts(reports: list[str]) -> dict[str, str]:
    """What the linter's JSON reports say, by ``package/module.py:symbol``; or the results of recorded_calls.py."""
    found = {}
    for name in reports:
        targets = json.loads(Path(name).read_text())["targets"]
        if isinstance(targets, dict):
            found |= {key.removeprefix("src/"): told["recorded"]["verdict"] for key, told in targets.items()}
            continue
        for target in targets:
            place = target["path"].replace(os.sep, "/").rpartition("site-packages/")[2]
            found[f"{place}:{target['symbol']}"] = target["verdict"]
    return found


def resolve(key: str) -> Any:
    """The object that ``package/module.py:symbol`` names; ImportError where its package is not installed."""
    path, _, symbol = key.partition(":")
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return attrgetter(symbol)(importlib.import_module(module))


def line(key: str, found: Found | str, said: str) -> str:
    """A row of the table."""
    if isinstance(found, str):
        return f"{key:104} {found}"
    ours = found.verdict()
    known = {"": "not in the reports", NONE: "no verdict", ours: "agree"}
    agrees = known.get(said, f"DISAGREE: the linter says {said}")
    raised = f" ({found.raised[1]})" if found.raised else ""
    return f"{key:104} {found.counts()}  {ours:17}  {agrees}{raised}"


@contextmanager
def cuda_tensors(pretend: bool) -> Iterator[None]:
    """Lets tensors pass for CUDA ones, for kernels that insist on a GPU before they run through the interpreter."""
    true = torch.Tensor.is_cuda
    if pretend:
        torch.Tensor.is_cuda = property(lambda tensor: True)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.Tensor.is_cuda = true  # type: ignore[assignment]


def examined(key: str, make: Make) -> Found | str:
    """What is found of a case, or why it does not run."""
    try:
        target = resolve(key)
        torch.manual_seed(3)
        case = make(target)
        with cuda_tensors(case.gpu):
            return Check(case).examine()
    except Exception as error:
        return f"not run: {type(error).__name__}: {str(error)[:90]}"


def uncovered(said: Mapping[str, str]) -> str:
    """The conclusive targets of the reports that have no case."""
    without = (f"{key} ({verdict})" for key, verdict in said.items() if verdict != NONE and key not in CASES)
    return ", ".join(without) or "none"


def main() -> None:
    """Prints the table, and what it does not cover."""
    warnings.simplefilter("ignore")
    os.environ["TRITON_INTERPRET"] = "1"
    torch.cuda.get_device_capability = lambda *_: (8, 0)
    torch.set_num_threads(1)
    names = [name for name in sys.argv[1:] if not name.endswith(".json")] or [""]
    said = verdicts([name for name in sys.argv[1:] if name.endswith(".json")])
    disagree = 0
    for key, make in CASES.items():
        if any(name in key for name in names):
            found = examined(key, make)
            print(line(key, found, said.get(key, "")), flush=True)
            disagree += isinstance(found, Found) and said.get(key, NONE) not in (NONE, found.verdict())
    print(f"{disagree} disagree; without a case: {uncovered(said)}")
    sys.exit(bool(disagree))


if __name__ == "__main__":
    main()
