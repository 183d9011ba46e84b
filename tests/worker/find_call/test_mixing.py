"""Attention is told from the layers around it by what one position does to another."""

from __future__ import annotations

import pytest
import torch

from theria_lint.worker.find_call.run_trial import InvalidTrialError, check_depends_on_inputs, check_mixes_positions

X = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def attend(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x @ x.mT, -1) @ x


def in_windows(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([attend(part) for part in x.split(4, 1)], 1)


def dilated(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([attend(x[:, ::2]), attend(x[:, 1::2])], 2).flatten(1, 2)


def from_the_future(x: torch.Tensor) -> torch.Tensor:
    scores = (x @ x.mT).tril(-1) * -torch.inf
    return torch.softmax(scores.nan_to_num(0.0, neginf=-torch.inf), -1) @ x


def at_random(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rand(x.shape, dtype=x.dtype)


@pytest.mark.parametrize(
    "function", [attend, in_windows, dilated, from_the_future, lambda x: x.mean(0, keepdim=True) + x]
)
def test_what_mixes_positions_attends(function: object) -> None:
    assert torch.equal(check_mixes_positions(function, X, -1), function(X))


@pytest.mark.parametrize("function", [torch.tanh, lambda x: x @ torch.ones(6, 6, dtype=x.dtype) + x, at_random])
def test_what_treats_positions_alike_does_not(function: object) -> None:
    with pytest.raises(InvalidTrialError, match="positions_apart"):
        check_mixes_positions(function, X, -1)


def test_windows_may_stand_beside_each_other() -> None:
    windows = X.view(2, 2, 4, 6)
    assert check_mixes_positions(attend, windows, -1).shape == windows.shape


def test_features_may_stand_first() -> None:
    assert check_mixes_positions(lambda x: attend(x.mT).mT, X, 1).shape == X.shape
    with pytest.raises(InvalidTrialError):
        check_mixes_positions(lambda x: x.softmax(1), X, 1)


def test_an_output_of_other_positions_tells_nothing() -> None:
    assert check_mixes_positions(lambda x: x[:, :1], X, -1).shape == (2, 1, 6)


def test_the_random_numbers_of_a_call_are_not_used_up() -> None:
    torch.manual_seed(0)
    expected = at_random(attend(X)), torch.rand(1)
    torch.manual_seed(0)
    assert all(
        map(torch.equal, (check_mixes_positions(lambda x: at_random(attend(x)), X, -1), torch.rand(1)), expected)
    )


def test_an_output_that_depends_on_nothing_is_garbage() -> None:
    with pytest.raises(InvalidTrialError, match="inputs_ignored"):
        check_depends_on_inputs(lambda q, k: (q @ k.mT) * 0.0, [X, X])
    assert check_depends_on_inputs(lambda q, k: q + k, [X, X]).shape == X.shape


def test_what_a_module_keeps_of_a_call_is_kept_until_its_backward() -> None:
    cache = torch.zeros_like(X)

    def cached(x: torch.Tensor) -> torch.Tensor:
        cache.copy_(x.detach())
        return torch.softmax(x @ cache.mT, -1) @ x

    x = X.clone().requires_grad_()
    check_mixes_positions(cached, x, -1).sum().backward()
    assert x.grad is not None
