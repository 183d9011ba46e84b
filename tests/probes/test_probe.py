"""theria.probe on kernels of every failure class, and what a probe must leave alone."""

from __future__ import annotations

import math

import pytest
import torch

import theria
from tests.support import probe_kernels as kernels
from theria.probes import Shape, Trusted, measure
from theria.probes.compare import Comparison, compare, judge
from theria.probes.derivatives import Derivatives, first_line
from theria.probes.layouts import ODD
from theria.probes.oracles import Observation
from theria.probes.qkv import draw_qkv
from theria.probes.report import Block
from theria.testing import SecondOrderError, assert_second_order_safe
from theria.verdicts import COTANGENT, Status, Verdict, worst


def name(function: object) -> str:
    return getattr(function, "__qualname__", None) or str(function.__self__.__name__)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kernel", "verdict"), kernels.VERDICTS.items(), ids=map(name, kernels.VERDICTS))
def test_verdict(kernel, verdict):
    report = theria.probe(kernel)
    assert report.verdict is verdict, str(report)


def hessian_by_autograd(function, inputs, cotangent):
    """All second derivatives of L as one matrix, by torch.autograd.functional: nothing of the probes is used."""
    sizes = [t.numel() for t in inputs.values()]
    shapes = [t.shape for t in inputs.values()]

    def loss(flat):
        parts = [p.view(s) for p, s in zip(flat.split(sizes), shapes, strict=True)]
        return (cotangent * function(*parts)).sum()

    return torch.autograd.functional.hessian(loss, torch.cat([t.reshape(-1) for t in inputs.values()])).split(sizes, 0)


