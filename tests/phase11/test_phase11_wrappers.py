import pytest
import torch
from bad_backends import WRAPPERS

from theria.attention import attention


def inputs():
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 1, 3, 4), (2, 1, 5, 4), (2, 1, 5, 2))
    return [torch.randn(size, dtype=torch.float64, generator=generator).requires_grad_() for size in sizes]


def base(q, k, v):
    return attention(q, k, v, backend="reference")


@pytest.mark.parametrize("name", WRAPPERS)
def test_only_derivatives_are_broken(name):
    q, k, v = inputs()
    assert torch.allclose(WRAPPERS[name](base)(q, k, v), base(q, k, v), rtol=1e-12)


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_base_is_what_computes(name):
    """A base with another scale gives another output: nothing is computed behind its back."""
    q, k, v = inputs()

    def sharper(q, k, v):
        return attention(q, k, v, backend="reference", scale=2.0)

    assert torch.allclose(WRAPPERS[name](sharper)(q, k, v), sharper(q, k, v), rtol=1e-12)
    assert not torch.allclose(sharper(q, k, v), base(q, k, v), rtol=0.01)


@pytest.mark.parametrize("name", ["once_differentiable_sim", "backward_detach_logits_sim", "checkpoint_attention"])
def test_these_are_right_to_first_order(name):
    q, k, v = inputs()
    broken, true = (torch.autograd.grad(fn(q, k, v).sin().sum(), (q, k, v)) for fn in (WRAPPERS[name](base), base))
    assert all(torch.allclose(a, b, rtol=1e-11, atol=1e-14) for a, b in zip(broken, true, strict=True))


def test_every_wrapper_of_the_taxonomy_is_there():
    assert {
        "baseline",
        "detach_attention_output",
        "no_grad_attention",
        "once_differentiable_sim",
        "stats_detach_logits_sdpa",
        "stats_detach_softmax_output_sdpa",
        *(f"detach_{x}_input{strict}" for x in "qkv" for strict in ("", "_strict")),
        "checkpoint_attention",
        "checkpoint_no_grad",
        "checkpoint_detach_recompute",
        "recompute_logits_no_grad_sdpa",
        "backward_detach_logits_sim",
    } <= set(WRAPPERS)
