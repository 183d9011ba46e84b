import pytest
import torch

from tests.support.maml_case import reference
from tests.support.opaque_triton import opaque_attention
from theria.attention import attention
from theria.maml import sever_double_backward


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 1, 8, 4, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(4)]


def first(fn, *, create_graph=False):
    q, k, v, w = inputs()
    out = fn(q, k, v)
    return out, torch.autograd.grad((out * w).sum(), (q, k, v), create_graph=create_graph), (q, k, v, w)


@pytest.mark.parametrize("fn", [reference, opaque_attention, lambda q, k, v: attention(q, k, v, backend="custom")])
def test_forward_and_vjp_are_the_attentions_own(fn):
    out, gradients, _ = first(fn)
    severed_out, severed_gradients, _ = first(sever_double_backward(fn))
    assert torch.equal(out, severed_out)
    assert all(torch.equal(a, b) for a, b in zip(gradients, severed_gradients, strict=True))


def test_the_vjp_is_a_constant_in_every_variable_the_cotangent_too():
    _, gradients, _ = first(sever_double_backward(reference), create_graph=True)
    assert not any(g.requires_grad for g in gradients)


def test_layers_around_keep_their_second_order():
    q, k, v, w = inputs()
    loss = (sever_double_backward(reference)(q, k, v).pow(2) * w).sum()
    (gradient,) = torch.autograd.grad(loss, w, create_graph=True)
    (mixed,) = torch.autograd.grad(gradient.sum(), q)
    expected = torch.autograd.grad(reference(q, k, v).pow(2).sum(), q)[0]
    assert torch.allclose(mixed, expected, rtol=1e-12)


def test_it_can_be_differentiated_twice_over_the_same_graph():
    q, k, v, w = inputs()
    out = sever_double_backward(reference)(q, k, v)
    once = torch.autograd.grad((out * w).sum(), q, retain_graph=True)[0]
    again = torch.autograd.grad((out * w).sum(), q)[0]
    assert torch.equal(once, again)


def test_inputs_that_need_no_gradient_get_none():
    q, k, v, w = inputs()
    out = sever_double_backward(reference)(q.detach(), k, v)
    found = torch.autograd.grad((out * w).sum(), (q, k, v), allow_unused=True)
    assert found[0] is None
    assert found[1] is not None


def test_an_attention_outside_the_graph_stays_outside():
    q, k, v, w = inputs()
    out = sever_double_backward(lambda q, k, v: reference(q, k, v).detach())(q, k, v)
    assert torch.autograd.grad((out * w).sum(), (q, k, v), allow_unused=True) == (None, None, None)
