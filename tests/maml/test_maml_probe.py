import math

import pytest
import torch

from tests.support.maml_case import case, reference
from tests.support.opaque_triton import opaque_attention
from theria.attention import attention
from theria.maml import InnerLoop, MamlReport, MamlStep, Mode, TaskShape, maml_probe, meta_gradient
from theria.maml.classifier import ATTENTION_PARAMETERS
from theria.maml.loop import flatten
from theria.verdicts import Status


def on(backend):
    return lambda q, k, v: attention(q, k, v, backend=backend)


def detached_output(q, k, v):
    out = reference(q, k, v)
    return out.detach() + 0 * out


def no_grad(q, k, v):
    with torch.no_grad():
        return reference(q, k, v)


def linear_attention(q, k, v):
    q, k = (torch.softmax(x, dim=-1) for x in (q, k))
    return q @ (k.transpose(-1, -2) @ v)


@pytest.mark.parametrize("backend", ["reference", "custom", "triton"])
def test_our_backends_have_the_true_meta_gradient(backend):
    report = maml_probe(on(backend), shape=TaskShape(examples=3), steps=2, inner_steps=2)
    assert report.status is Status.OK
    assert report.oracle == "reference (float64)"
    assert report.meta_gradient_error < 1e-12
    assert all(report.flags().values())
    assert report.rel_diff > 0.1


def test_float32_is_right_to_its_precision():
    report = maml_probe(reference, dtype=torch.float32)
    assert 0 < report.meta_gradient_error < 1e-5
    assert all(report.flags().values())


def test_half_precision_attention_runs_inside_a_float32_model():
    seen = set()

    def record(q, k, v):
        seen.add((q.dtype, v.dtype))
        return reference(q, k, v)

    report = maml_probe(record, dtype=torch.bfloat16)
    assert seen == {(torch.bfloat16, torch.bfloat16)}
    assert report.dtype == "bfloat16"
    assert 1e-4 < report.meta_gradient_error < 0.05


def test_a_collapsed_attention_loses_its_path_and_the_head_keeps_its_own():
    flags = maml_probe(detached_output).flags()
    assert flags["second_order_path_all"]
    assert not flags["second_order_path_attn_any"]
    assert flags["second_order_path_head_all"]


def test_a_path_through_v_alone_is_told_from_one_through_q_and_k():
    detached_logits = maml_probe(lambda q, k, v: reference(q.detach() + 0 * q, k.detach() + 0 * k, v))
    assert detached_logits.attention_inputs() == ("v",)
    assert maml_probe(reference).attention_inputs() == ("q", "k", "v")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_opaque_triton_kernel_is_not_credited_with_the_heads_second_order(dtype):
    report = maml_probe(opaque_attention, dtype=dtype)
    assert report.status is Status.OK
    assert [step.attention_share for step in report.steps] == [0, 0]
    assert not report.flags()["second_order_path_attn_any"]
    assert report.flags()["second_order_path_head_all"]
    assert report.meta_gradient_error > 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_an_opaque_triton_kernel_is_not_credited_on_a_gpu_either():
    report = maml_probe(opaque_attention, dtype=torch.float32, device="cuda")
    assert report.status is Status.OK
    assert not report.flags()["second_order_path_attn_any"]
    assert report.flags()["second_order_path_head_all"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", ["reference", "custom", "triton"])
def test_our_backends_have_the_true_meta_gradient_on_a_gpu(backend, dtype):
    report = maml_probe(on(backend), dtype=dtype, device="cuda")
    eager = maml_probe(reference, dtype=dtype, device="cpu")
    assert report.meta_gradient_error < 4 * eager.meta_gradient_error
    assert all(report.flags().values())


def test_the_opaque_kernel_is_right_once_and_its_projections_get_second_order_from_above():
    """What the attribution has to see through: FULL and FO differ at the projections without any help of the kernel."""
    q, k, v = (torch.randn(2, 1, 4, 2, dtype=torch.float64).requires_grad_() for _ in range(3))
    opaque, true = (torch.autograd.grad(fn(q, k, v).sin().sum(), (q, k, v)) for fn in (opaque_attention, reference))
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(opaque, true, strict=True))
    model, theta, task = case(opaque_attention)
    full, fo = (
        flatten(meta_gradient(model, theta, task, InnerLoop(2, 0.4), mode), ATTENTION_PARAMETERS.values())
        for mode in (Mode.FULL, Mode.FO)
    )
    assert (full - fo).norm() > 0.01 * full.norm()


def test_unused_parameters_are_told_from_the_graph():
    report = maml_probe(no_grad)
    assert report.status is Status.HARD_FAIL_UNUSED
    assert report.steps == ()
    assert report.flags() == {}
    assert report.rel_diff is report.meta_gradient_error is None
    assert "q_proj.weight, k_proj.weight, v_proj.weight" in report.error