def test_blocks_are_rows_of_the_hessian():
    inputs = draw_qkv(Shape(1, 1, 3, 4, 2, 2), layout="bhtd", dtype=torch.float64, device="cpu", seed=3)
    report = measure(kernels.plain, inputs, references=[Trusted("same", kernels.plain)], seed=3)
    from theria.probes.point import place

    point = place(inputs, kernels.plain(**inputs), 3)
    rows = dict(zip(inputs, hessian_by_autograd(kernels.plain, inputs, point.cotangent), strict=True))
    for a, block_rows in rows.items():
        observed = point.directions[a].reshape(-1) @ block_rows
        for b, part in zip(inputs, observed.split([t.numel() for t in inputs.values()]), strict=True):
            norm = report.blocks[f"{a},{b}"].norm or 0.0
            assert norm == pytest.approx(float(part.norm()), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("kernel", [kernels.linear, kernels.sigmoid, kernels.cosine, kernels.windowed])
def test_finite_differences_agree_with_autograd_of_safe_attention(kernel):
    report = theria.probe(kernel, oracle="finite differences")
    assert report.verdict is Verdict.SAFE
    assert report.oracle.startswith("finite differences")
    assert max(block.error for block in report.blocks.values()) < 1e-7


@pytest.mark.parametrize("kernel", [kernels.SavedWeights.apply, kernels.Opaque.apply, kernels.ScaledCurvature.apply])
def test_both_oracles_give_the_same_verdict(kernel):
    by_reference, by_differences = theria.probe(kernel), theria.probe(kernel, oracle="finite differences")
    assert by_reference.oracle == "reference"
    assert by_reference.verdict is by_differences.verdict
    for key, block in by_reference.blocks.items():
        assert by_differences.blocks[key].state == block.state, key


def test_ten_per_cent_of_one_term_is_seen_and_located():
    report = theria.probe(kernels.ScaledCurvature.apply)
    wrong = {key for key, block in report.blocks.items() if block.state in ("wrong", "missing")}
    assert wrong == {"q,v", "k,v"}


def test_damage_that_needs_strides_names_its_trigger():
    assert "strided" in theria.probe(kernels.SavedCopyOfStrided.apply).configuration


def test_reentrant_checkpointing_tells_both_facts():
    report = theria.probe(kernels.checkpointed_reentrant)
    assert report.status is Status.HARD_FAIL_OTHER
    assert "the first differentiation raises" in report.reason
    assert "loses every block in silence" in report.reason


def test_statuses():
    assert theria.probe(kernels.OnceDifferentiable.apply).status is Status.HARD_FAIL_ONCE_DIFF
    assert theria.probe(kernels.detached_output).status is Status.HARD_FAIL_UNUSED
    assert theria.probe(kernels.fused).status is Status.HARD_FAIL_OTHER
    assert theria.probe(kernels.Opaque.apply).status is Status.OK


def test_half_precision_is_not_called_corruption_and_corruption_not_noise():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert theria.probe(kernels.plain, dtype=dtype).verdict is Verdict.SAFE, dtype
        assert theria.probe(kernels.SavedWeights.apply, dtype=dtype).verdict is Verdict.SILENT_CORRUPTION, dtype


@pytest.mark.parametrize(("distance", "state"), [(0.01, "right"), (0.1, "unclear"), (0.5, "wrong")])
def test_within_a_large_doubt_is_not_yet_near(distance: float, state: str) -> None:
    truth = Observation(torch.tensor([1.0, 0.0]), lambda tensor: tensor, uncertainty=0.09)
    assert compare(torch.tensor([1.0, distance]), truth, scale=1.0, tolerance=1e-5).state == state


def test_the_same_answer_twice():
    assert theria.probe(kernels.linear) == theria.probe(kernels.linear)


def test_the_users_state_is_untouched():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with torch.no_grad():
        assert theria.probe(kernels.plain).verdict is Verdict.SAFE
        assert not torch.is_grad_enabled()
    torch.set_default_dtype(torch.float16)
    try:
        assert theria.probe(kernels.plain).verdict is Verdict.SAFE
        assert torch.get_default_dtype() is torch.float16
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(before, torch.get_rng_state())


def test_random_kernels_are_seeded():
    def noisy(q, k, v):
        return kernels.plain(q, k, v) + torch.rand(())

    assert theria.probe(noisy).verdict is Verdict.SAFE


def test_a_function_of_nothing_is_inconclusive():
    report = theria.probe(lambda q, k, v: torch.ones_like(q) + 0 * (q + k.mean() + v.mean()))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "does not depend on its inputs" in report.reason


def test_not_finite_is_inconclusive():
    assert theria.probe(lambda q, k, v: q * float("nan")).verdict is Verdict.INCONCLUSIVE


def test_layouts():
    def bthd(q, k, v):
        return kernels.plain(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)

    report = theria.probe(bthd, layout="bthd")
    assert (report.verdict, report.oracle) == (Verdict.SAFE, "reference")
    assert theria.probe(kernels.plain, layout="btd").oracle == "reference"
    with pytest.raises(ValueError, match="layout 'bhdt' is unknown; choose bhtd, bthd, btd or td"):
        theria.probe(kernels.plain, layout="bhdt")


def test_what_fn_raises_passes_through_only_if_it_never_runs():
    def powers_of_two_only(q, k, v):
        if q.shape[-1] & (q.shape[-1] - 1):
            raise ValueError("D must be a power of two")
        return kernels.plain(q, k, v)

    report = theria.probe(powers_of_two_only)
    assert report.verdict is Verdict.SAFE
    assert any("D must be a power of two" in note for note in report.notes)
    with pytest.raises(ValueError, match="D must be a power of two"):
        theria.probe(powers_of_two_only, shape=ODD)


def test_the_backend_that_executed_is_recorded():
    from theria.attention import attention

    report = theria.probe(lambda q, k, v: attention(q, k, v, backend="custom"))
    assert report.backends == ("custom",)
    assert report.verdict is Verdict.SAFE


def test_report_prints_a_table_and_a_heat_map():
    text = str(theria.probe(kernels.SavedWeights.apply))
    assert text.startswith("silent_corruption: nothing raises, but of the second derivatives 4 are missing")
    assert "∂g_q/∂k" in text
    *grid, legend = text.rsplit("\n\n", 1)[1].splitlines()
    assert legend == "· right; 0 zero, and truly so; ∅ missing; ≠ wrong; ? too noisy to tell"
    assert [row.split() for row in grid] == [
        ["q", "k", "v", "W"],
        ["∂g_q", "∅", "≠", "·", "·"],
        ["∂g_k", "≠", "∅", "·", "·"],
        ["∂g_v", "∅", "∅", "0", "·"],
    ]


def test_the_assertion_fails_with_the_table():
    assert assert_second_order_safe(kernels.plain).safe
    with pytest.raises(SecondOrderError, match=r"^silent_") as caught:
        assert_second_order_safe(kernels.Opaque.apply)
    assert "∂g_q/∂k" in str(caught.value)
    assert caught.value.report.verdict is Verdict.SILENT_COLLAPSE


def test_worst_prefers_silence_to_noise_and_anything_to_nothing():
    assert worst([Verdict.SAFE, Verdict.INCONCLUSIVE]) is Verdict.SAFE
    assert worst([Verdict.FIRST_ORDER_ONLY, Verdict.SILENT_COLLAPSE]) is Verdict.SILENT_COLLAPSE
    assert worst([]) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("D must be 64"),
        ImportError("no apex"),
        RuntimeError("No CUDA GPUs"),
        RuntimeError("wrong on this GPU before Triton 3.7.1, please upgrade"),
    ],
)
def test_a_backward_that_cannot_run_here_is_inconclusive(error):
    class Refusing(kernels.HandWritten):
        @staticmethod
        def backward(ctx, grad):
            raise error

    report = theria.probe(Refusing.apply)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.reason.startswith("its backward could not be run here")
    assert f"{type(error).__name__}: {error}" in report.reason


