"""Flags are turned one at a time: each configuration that computes something else has a verdict of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.confirming import confirm_source
from theria_lint.confirm.confirm import Confirmation
from theria_lint.model import Disposition, TargetKind
from theria_lint.report import ReportView, render
from theria_lint.report.summary import compute_exit_code
from theria_lint.result import Environment, LintReport
from theria_lint.worker.configurations.flags import list_flags
from theria_lint.worker.configurations.list_configurations import list_configurations
from theria_lint.worker.find_call.computation import look_at_outputs
from theria_lint.worker.find_call.search import find_working_call
from theria_lint.worker.shims.shim_log import ShimLog

HEAD = """import enum
from dataclasses import dataclass

import torch
from torch import nn

FROZEN = False


class Path(enum.Enum):
    WHOLE = 1
    CUT = 2


@dataclass
class AttentionConfig:
    hidden_size: int = 16
    cut: bool = False
"""
FUNCTION = """

def {name}(q, k, v, {parameter}):
    if {condition}:
        k = k.detach()
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v
"""
MODULE = """

class {name}(nn.Module):
    frozen = False

    def __init__(self, {parameter}):
        super().__init__()
        self.qkv = nn.Linear({dim}, 3 * {dim})
        {init}

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        if {condition}:
            k = k.detach()
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v
"""
RAISING = """

def raising_attention(q, k, v, fast=False):
    if fast:
        raise NotImplementedError("there is no fast path")
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v
"""
VERBOSE = """

def verbose_attention(q, k, v, verbose=False):
    if verbose:
        print("attends")
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v
"""
FLAGS = {
    "boolean_attention": (("frozen=False", "frozen"), "frozen=True"),
    "word_attention": (("path='whole'", "path == 'cut'"), "path='cut'"),
    "enum_attention": (("path=Path.WHOLE", "path is Path.CUT"), "path=Path.CUT"),
    "zero_attention": (("chunk_size=0", "chunk_size > 0"), "chunk_size=4"),
    "level_attention": (("level=1", "level >= 2"), "level=2"),
    "none_attention": (("window=None", "window is not None"), "window=2"),
    "global_attention": (("scale=1.0", "FROZEN"), "FROZEN=True"),
    "BooleanAttention": (("dim=16, stop=False", "self.stop", "self.stop = stop"), "stop=True"),
    "WordAttention": (("dim=16, path='c'", "self.path in ('a', 'b')", "self.path = path"), "path='a'"),
    "AttributeAttention": (("dim=16", "self.frozen", "pass"), "self.frozen=True"),
    "EntryAttention": (("config", "self.cut", "self.cut = config.use_cut"), "config.use_cut=True"),
    "RecordAttention": (("config: AttentionConfig", "self.cut", "self.cut = config.cut"), "config.cut=True"),
}


def write_kernel(name: str) -> str:
    parameter, condition, *init = FLAGS[name][0]
    template = MODULE if init else FUNCTION
    dim = "config.hidden_size" if "config" in parameter else "dim"
    return template.format(name=name, parameter=parameter, condition=condition, init="".join(init), dim=dim)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    source = "".join([HEAD, *map(write_kernel, FLAGS), RAISING, VERBOSE])
    return confirm_source(tmp_path_factory.mktemp("flags"), source, device="cpu")


@pytest.fixture
def report(found: Confirmation) -> LintReport:
    sources = {(f.suspect.path, None): Path(f.suspect.path).read_text() for f in found.findings}
    return LintReport(Environment(), 1, found.findings, found.targets, (), sources=sources)


def configurations(found: Confirmation, symbol: str) -> dict[str, str]:
    told = [result for result in found.targets if result.configuration and result.target.symbol == symbol]
    return {result.configuration: result.verdict.value for result in told}


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_that_is_turned_has_a_verdict_of_its_own(found: Confirmation, name: str) -> None:
    flag = FLAGS[name][1]
    default = next(r for r in found.targets if r.target.symbol == name and not r.configuration)
    assert default.verdict == "safe", default.reason
    told = configurations(found, name)
    assert told.get(flag) in ("hard_structural", "silent_corruption"), told
    (finding,) = [f for f in found.findings if f.suspect.symbol.partition(".")[0] == name]
    assert finding.disposition is Disposition.CONFIRMED
    assert finding.reason.data["target"] == f"{name} with {flag}"


def test_a_flag_that_changes_nothing_is_no_configuration(found: Confirmation) -> None:
    assert configurations(found, "verbose_attention") == {}


def test_a_configuration_that_raises_is_told(found: Confirmation, report: LintReport) -> None:
    assert configurations(found, "raising_attention") == {"fast=True": "inconclusive"}
    assert "there is no fast path" in render(report, "text", ReportView())


@pytest.mark.parametrize("name", ["text", "concise", "github", "gitlab", "sarif", "junit", "html"])
def test_every_format_tells_of_unsafe_configurations(report: LintReport, name: str) -> None:
    unexplained = render(report._replace(findings=()), name, ReportView())
    assert "boolean_attention with frozen=True" in unexplained
    assert "hard_structural" in unexplained


def test_json_lists_configurations_under_their_target(report: LintReport) -> None:
    targets = json.loads(render(report, "json", ReportView()))["targets"]
    assert [target["symbol"] for target in targets] == [*FLAGS, "raising_attention", "verbose_attention"]
    assert targets[0]["verdict"] == "safe"
    assert [(c["configuration"], c["verdict"]) for c in targets[0]["configurations"]] == [
        ("frozen=True", "hard_structural")
    ]


def test_an_unsafe_configuration_fails_a_run(report: LintReport) -> None:
    assert compute_exit_code(report, ["unsafe"]) == 1
    assert compute_exit_code(report._replace(targets=report.defaults), ["unsafe"]) == 0


def halving(q: Tensor, k: Tensor, v: Tensor, halve: bool = False, causal: bool = False) -> Tensor:
    scores = q @ k.transpose(-2, -1)
    if halve:
        scores = scores / 2
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
    return scores.softmax(-1) @ v


def test_with_a_flag_turned_other_sizes_are_measured_and_what_executes_something_new() -> None:
    call = find_working_call(halving, TargetKind.FUNCTION, "cpu", {}, 60.0, ShimLog())
    turned = replace(call, spec=replace(call.spec, turned={"halve": True}))
    plain, with_flag = (list_configurations(one, look_at_outputs(one)) for one in (call, turned))
    assert {"strided_inputs", "longer_sequence", "causal_mask"} < set(plain)
    assert set(with_flag) == {"first_sizes", "round_sizes", "causal_mask"}
    assert all(spec.turned == {"halve": True} for spec in with_flag.values())


def refusing(q: Tensor, k: Tensor, v: Tensor, halve: bool = False) -> Tensor:
    if halve and not q.is_contiguous():
        raise ValueError("contiguous tensors alone")
    scores = q @ k.transpose(-2, -1)
    return (scores / 2 if halve else scores).softmax(-1) @ v


def test_a_configuration_that_does_not_run_with_a_flag_turned_is_not_passed_over() -> None:
    call = find_working_call(refusing, TargetKind.FUNCTION, "cpu", {}, 60.0, ShimLog())
    turned = replace(call, spec=replace(call.spec, turned={"halve": True}))
    assert "strided_inputs" in list_configurations(turned, look_at_outputs(turned))


class _CappedScores(torch.autograd.Function):
    """Caps the scores, of which its backward knows nothing."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, cap: int | None) -> Tensor:
        return scores.clamp(max=cap) if cap is not None else scores.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Drawing(nn.Module):
    """As many parts as are asked for, of which there are three otherwise."""

    def __init__(self, dim: int, parts: int = 3) -> None:
        super().__init__()
        self.qkv, self.parts = nn.Linear(dim, 3 * dim), parts

    def forward(self, x: Tensor, num_parts: int | None = None, cap: int | None = None) -> Tensor:
        parts = num_parts if num_parts is not None else self.parts
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = _CappedScores.apply(q @ k.transpose(-2, -1), cap)
        return (scores.softmax(-1) @ v) * torch.linspace(0.5, 1.5, parts).sum()  # type: ignore[no-any-return]


