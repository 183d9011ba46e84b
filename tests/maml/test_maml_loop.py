import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from tests.support.maml_case import case, reference
from theria.maml import InnerLoop, Mode, adapt, meta_gradient, outer_loss
from theria.maml.loop import flatten
from theria.maml.meta_gradient_errors import OnceDifferentiableError, UnusedParameterError
from theria.maml.oracle import STEP, directional_derivative, finite_difference_error


def unit(theta, name, index):
    direction = {n: torch.zeros_like(p) for n, p in theta.items()}
    direction[name].view(-1)[index] = 1
    return direction


@pytest.mark.parametrize("steps", [1, 3])
def test_full_is_the_derivative_of_the_post_adaptation_loss(steps):
    """Coordinate by coordinate against central differences, which take no second derivative of anything."""
    model, theta, task = case()
    loop = InnerLoop(steps, 0.4)
    gradient = meta_gradient(model, theta, task, loop, Mode.FULL)
    for name, value in theta.items():
        expected = [
            directional_derivative(model, theta, task, unit(theta, name, i), loop) for i in range(value.numel())
        ]
        assert torch.allclose(
            gradient[name].flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-8, atol=1e-10
        )


def test_one_full_step_is_the_hessian_formula():
    """(I - αH)·∇L_query at φ, with H the Hessian of the support loss written out by torch.func."""
    model, theta, task = case()
    lr = 0.4
    sizes = [p.numel() for p in theta.values()]

    def loss(vector, x, y):
        parts = {n: part.view_as(p) for (n, p), part in zip(theta.items(), vector.split(sizes), strict=True)}
        return cross_entropy(functional_call(model, parts, (x,)), y)

    start = flatten(theta)
    support = (task.support_x, task.support_y)
    phi = start - lr * torch.func.grad(loss)(start, *support)
    query = torch.func.grad(loss)(phi, task.query_x, task.query_y)
    hessian = torch.func.hessian(loss)(start, *support)
    expected = query - lr * hessian @ query
    measured = {mode: flatten(meta_gradient(model, theta, task, InnerLoop(1, lr), mode)) for mode in Mode}
    assert torch.allclose(measured[Mode.FULL], expected, rtol=1e-10, atol=1e-13)
    assert torch.allclose(measured[Mode.FO], query, rtol=1e-10, atol=1e-13)
    assert torch.allclose(measured[Mode.FO_STRICT], query, rtol=1e-10, atol=1e-13)


def test_all_modes_adapt_to_the_same_parameters():
    model, theta, task = case()
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    full, fo, strict = (flatten(adapt(model, leaves, task, InnerLoop(3, 0.4), mode)) for mode in Mode)
    assert torch.equal(full, fo)
    assert torch.equal(full, strict)


def test_only_fo_strict_leaves_no_path_to_theta():
    model, theta, task = case()
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    for mode, reached in ((Mode.FULL, True), (Mode.FO, True), (Mode.FO_STRICT, False)):
        loss = outer_loss(model, leaves, task, InnerLoop(2, 0.4), mode)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        assert all((g is not None) == reached for g in found), mode


def test_the_discrepancy_shrinks_in_proportion_to_the_inner_learning_rate():
    """FULL - FO is -α H ∇L + O(α²): its slope against α, on a log scale, is 1."""
    model, theta, task = case()

    def gap(lr):
        full, fo = (flatten(meta_gradient(model, theta, task, InnerLoop(2, lr), m)) for m in (Mode.FULL, Mode.FO))
        return (full - fo).norm()

    slope = torch.log2(gap(2e-4) / gap(1e-4)).item()
    assert slope == pytest.approx(1, abs=1e-3)


def test_parameters_and_task_are_left_as_they_were():
    model, theta, task = case()
    before = flatten(theta), task.support_x.clone()
    meta_gradient(model, theta, task, InnerLoop(2, 0.4), Mode.FULL)
    assert torch.equal(flatten(theta), before[0])
    assert torch.equal(task.support_x, before[1])
    assert all(not p.requires_grad and p.grad is None for p in theta.values())


def test_a_parameter_out_of_reach_is_named():
    model, theta, task = case(lambda q, k, v: reference(q.detach(), k, v))
    with pytest.raises(
        UnusedParameterError, match=r"autograd does not reach q_proj\.weight, on which the loss depends"
    ):
        meta_gradient(model, theta, task, InnerLoop(1, 0.4), Mode.FO)


def test_a_parameter_that_truly_does_not_matter_has_a_zero_gradient():
    model, theta, task = case(lambda q, k, v: v.cumsum(-2))
    gradient = meta_gradient(model, theta, task, InnerLoop(2, 0.4), Mode.FULL)
    assert not gradient["q_proj.weight"].any()
    assert gradient["v_proj.weight"].all()


def test_the_error_node_is_found_in_the_graph_where_autograd_grad_would_skip_it():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return g * ctx.saved_tensors[0].cos()

    model, theta, task = case(lambda q, k, v: Once.apply(reference(q, k, v)))
    with pytest.raises(OnceDifferentiableError, match="marked @once_differentiable"):
        meta_gradient(model, theta, task, InnerLoop(1, 0.4), Mode.FULL)
    meta_gradient(model, theta, task, InnerLoop(1, 0.4), Mode.FO)


def test_finite_difference_error_sees_a_wrong_gradient():
    model, theta, task = case()
    loop = InnerLoop(2, 0.4)
    full = meta_gradient(model, theta, task, loop, Mode.FULL)
    generator = torch.Generator().manual_seed(1)
    assert finite_difference_error(full, model, theta, task, loop, generator) < 1e-8
    spoilt = {name: 1.1 * value for name, value in full.items()}
    assert finite_difference_error(spoilt, model, theta, task, loop, generator) == pytest.approx(0.1, rel=1e-6)


def test_the_differences_converge_as_their_order_says():
    """A five-point formula has an error of O(h⁴): halving h from a coarse one divides the error by about 16."""
    model, theta, task = case()
    loop = InnerLoop(1, 0.4)
    direction = {name: torch.ones_like(value) for name, value in theta.items()}
    gradient = meta_gradient(model, theta, task, loop, Mode.FULL)
    truth = sum((gradient[name] * direction[name]).sum().item() for name in theta)

    def error(width):
        scaled = {name: value * (width / STEP) for name, value in direction.items()}
        return abs(directional_derivative(model, theta, task, scaled, loop) * STEP / width - truth)

    assert error(0.01) / error(0.005) == pytest.approx(16, rel=0.2)