def test_any_other_exception_is_kept_with_its_type():
    def broken(q, k, v):
        raise KeyError("not have been used in the graph; marked with @once_differentiable")

    report = maml_probe(broken)
    assert report.status is Status.HARD_FAIL_OTHER
    assert report.error.startswith("KeyError: ")


def test_a_double_backward_that_raises_is_hard_fail_other():
    report = maml_probe(torch.nn.functional.scaled_dot_product_attention)
    assert report.status is Status.HARD_FAIL_OTHER
    assert "not implemented" in report.error


def test_a_wrong_output_shape_is_said():
    report = maml_probe(lambda q, k, v: reference(q, k, v).squeeze(1))
    assert report.status is Status.HARD_FAIL_OTHER
    assert "expected (6, 1, 8, 4)" in report.error


def test_other_attention_is_held_against_its_own_differences():
    report = maml_probe(linear_attention)
    assert report.oracle == "finite differences of the post-adaptation loss"
    assert report.meta_gradient_error < 1e-7
    assert all(report.flags().values())


def test_a_fault_in_other_attention_is_found_without_a_reference():
    report = maml_probe(lambda q, k, v: linear_attention(q, k.detach() + 0 * k, v))
    assert report.oracle == "finite differences of the post-adaptation loss"
    assert report.meta_gradient_error > 1e-3


def test_other_attention_in_float32_has_no_oracle():
    report = maml_probe(linear_attention, dtype=torch.float32)
    assert report.status is Status.OK
    assert report.oracle == ""
    assert report.meta_gradient_error is None
    assert all(report.flags().values())


def test_the_discrepancy_grows_with_inner_steps():
    gaps = [maml_probe(reference, inner_steps=n, inner_lr=0.05).rel_diff for n in (1, 4, 16)]
    assert gaps == sorted(gaps)
    assert gaps[2] > 3 * gaps[0]


def test_the_callers_state_is_left_alone_and_does_not_matter():
    before = torch.get_rng_state()
    first = maml_probe(reference)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    torch.set_default_dtype(torch.float16)
    try:
        with torch.no_grad():
            second = maml_probe(reference)
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() is torch.float16
    finally:
        torch.set_default_dtype(torch.float32)
    assert first == second


def test_an_attention_with_random_numbers_gives_the_same_answer_twice():
    def dropped(q, k, v):
        return reference(q, k, torch.nn.functional.dropout(v, 0.5))

    first, second = maml_probe(dropped), maml_probe(dropped)
    assert first == second


def test_a_modules_own_parameters_are_not_the_models():
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, q, k, v):
            return self.gain * reference(q, k, v)

    module = Own()
    assert maml_probe(module).meta_gradient_error < 1e-12
    assert module.gain.grad is None


@pytest.mark.parametrize("steps", [{"steps": 0}, {"inner_steps": 0}])
def test_no_steps_are_refused(steps):
    with pytest.raises(ValueError, match="at least 1 of each"):
        maml_probe(reference, **steps)


def step(**changes):
    return MamlStep(
        **{
            "rel_diff": 0.5,
            "meta_gradient_error": 0.1,
            "attention_shares": {"q": 0.0, "k": 0.12, "v": 0.16},
            "head_share": 0.3,
            "noise": 1e-6,
        }
        | changes
    )


def report(*steps):
    return MamlReport(Status.OK, steps, 2, "float64", "cpu", "reference (float64)")


def test_flags_tell_all_from_any():
    flags = report(step(), step(attention_shares={"q": 1e-7, "k": 0, "v": 0})).flags()
    assert flags["second_order_path_attn_any"]
    assert not flags["second_order_path_attn_all"]
    assert flags["second_order_path_all"]


def test_the_inputs_that_get_attentions_signal_are_named():
    assert report(step(), step()).attention_inputs() == ("k", "v")


def test_a_nan_error_is_the_worst():
    assert math.isnan(report(step(), step(meta_gradient_error=math.nan), step()).meta_gradient_error)


def test_plain_data_and_table_say_the_same():
    measured = report(step(), step(meta_gradient_error=None))
    data = measured.to_dict()
    assert data["rel_diff"] == 0.5
    assert data["meta_gradient_error"] == 0.1
    assert data["second_order_path_attn_all"] is True
    lines = str(measured).splitlines()
    assert lines[0] == "OK; 2 inner steps; float64, cpu; oracle: reference (float64)"
    assert lines[2].split() == ["0", "5.00e-01", "1.0e-01", "2.00e-01", "3.00e-01"]
    assert lines[3].split()[2] == "-"
