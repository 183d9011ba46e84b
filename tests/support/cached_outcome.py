"""An outcome to keep, what it was made with, and a cache to keep it in."""

from __future__ import annotations

import sys
from pathlib import Path

from theria.verdicts import Verdict
from theria_lint.cache import Place
from theria_lint.confirm.outcome_cache import OutcomeCache, WorkerInfo
from theria_lint.confirm.protocol import Outcome
from theria_lint.model import Run
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.result import Environment

REFUSED = {"files": None, "calls": Reason(ReasonCode.SYSTEM_REFUSES, {"message": "no"})}
AROUND = WorkerInfo(Environment("3.11.0", "2.13.0", None, "cpu"), REFUSED)
RUN = Run("self", "cpu", "float64", "reference", "OK", Verdict.SAFE, blocks={"q,q": {"norm": 1.0, "error": 0.5}})
SAFE = Outcome(3, "attention", (RUN,), places={"/k.py": ((1, 0, 1, 5),)})


def new_cache(tmp_path: Path) -> OutcomeCache:
    return OutcomeCache(place(tmp_path), sys.executable, "cpu")


def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "cache"), str(tmp_path / "cache"))
