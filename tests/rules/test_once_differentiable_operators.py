"""Rule THL014 lists what PyTorch cannot differentiate twice: by its derivative formulas, and by trying."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from tests.support.derivative_formulas import list_once_differentiable
from torch import Tensor

from theria_lint.rules.loader import load_rules

ATEN = "torch.ops.aten."
LISTED = load_rules()["THL014"].collect_names("function")
ATTENTION = load_rules()["THL008"].collect_names("function")


def test_the_operators_are_those_of_the_derivative_formulas() -> None:
    found = list_once_differentiable()
    assert "_cdist_forward" in found
    listed = {name.removeprefix(ATEN) for name in LISTED if name.startswith(ATEN)}
    assert {name for name in found if "attention" not in name} == listed


LENGTHS = torch.tensor([2, 4])
BAGS = torch.tensor([[0, 1], [2, 3]])
CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch.cdist": lambda x: torch.cdist(x, 2 * x.detach() + 1),
    "torch.pdist": torch.pdist,
    "torch.nn.functional.pdist": F.pdist,
    "torch.segment_reduce": lambda x: torch.segment_reduce(x, "sum", lengths=LENGTHS),
    "torch.sparse.softmax": lambda x: torch.sparse.softmax(x.to_sparse(), 1).to_dense(),
    "torch.sparse.log_softmax": lambda x: torch.sparse.log_softmax(x.to_sparse(), 1).to_dense(),
    "torch.sparse.sum": lambda x: torch.sparse.sum(x.to_sparse(), 0).to_dense(),
    "torch._masked_softmax": lambda x: torch._masked_softmax(x, torch.zeros_like(x, dtype=torch.bool), -1),
    "torch.embedding_bag": lambda x: torch.nn.functional.embedding_bag(
        BAGS, torch.eye(6, dtype=x.dtype), per_sample_weights=x[:2, :2], mode="sum"
    ),
    "torch.nn.functional.multi_margin_loss": lambda x: F.multi_margin_loss(x, torch.arange(6) % 4),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_listed_raises_when_it_is_differentiated_twice(name: str) -> None:
    assert name in LISTED
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (gradient,) = torch.autograd.grad(CALLS[name](x).square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="derivative for .* is not implemented"):
            torch.autograd.grad(gradient.square().sum(), x)