def test_an_oracle_that_is_not_finite_calls_nothing_wrong():
    def walled(q, k, v):
        wall = torch.where(k.abs().amax() > kept, torch.inf, 0.0)
        return torch.sigmoid(q @ k.transpose(-1, -2)) @ v + wall

    inputs = draw_qkv(Shape(), layout="bhtd", dtype=torch.float64, device="cpu", seed=0)
    kept = inputs["k"].abs().amax()
    report = measure(walled, inputs, seed=0)
    assert report.verdict is Verdict.INCONCLUSIVE, str(report)
    assert "not finite a short way from where it was probed" in report.reason


MISSING, EMPTY, ZERO = Block(None, 1.0, 1.0, "missing"), Block(None, 1.0, 1.0, "unclear"), Block(None, 0.0, 0.0, "zero")


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        ({"k": MISSING, "q": EMPTY, COTANGENT: EMPTY}, "silent_collapse"),
        ({"k": EMPTY, "q": EMPTY, COTANGENT: MISSING}, "silent_collapse"),
        ({"k": EMPTY, "q": EMPTY, COTANGENT: EMPTY}, "inconclusive"),
        ({"k": ZERO, "q": ZERO, COTANGENT: MISSING}, "silent_corruption"),
        ({"k": MISSING, "q": Block(0.5, 1.0, 0.5, "unclear"), COTANGENT: MISSING}, "silent_corruption"),
    ],
)
def test_blocks_that_a_coarse_forward_leaves_unclear_stand_against_a_collapse_only_if_they_are_there(row, verdict):
    comparison = Comparison({"q": Block(1.0, 1.0, 0.0, "right")}, {("q", b): block for b, block in row.items()})
    judgement = judge(Derivatives(torch.ones(1)), comparison, {}, {}, once=False)
    assert judgement.verdict == verdict, judgement.why


@pytest.mark.parametrize(
    ("measured", "truth", "uncertainty", "state"),
    [
        (1.0, 1.00005, math.nan, "unclear"),  # a wall stands where the oracle looked
        (None, 1.0, math.nan, "unclear"),
        (4e-7, 0.0, 0.0, "zero"),  # what rounding leaves of gradients of size 1
        (4e-7, 0.0, 1e-3, "zero"),
        (None, 1e-3, 0.0, "missing"),
        (4e-7, 1e-3, 0.0, "wrong"),
        (1e-3, 0.0, 0.0, "wrong"),
        (4e-7, math.nan, 0.0, "unclear"),
    ],
)
def test_states_of_blocks_beside_gradients_of_size_one(measured, truth, uncertainty, state):
    found = None if measured is None else torch.tensor([measured])
    observation = Observation(torch.tensor([truth], dtype=torch.float64), lambda t: t.double(), uncertainty)
    assert compare(found, observation, scale=1e-9, tolerance=2e-3, rounding=2e-6).state == state


class CompilationError(Exception):
    """Triton's by name: its text begins with the place in the kernel."""


def test_the_line_told_of_a_kernel_that_does_not_compile_is_its_compilers_complaint():
    complaint = TypeError("a tile is too small\nfor this GPU")
    helper, kernel = CompilationError("at 3:16:\n    tl.dot(a, b)"), CompilationError("at 9:4:\n    helper(a, b)")
    helper.__cause__, kernel.__cause__ = complaint, helper
    assert first_line(kernel) == first_line(helper) == "TypeError: a tile is too small"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CompilationError("at 57:14:\n    b = x.to(y)\n        ^\ny is not defined"), "y is not defined"),
        (CompilationError("at 57:14:\n    b = x.to(y)\n        ^"), "at 57:14:"),
        (ValueError("q\nk"), "q"),
        (ValueError(), "no message"),
    ],
)
def test_the_line_told_of_an_error(error, line):
    assert first_line(error) == line


def test_a_function_with_memory_is_inconclusive():
    calls = []

    def remembering(q, k, v):
        calls.append(1)
        return kernels.plain(q, k, v) * len(calls)

    report = theria.probe(remembering)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "gives another output when it is called again" in report.reason


def test_damage_with_frozen_inputs_names_them():
    assert "only q requiring grad" in theria.probe(kernels.OpaqueUnlessAllNeedGradients.apply).reason


@pytest.mark.parametrize(("create_graph", "verdict"), [(True, Verdict.SAFE), (False, Verdict.HARD_STRUCTURAL)])
def test_a_force_may_insist_on_an_input_that_requires_grad(create_graph, verdict):
    def force(q, k, v):
        energy = kernels.plain(q, k, v).square().sum()
        return q - torch.autograd.grad(energy, q, create_graph=create_graph)[0]

    with pytest.raises(RuntimeError):
        force(*(torch.randn(1, 1, 3, 2) for _ in range(3)))
    assert theria.probe(force).verdict is verdict


