"""What a made-up configuration answers where it is asked for an entry of which its name says nothing."""

from __future__ import annotations

import pytest
import torch

from theria.probes.layouts import ODD
from theria_lint.worker.find_call.argument_values import FakeConfig, NoSuchEntryError
from theria_lint.worker.find_call.call_strategy import TrialSpec
from theria_lint.worker.find_call.choose_arguments import FakeModuleConfig

SPEC = TrialSpec(ODD, "bhtd", torch.float64, "cpu", torch.add)


@pytest.mark.parametrize("kind", [FakeConfig, FakeModuleConfig])
@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("1 if config.zigzag else 0", 0),
        ("1 if not config.zigzag else 0", 1),
        ("not config.zigzag", True),
        ("config.zigzag and 1", False),
        ("config.zigzag or 5", 5),
        ("1 if config['zigzag'] else 0", 0),
        ("getattr(config, 'zigzag', 7)", 7),
        ("1 if getattr(config, 'zigzag', True) else 0", 1),
        ("hasattr(config, 'zigzag')", False),
    ],
)
def test_a_switch_that_nobody_has_turned_is_off(kind: type[FakeConfig], asked: str, answer: object) -> None:
    assert eval(asked, {"config": kind(SPEC)}) == answer


@pytest.mark.parametrize("kind", [FakeConfig, FakeModuleConfig])
@pytest.mark.parametrize(
    "asked", ["config.zigzag + 1", "config.zigzag(2)", "1 if config.zigzag is None else 0", "config.zigzag"]
)
def test_of_what_is_more_than_a_switch_nothing_is_known(kind: type[FakeConfig], asked: str) -> None:
    with pytest.raises(NoSuchEntryError):
        eval(asked, {"config": kind(SPEC)})
