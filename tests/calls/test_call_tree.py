"""What is written as a tree is read again as what it was."""

from __future__ import annotations

import functools
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from theria_lint.calls.call_file import LARGEST, BadCallError, check_document
from theria_lint.calls.call_tree import LostArgumentError, TreeReader, TreeWriter
from theria_lint.calls.constructions import find_constructor, watch_modules

Pair = namedtuple("Pair", ["left", "right"])

PLAIN: dict[str, Any] = {
    "a named tuple": Pair(1, Pair("x", None)),
    "a class of torch": nn.GELU,
    "a function of torch": torch.softmax,
    "a dtype": torch.bfloat16,
    "numbers without end": [float("inf"), -float("inf")],
    "a size": torch.Size([2, 3]),
    "a table": {1: {"x": (True, 2.5)}},
}


def write(value: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The tree of a value, of the form that a file of a call may have."""
    writer = TreeWriter(find_constructor, __file__)
    tree = writer.write(value)
    assert not writer.lost
    told = {"path": "", "symbol": "", "kind": "", "caller": ""}
    check_document({"format": 1, **told, "args": [tree], "kwargs": {}})
    return tree, writer.tensors


def read(value: Any) -> Any:
    """The value once it was written and read."""
    tree, tensors = write(value)
    return TreeReader(lambda name, told: tensors[told["kept"]].expand(told["shape"]), __name__).read(tree, "x")


@pytest.mark.parametrize("name", PLAIN)
def test_plain_values(name: str) -> None:
    again = read(PLAIN[name])
    assert again == PLAIN[name]
    assert type(again) is type(PLAIN[name])


def test_modules_of_torch_tell_what_they_were_built_with() -> None:
    built = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(inplace=True), nn.LayerNorm([8], eps=0.25)).eval()
    again = read(built)
    assert str(again) == str(built)
    assert [tuple(p.shape) for p in again.parameters()] == [tuple(p.shape) for p in built.parameters()]
    assert not again.training


def test_masks_are_kept_without_what_repeats() -> None:
    causal = torch.full((64, 64), torch.finfo(torch.float32).min).triu(1)
    mask = causal.expand(8, 4, 64, 64)
    _, tensors = write(mask)
    assert [tuple(tensor.shape) for tensor in tensors.values()] == [(1, 1, 64, 64)]
    assert torch.equal(read(mask), mask)


def test_samples_are_kept_by_their_statistics() -> None:
    tree, tensors = write(torch.randn(100, 3, dtype=torch.complex64))
    assert not tensors
    assert tree["tensor"]["dtype"] == "complex64"
    assert abs(tree["tensor"]["mean"]) < 1


def test_classes_of_others_are_not_handed_over() -> None:
    reader = TreeReader(lambda name, told: torch.zeros(1), __name__)
    with pytest.raises(LostArgumentError):
        reader.read({"class": "subprocess:Popen"}, "x")


@dataclass
class Settings:
    width: int = 3


def test_a_dataclass_keeps_what_is_no_field() -> None:
    settings = Settings(5)
    settings.__dict__["_chosen"] = "eager"
    assert vars(read(settings)) == {"width": 5, "_chosen": "eager"}


def test_a_partial_function_is_given_the_same_again() -> None:
    again = read(functools.partial(nn.LayerNorm, eps=0.25))
    assert (again.func, again.args, again.keywords) == (nn.LayerNorm, (), {"eps": 0.25})
    with pytest.raises(LostArgumentError, match="os:system"):
        TreeReader(lambda name, told: torch.zeros(()), __name__).read(
            {"partial": {"function": {"function": "os:system"}, "args": [{"value": "true"}], "kwargs": {}}}, "x"
        )


def test_tensors_without_numbers_are_kept() -> None:
    assert read(torch.empty(2, 0, 3)).shape == (2, 0, 3)


class Plain(nn.Module):
    """It has no constructor of its own."""


def test_modules_without_a_constructor_were_built_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "__init__", nn.Module.__init__)  # so that it is put back
    watch_modules()
    assert type(read(Plain())) is Plain


def test_of_a_large_mask_the_corner_is_kept() -> None:
    mask = torch.ones(2, 2000, 1600, dtype=torch.bool).tril()
    tree, tensors = write(mask)
    corner = tree["tensor"]["corner"]
    assert corner == [2, 500, 800]
    assert tree["tensor"]["shape"] == [2, 2000, 1600]
    assert torch.equal(tensors["t0"].expand(corner), mask[:, :500, :800])


def test_all_that_is_kept_of_a_call_fits_its_file() -> None:
    writer = TreeWriter(find_constructor, __file__)
    for number in range(6):
        writer.write(torch.arange(number, number + 60_000))
    assert not writer.lost
    assert sum(tensor.nbytes for tensor in writer.tensors.values()) < LARGEST


@pytest.mark.parametrize("corner", [[9], [3], [8, 8], "8", [-1], [True]])
def test_a_corner_is_a_part_of_the_tensor(corner: Any) -> None:
    tree, _ = write(torch.arange(8))
    tree["tensor"]["corner"] = corner
    with pytest.raises(BadCallError):
        check_document({"format": 1, "path": "", "symbol": "", "kind": "", "caller": "", "args": [tree], "kwargs": {}})
