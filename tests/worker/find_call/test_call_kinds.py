"""Packed sequences, shared heads, latents, graphs and other arguments: each kernel's verdict, against what is true."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.call_kinds import KINDS
from tests.support.confirming import target_of
from tests.support.kept_workers import keep_workers
from theria_lint.confirm.confirm import Confirmation, ConfirmSettings, confirm_suspects
from theria_lint.model import SourceFile, Target, TargetKind
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report.sentences import compose_message

STEP = 1e-4


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    """All kernels in one file: those named like attention and those that are not, as targets."""
    path = tmp_path_factory.mktemp("kinds") / "kernels.py"
    texts, targets = ["import torch\n"], []
    for name, kind in KINDS.items():
        for state, p in (("right", kind.right), ("broken", kind.broken)):
            line = sum(text.count("\n") + 1 for text in texts) + 2
            symbol = f"{name}_{state}"
            texts.append(kind.text(symbol, p))
            targets.append(Target(str(path), line, symbol, TargetKind.FUNCTION, frozenset({symbol})))
    source = "\n".join(texts)
    path.write_text(source)
    with keep_workers():
        return confirm_suspects([SourceFile(str(path), source, (), tuple(targets))], ConfirmSettings(timeout=300))


def is_twice_differentiable(function: Callable[..., Tensor], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the Hessian of ⟨W, f⟩ by autograd is that of central differences of f, along random directions."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    inputs = {name: draw(*shape).requires_grad_() for name, shape in shapes.items()}
    along, by = ({name: draw(*shape) for name, shape in shapes.items()} for _ in range(2))
    output = function(**inputs)
    weights = draw(*output.shape)

    def loss(a: float, b: float) -> float:
        moved = {name: x.detach() + a * along[name] + b * by[name] for name, x in inputs.items()}
        return float((weights * function(**moved)).sum())

    true = sum(i * j * loss(i * STEP, j * STEP) for i in (1, -1) for j in (1, -1)) / (4 * STEP**2)
    first = torch.autograd.grad((weights * output).sum(), list(inputs.values()), create_graph=True)
    slope = sum((g * along[name]).sum() for name, g in zip(inputs, first, strict=True))
    second = torch.autograd.grad(slope, list(inputs.values()), allow_unused=True)
    found = sum(float((g * by[name]).sum()) for name, g in zip(inputs, second, strict=True) if g is not None)
    return abs(found - true) < 1e-3 * max(1.0, abs(true))


@pytest.mark.parametrize("name", KINDS)
def test_what_is_broken_is_broken(name: str) -> None:
    """The truth that the verdicts are held against, found without the linter."""
    kind = KINDS[name]
    assert is_twice_differentiable(kind.function(kind.right), kind.shapes)
    assert not is_twice_differentiable(kind.function(kind.broken), kind.shapes)


@pytest.mark.parametrize("name", KINDS)
def test_a_kernel_of_each_kind_gets_its_verdict(confirmed: Confirmation, name: str) -> None:
    right, broken = (target_of(confirmed, f"{name}_{state}") for state in ("right", "broken"))
    assert right.verdict == "safe", right.reason
    assert broken.verdict == "silent_corruption", broken.reason
    assert set(right.runs[0].gradients) == set(KINDS[name].shapes)


@pytest.mark.parametrize("name", ["packed", "packed_by_lengths_heads_first", "multi_query"])
def test_softmax_of_these_kinds_is_known_to_the_reference(confirmed: Confirmation, name: str) -> None:
    assert {run.oracle for run in target_of(confirmed, f"{name}_broken").runs} == {"reference"}


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("optionally_packed", "packed_sequences"),
        ("grouped", "shared_keys"),
        ("optional_lengths", "optional_arguments: mask, kv_lens"),
    ],
)
def test_the_branch_that_loses_derivatives_is_told(confirmed: Confirmation, name: str, where: str) -> None:
    (run,) = target_of(confirmed, f"{name}_broken").runs
    assert Reason(ReasonCode.SEEN_ON, {"configuration": where}) in run.notes


def test_paged_keys_are_asked_for(tmp_path: Path) -> None:
    """What cannot be made up is said, with the lines that would tell it."""
    source = """import torch


def paged_attention(query, key_cache, value_cache, block_tables, seq_lens):
    out = []
    for i in range(query.shape[0]):
        k, v = (cache[block_tables[i]].flatten(0, 1)[: seq_lens[i]] for cache in (key_cache, value_cache))
        out.append(torch.einsum("hs,shd->hd", torch.einsum("hd,shd->hs", query[i], k).softmax(-1), v))
    return torch.stack(out)
"""
    path = tmp_path / "paged.py"
    path.write_text(source)
    target = Target(str(path), 4, "paged_attention", TargetKind.FUNCTION, frozenset({"paged_attention"}))
    with keep_workers():
        (result,) = confirm_suspects([SourceFile(str(path), source, (), (target,))], ConfirmSettings()).targets
    assert result.verdict == "inconclusive"
    assert "block_tables" in result.reason.data["guessed"]
    helps = compose_message(result.reason).helps
    assert any('\n@theria.testing.target("paged:paged_attention")' in help_ for help_ in helps)