def test_a_scale_that_is_almost_the_references_is_not_taken_for_it():
    def tempered(q, k, v):
        return torch.softmax(0.42 * q @ k.transpose(-1, -2), -1) @ v

    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        report = theria.probe(tempered, dtype=dtype)
        assert not report.verdict.unsafe, str(report)


def test_what_a_cache_remembers_of_other_inputs_is_memory():
    class Caching:
        held = None

        def __call__(self, q, k, v):
            before = self.held or (k, v)
            self.held = (k.detach(), v.detach())
            return kernels.plain(q, torch.cat([before[0], k], -2), torch.cat([before[1], v], -2))

    assert theria.probe(Caching()).verdict is Verdict.INCONCLUSIVE


def test_a_linear_function_is_not_too_noisy_to_judge():
    report = theria.probe(lambda q, k, v: q + 2 * k.mean(-2, keepdim=True) + 3 * v.mean(-2, keepdim=True))
    assert report.verdict is Verdict.SAFE, str(report)


def test_a_first_differentiation_that_raises_unless_inputs_are_frozen_is_structural():
    def inplace(q, k, v):
        s = (q @ k.mT).exp()
        s.div_(s.sum(-1, keepdim=True))  # of exp's output, which its derivative needs; v's needs it not
        return s @ v

    report = theria.probe(inplace, scale=1.0)
    assert report.verdict is Verdict.HARD_STRUCTURAL
    assert "modified by an inplace operation" in report.reason


def test_a_first_differentiation_that_raises_only_where_its_graph_is_asked_for_is_first_order():
    class Donating(torch.autograd.Function):
        """Like compiled code that gives its buffers away."""

        @staticmethod
        def forward(ctx, q, k, v):
            p = torch.softmax(q @ k.mT, -1)
            ctx.save_for_backward(q, k, v, p)
            return p @ v

        @staticmethod
        def backward(ctx, g):
            if torch.is_grad_enabled():
                raise RuntimeError("donated")
            q, k, v, p = ctx.saved_tensors
            s = p * (g @ v.mT - (g * (p @ v)).sum(-1, keepdim=True))
            return s @ k, s.mT @ q, p.mT @ g

    report = theria.probe(Donating.apply, scale=1.0)
    assert report.verdict is Verdict.FIRST_ORDER_ONLY
    assert "where its graph is asked for" in report.reason


class LosesCurvature(torch.autograd.Function):
    """0.5·sin(t) + t, whose backward keeps its slope as a number."""

    @staticmethod
    def forward(ctx, t):
        ctx.save_for_backward(t.cos())
        return t + 0.5 * t.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 + 0.5 * ctx.saved_tensors[0])


class LosesGradient(torch.autograd.Function):
    """0.5·sin(t) + t, whose backward is that of t."""

    @staticmethod
    def forward(ctx, t):
        return t + 0.5 * t.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad


SMALL = {
    "sound": (lambda t: t + 0.5 * t.sin(), Verdict.SAFE),
    "curvature": (LosesCurvature.apply, Verdict.SILENT_CORRUPTION),
    "gradient": (lambda t: t * 1e-4 + LosesGradient.apply(t * 1e-4), Verdict.SILENT_CORRUPTION),
    "detached": (lambda t: 1e-4 * t.detach(), Verdict.SILENT_CORRUPTION),
}


@pytest.mark.parametrize("kind", SMALL)
def test_what_is_wrong_in_a_small_part_does_not_drown_in_the_others(kind):
    bend, verdict = SMALL[kind]
    sizes = [64, 4, 64]
    generator = torch.Generator().manual_seed(2)
    x, w = (torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((6, 8), (132,)))
    w[64:68] *= 0.01

    def function(x, w):
        large, small, out = w.split(sizes)
        weights = torch.softmax((x @ large.view(8, 8) + 0.1 * bend(small).repeat(2)) @ x.T, -1)
        return weights @ x @ out.view(8, 8)

    assert measure(function, {"x": x, "w": w}, sizes={"w": sizes}).verdict is verdict
    assert measure(function, {"x": x, "w": w}).verdict is Verdict.SAFE


def test_an_attention_over_one_key_tells_nothing_of_its_scores():
    q, v = torch.randn(2, 3, 5, 4, dtype=torch.float64), torch.randn(2, 3, 1, 4, dtype=torch.float64)

    def attention(q, k, v):
        return torch.softmax((q @ k.transpose(-2, -1)).detach(), -1) @ v

    report = measure(attention, {"q": q, "k": v.clone(), "v": v})
    assert (report.verdict, report.why.data["inputs"]) == (Verdict.INCONCLUSIVE, ["q", "k"])
    assert "q and k" in report.reason
