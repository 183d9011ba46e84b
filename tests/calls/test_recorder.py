"""Which of the ways in which a target is called are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from theria_lint.calls.call_file import MOST_CALLS
from theria_lint.calls.recorder import CallRecorder
from theria_lint.launch.record_command import find_recorded


class Config:
    def __init__(self, kind: str, dim: int = 4) -> None:
        self.kind, self.dim = kind, dim


def make_target() -> Any:
    class Attention(nn.Module):
        def __init__(self, config: Config) -> None:
            super().__init__()
            self.config = config

        def forward(self, x: Tensor, **options: bool) -> Tensor:
            return x

    return Attention


def record_calls(spool: Path) -> Any:
    plan = {"targets": {}, "names": {"/shop/kernels.py": "kernels.py"}, "spool": str(spool)}
    return CallRecorder(plan).make_decorator("/shop/kernels.py", "Attention", "module")(make_target())


def list_kinds(spool: Path) -> list[str]:
    ((_, calls),) = find_recorded(str(spool)).items()
    return [str(document["constructor"]) for _, document in calls]


def test_each_way_to_build_a_target_is_kept_however_often_another_was_called(tmp_path: Path) -> None:
    attention = record_calls(tmp_path)
    eager = attention(Config("eager"))
    for number in range(200):
        eager(torch.zeros(2, 3), **{f"option_{number}": True})
    attention(Config("fused"))(torch.zeros(2, 3))
    for number in range(200):
        eager(torch.zeros(2, 3, 4), **{f"option_{number}": True})
    kinds = list_kinds(tmp_path)
    assert len(kinds) == MOST_CALLS + 1
    assert ["fused" in kind for kind in kinds[:2]].count(True) == 1


def test_what_is_switched_after_it_was_built_is_another_way(tmp_path: Path) -> None:
    attention = record_calls(tmp_path)
    config = Config("eager")
    made = attention(config)
    made(torch.zeros(2, 3))
    config.kind = "fused"
    made(torch.zeros(2, 3))
    assert sorted("fused" in kind for kind in list_kinds(tmp_path)) == [False, True]
