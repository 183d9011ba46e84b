"""The parts of calling that can be told apart from it: packed layouts, borders that are ignored, axes that are one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from theria.probes.layouts import ODD, PACKED, SHARED, from_bhtd, key_layout, query_layout, sequence_lengths, to_bhtd
from theria.probes.sweep import attention_references
from theria_lint.worker.base_attention import make_base_attention
from theria_lint.worker.find_call.call_strategy import TrialSpec
from theria_lint.worker.find_call.run_trial import keeps_sequences_apart, move_middle_sequence
from theria_lint.worker.find_call.shape_inference import (
    choose_axis_sizes,
    equate_axes,
    find_axis_facts,
    list_likely_axes,
)
from theria_lint.worker.find_call.signatures import TIME, WIDTH


def make_spec(layout: str) -> TrialSpec:
    return TrialSpec(ODD, layout, torch.float64, "cpu", make_base_attention("reference"))


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(H,T,D), (H,M,D), (H,M,D), written out by hand."""
    weights = torch.exp(torch.einsum("htd,hmd->htm", q, k) / q.shape[-1] ** 0.5)
    return torch.einsum("htm,hmd->htd", weights / weights.sum(-1, keepdim=True), v)


def one_by_one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Packed (1,H,T,D): each sequence attends to itself."""
    ends = [sequence_lengths(t.shape[2]) for t in (q, k, v)]
    parts = zip(*(torch.split(t[0], lengths, 1) for t, lengths in zip((q, k, v), ends, strict=True)), strict=True)
    return torch.cat([softmax_attention(*part) for part in parts], 1)[None]


@pytest.mark.parametrize("layout", PACKED)
def test_the_reference_of_packed_sequences_keeps_them_apart(layout: str) -> None:
    tensors = make_spec(layout).make_qkv()
    assert len(set(sequence_lengths(to_bhtd(tensors["q"], layout).shape[2]))) > 1
    expected = from_bhtd(one_by_one(*(to_bhtd(t, layout) for t in tensors.values())), layout)
    torch.testing.assert_close(attention_references(layout)[0].function(**tensors), expected)


@pytest.mark.parametrize("layout", SHARED)
def test_the_reference_of_shared_keys_repeats_them(layout: str) -> None:
    q, k, v = make_spec(layout).make_qkv().values()
    found = attention_references(layout)[0].function(q, k, v)
    q, k, v = (to_bhtd(t, key_layout(layout) if t is not q else query_layout(layout)) for t in (q, k, v))
    assert k.shape[1] < q.shape[1]
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    expected = torch.stack([softmax_attention(*sequence) for sequence in zip(q, k, v, strict=True)])
    torch.testing.assert_close(to_bhtd(found, query_layout(layout)), expected)


@pytest.mark.parametrize("layout", PACKED)
@pytest.mark.parametrize("kind", ["apart", "together", "wrong axis"])
def test_ignored_borders_are_seen(layout: str, kind: str) -> None:
    """One that attends across borders, and one that takes heads for positions, are not called as they want to be."""
    spec = make_spec(layout)

    def output(tensors: dict[str, Tensor]) -> Tensor:
        q, k, v = (to_bhtd(t, layout) for t in tensors.values())
        if kind == "apart":
            return from_bhtd(one_by_one(q, k, v), layout)
        if kind == "wrong axis":
            return from_bhtd(
                softmax_attention(*(t[0].mT.transpose(0, 2).mT for t in (q, q, q))).transpose(0, 1)[None], layout
            )
        return from_bhtd(softmax_attention(q[0], k[0], v[0])[None], layout)

    tensors = spec.make_qkv()
    other = {name: move_middle_sequence(tensor, spec) for name, tensor in tensors.items()}
    assert keeps_sequences_apart(output(tensors), output(other), spec) is (kind == "apart")


def test_axes_become_one_as_complaints_ask() -> None:
    """A latent (B,S,R) times a projection (R,C): what torch complains of tells which axes are one."""
    facts = find_axis_facts("def f(c, w):\n    B, S, R = c.shape\n    return c @ w\n")
    plan = {name: list_likely_axes(name, facts, flat=False)[0] for name in ("c", "w")}
    assert [axis.kind for axis in plan["c"]] == ["batch", TIME, WIDTH]
    sizes = choose_axis_sizes(plan, ODD)
    assert len(set(sizes.values())) == len(sizes) == 5
    tensors = {name: torch.zeros([sizes[axis] for axis in axes]) for name, axes in plan.items()}
    with pytest.raises(RuntimeError) as complaint:
        tensors["c"] @ tensors["w"]
    (solved,) = equate_axes(plan, ODD, str(complaint.value))
    assert solved["c"][2] == solved["w"][0]
    assert len(choose_axis_sizes(solved, ODD)) == 4


def test_weights_of_three_in_one_matrix_are_three_times_as_wide() -> None:
    plan = {"x": list_likely_axes("x", {}, flat=False)[0], "w_qkv": list_likely_axes("w_qkv", {}, flat=False)[0]}
    narrow, wide = plan["w_qkv"]
    sizes = choose_axis_sizes(plan, ODD)
    assert sizes[wide] == 3 * sizes[narrow]
    (solved,) = equate_axes(
        plan, ODD, f"mat1 and mat2 shapes cannot be multiplied (9x{sizes[plan['x'][2]]} and {sizes[narrow]}x9)"
    )
    assert solved["w_qkv"][1].single == solved["x"][2]


def test_a_batch_is_no_other_axis() -> None:
    plan = {"x": list_likely_axes("x", {}, flat=False)[0]}
    batch, time, _ = (choose_axis_sizes(plan, ODD)[axis] for axis in plan["x"])
    complaint = f"The size of tensor a ({batch}) must match the size of tensor b ({time}) at non-singleton dimension 1"
    assert list(equate_axes(plan, ODD, complaint)) == []
