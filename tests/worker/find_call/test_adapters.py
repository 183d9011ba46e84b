"""What a user says of a target: tables of the configuration, and functions that call it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import theria.testing
from tests.support.confirming import confirm_source, target_of
from theria_lint.reasons import Ground, ReasonCode
from theria_lint.report.sentences import compose_message

ODD_ONE = """import torch


class Gates:
    def __init__(self, gate):
        self.gate = gate


def attention(q, k, v, gates):
    if not isinstance(gates, Gates):
        raise TypeError("attention() takes a Gates object")
    return torch.softmax(q @ k.mT + gates.gate, -1) @ v.detach()
"""

ADAPTERS = """import torch

import theria.testing
from kernel import Gates, attention


@theria.testing.target("kernel:attention")
def adapter(q, k, v):
    return attention(q, k, v, Gates(torch.zeros(q.shape[-2], k.shape[-2], dtype=q.dtype)))
"""


def test_what_cannot_be_called_says_which_lines_would_tell(tmp_path: Path) -> None:
    result = target_of(confirm_source(tmp_path, ODD_ONE), "attention")
    assert result.verdict == "inconclusive"
    assert (result.reason.code, result.reason.data["reason"].code) == (ReasonCode.NOT_CALLABLE, Ground.RAISED)
    assert (result.reason.data["guessed"], result.reason.data["values"]) == (["gates"], {})  # no tensor is TOML
    helps = compose_message(result.reason).helps
    assert not any("[[tool" in help_ for help_ in helps)
    assert any('\n@theria.testing.target("kernel:attention")' in help_ for help_ in helps)


def test_an_adapter_calls_it(tmp_path: Path) -> None:
    path = tmp_path / "adapters.py"
    path.write_text(ADAPTERS)
    result = target_of(confirm_source(tmp_path, ODD_ONE, adapters=(str(path),)), "attention")
    assert result.verdict == "hard_structural", result.reason
    assert (result.reason.code, result.reason.data["inputs"]) == (Ground.INPUT_UNUSED, ["v"])


ODD_MODULE = """import torch


class TreeAttention(torch.nn.Module):
    def __init__(self, dim, tree):
        super().__init__()
        self.qkv, self.depth = torch.nn.Linear(dim, 3 * dim), tree.depth

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return (torch.softmax(q @ k.mT, -1) @ v.detach()) * self.depth
"""

MODULE_ADAPTERS = """from types import SimpleNamespace

import torch

import theria.testing
from kernel import TreeAttention


@theria.testing.target("kernel:TreeAttention")
def adapter(x):
    torch.manual_seed(0)
    return TreeAttention(x.shape[-1], SimpleNamespace(depth=2)).to(x)(x)
"""


def test_a_module_that_cannot_be_built_says_what_was_guessed(tmp_path: Path) -> None:
    result = target_of(confirm_source(tmp_path, ODD_MODULE), "TreeAttention")
    assert result.verdict == "inconclusive"
    assert (result.reason.data["guessed"], result.reason.data["values"]) == (["tree"], {})  # it wants an object
    assert any("a function of x that builds and calls it" in help_ for help_ in compose_message(result.reason).helps)


def test_an_adapter_builds_it(tmp_path: Path) -> None:
    path = tmp_path / "adapters.py"
    path.write_text(MODULE_ADAPTERS)
    result = target_of(confirm_source(tmp_path, ODD_MODULE, adapters=(str(path),)), "TreeAttention")
    assert result.verdict == "silent_corruption", result.reason


def test_what_is_configured_reaches_a_constructor_that_takes_anything(tmp_path: Path) -> None:
    source = ODD_MODULE.replace("dim, tree", "dim, **options").replace("tree.depth", "dict(options)['deep']")
    table = {"target": "TreeAttention", "kwargs": {"deep": 2}}
    result = target_of(confirm_source(tmp_path, source, targets=(table,)), "TreeAttention")
    assert result.verdict == "silent_corruption", result.reason


def test_an_adapter_file_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    path = tmp_path / "adapters.py"
    path.write_text("import no_such_package\n")
    result = target_of(confirm_source(tmp_path, ODD_ONE, adapters=(str(path),)), "attention")
    told = {"file": "adapters.py", "line": 1, "kind": "ModuleNotFoundError"}
    assert result.reason.code == ReasonCode.ADAPTER_FAILS
    assert {name: result.reason.data[name] for name in told} == told


def test_an_adapter_that_fails_is_told_as_the_adapters_failure(tmp_path: Path) -> None:
    path = tmp_path / "adapters.py"
    path.write_text(ADAPTERS.replace("Gates(torch", "Gate(torch").replace("import Gates,", "import Gates as Gate,"))
    path.write_text(path.read_text().replace("return attention(q, k, v, Gate(", "return attention(q, k, v, Gate(1, "))
    result = target_of(confirm_source(tmp_path, ODD_ONE, adapters=(str(path),)), "attention")
    assert result.verdict == "inconclusive"
    assert result.reason.code == ReasonCode.ADAPTER_UNFIT
    assert (result.reason.data["file"], result.reason.data["line"]) == ("adapters.py", 9)
    assert result.reason.data["reason"].data["kind"] == "TypeError"
    assert compose_message(result.reason).helps == ()


def test_a_number_that_was_guessed_is_offered_as_configuration(tmp_path: Path) -> None:
    source = ODD_ONE.replace("v, gates)", "v, groups)").replace("not isinstance(gates, Gates)", "groups != 3")
    result = target_of(confirm_source(tmp_path, source), "attention")
    assert result.reason.data["guessed"] == ["groups"]
    (block,) = (help_.partition("\n")[2] for help_ in compose_message(result.reason).helps if "[[tool" in help_)
    (table,) = tomllib.loads(block)["tool"]["theria-lint"]["targets"]
    assert table == {"target": "kernel:attention", "kwargs": {"groups": result.reason.data["values"]["groups"]}}


def test_a_target_may_ask_for_another_device(tmp_path: Path) -> None:
    source = "import torch\n\n\ndef attention(q, k, v):\n    return torch.softmax(q @ k.mT, -1) @ v\n"
    table = {"target": "attention", "device": "cuda"}
    result = target_of(confirm_source(tmp_path, source, device="cpu", targets=(table,)), "attention")
    assert result.verdict == "inconclusive"
    assert result.reason.data["reason"].code == ReasonCode.WANTS_GPU


@pytest.mark.parametrize(
    ("output", "oracle", "verdict"),
    [
        ("torch.softmax(q @ k.mT, -1) @ v", "reference", "safe"),
        ("torch.sigmoid(q @ k.mT) @ v", "reference", "inconclusive"),
        ("torch.sigmoid(q @ k.mT) @ v", "finite differences", "safe"),
    ],
)
def test_a_target_may_ask_for_an_oracle(tmp_path: Path, output: str, oracle: str, verdict: str) -> None:
    source = f"import torch\n\n\ndef attention(q, k, v):\n    return {output}\n"
    table = {"target": "attention", "oracle": oracle}
    result = target_of(confirm_source(tmp_path, source, targets=(table,)), "attention")
    assert result.verdict == verdict, result.reason
    assert result.runs[0].oracle.startswith(oracle) or verdict == "inconclusive"


def test_the_name_of_an_adapter_is_checked() -> None:
    with pytest.raises(ValueError, match=r"names no target: write package\.module:symbol"):
        theria.testing.target("kernel:")
