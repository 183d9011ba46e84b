"""Memory beyond a tensor's end holds what the reader of a kernel's output can tell from numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from theria.probes.point import copy_strided, trial
from theria_lint.worker.triton_interpreter import bounds
from theria_lint.worker.triton_interpreter.bounds import FilledMemory, make_with_margin


@pytest.fixture(autouse=True)
def no_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treats the CPU like a device where nobody checks what a kernel reads."""
    monkeypatch.setattr(bounds, "_CHECKED_DEVICE", "nowhere")


def beyond(tensor: Tensor) -> Tensor:
    """The number behind the last one, as a kernel with too long a row would read it."""
    end = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return torch.as_strided(tensor, (1,), (1,), end)


@pytest.mark.parametrize("shape", [(2, 3), (5,), (1, 2, 4)])
def test_a_tensor_with_a_margin_is_like_another(shape: tuple[int, ...]) -> None:
    made = torch.randn(shape, dtype=torch.float64).mT if len(shape) > 1 else torch.randn(shape, dtype=torch.float64)
    found = make_with_margin(made, 0.7)
    assert (found.shape, found.stride(), found.dtype) == (made.shape, made.stride(), made.dtype)
    assert bool((found == 0.7).all())
    assert float(beyond(found)) == 0.7
    assert not found._is_view()


def test_copies_of_inputs_and_of_other_tensors_are_followed_by_the_number() -> None:
    gate = torch.ones(4)

    def overreading(q: Tensor) -> Tensor:
        return q * beyond(q.detach()) + beyond(gate.clone())

    outputs = []
    for number in (0.5, -3.0):
        with FilledMemory(number):
            outputs.append(trial(overreading, {"q": torch.full((2, 2), 2.0)}, 0))
    assert outputs[0].tolist() == [[1.5, 1.5], [1.5, 1.5]]
    assert outputs[1].tolist() == [[-9.0, -9.0], [-9.0, -9.0]]


def test_what_stays_inside_its_tensors_is_not_changed() -> None:
    q, gate = torch.randn(3, 4), torch.randn(4)
    with FilledMemory(0.7):
        output = trial(lambda q: torch.empty_like(q).copy_(q) * gate.clone(), {"q": q}, 0)
    assert torch.equal(output, q * gate)
    assert torch.equal(copy_strided(q), q)


def test_gradients_flow_through_clones() -> None:
    q = torch.randn(3, requires_grad=True)
    with FilledMemory(0.7):
        (gradient,) = torch.autograd.grad((q.clone() * 2).sum(), q)
    assert gradient.tolist() == [2.0, 2.0, 2.0]