def remembering(q: Tensor, k: Tensor, v: Tensor, state: Any = None, mode: str = "plain") -> Tensor:
    if state is not None and "prev_key" in state:
        k = k + state["prev_key"]
    scores = q @ k.transpose(-2, -1)
    return (scores.tanh() if "capped" in mode else scores).softmax(-1) @ v


def test_the_key_of_an_option_is_no_value_of_it() -> None:
    call = find_working_call(remembering, TargetKind.FUNCTION, "cpu", {}, 60.0, ShimLog())
    flags = list_flags(remembering, TargetKind.FUNCTION, call, {}, lambda: False)
    assert [flag.label for flag in flags] == ["mode='capped'"]


class EveryThird(nn.Module):
    """One layer in three attends by another way."""

    def __init__(self, dim: int, layer_idx: int, every: int = 3) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.weigh = nn.Sigmoid() if (layer_idx + 1) % every == 0 else nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.weigh(q @ k.mT) @ v  # type: ignore[no-any-return]


def test_a_layer_of_another_kind_is_a_configuration() -> None:
    call = find_working_call(EveryThird, TargetKind.MODULE, "cpu", {}, 60.0, ShimLog())
    flags = list_flags(EveryThird, TargetKind.MODULE, call, {}, lambda: False)
    assert [flag.label for flag in flags] == ["layer_idx=2"]


def test_a_guessed_number_is_a_flag_where_code_does_more_than_to_take_it() -> None:
    """One in the place of another tells nothing; one that a Function computes with may, with the same graph."""
    call = find_working_call(Drawing, TargetKind.MODULE, "cpu", {}, 60.0, ShimLog())
    flags = list_flags(Drawing, TargetKind.MODULE, call, {}, lambda: False)
    assert [flag.label for flag in flags] == ["cap=2"]
