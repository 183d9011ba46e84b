"""An example that does not come to its call is given up, whatever it catches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from theria_lint.model import TargetKind
from theria_lint.worker.find_call import watched_call
from theria_lint.worker.find_call.watched_call import record_examples


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (q @ k.mT).softmax(-1) @ v


CALL = "q = torch.ones(1, 2, 3)\nattend(q, q, q)\n"
ENDLESS = """
def work():
    try:
        while True:
            pass
    except Exception:
        work()

work()
"""


def record(code: str) -> list[dict[str, Any]]:
    return record_examples(attend, TargetKind.FUNCTION, [{"code": code, "source": "docs/use.md"}])


def test_an_example_is_run_up_to_its_call() -> None:
    (call,) = record(CALL + "raise SystemExit")
    assert call["document"]["caller"] == "docs/use.md"


def test_an_example_that_catches_errors_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_call, "SECONDS", 0.2)
    assert record(ENDLESS + CALL) == []
    assert len(record(CALL)) == 1
