"""Where code has branches that the usual specs do not take, specs are looked for that do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.support.confirming import confirm_files, confirm_source, target_of
from theria_lint.confirm.confirm import Confirmation
from theria_lint.model import TargetKind
from theria_lint.worker.configurations.unreached_code import _list_package_files
from theria_lint.worker.find_call.computation import reads_numbers
from theria_lint.worker.find_call.search import find_working_call
from theria_lint.worker.shims.shim_log import ShimLog

BRANCHES = {
    "heads_attention": "q.shape[1] >= 8",
    "batch_attention": "q.shape[0] == 3",
    "query_attention": "q.shape[-2] == 1",
    "wide_attention": "q.shape[-1] % 32 == 0",
    "single_attention": "q.dtype == torch.float32",
    "half_attention": "q.dtype in (torch.float16, torch.bfloat16)",
    "value_attention": "float(q.detach().reshape(-1)[0]) > 1.0",
    "listed_attention": "q.detach().reshape(-1).tolist()[0] > 1.0",
    "array_attention": "q.detach().numpy().flat[0] > 1.0",
    "chosen_attention": "len(q.detach().reshape(-1)[:1][q.detach().reshape(-1)[:1] > 1.0]) == 1",
    "equal_attention": "torch.equal(q.detach().reshape(-1)[:1].clamp(max=1.0), torch.ones(1).to(q))",
}
KERNEL = """

def {name}(q, k, v):
    if {condition}:
        return (q @ k.detach().transpose(-2, -1)).softmax(-1) @ v
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    source = "import torch\n" + "".join(KERNEL.format(name=name, condition=c) for name, c in BRANCHES.items())
    return confirm_source(tmp_path_factory.mktemp("branches"), source, device="cpu")


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_is_reached_that_asks_about_sizes_precisions_and_numbers(found: Confirmation, name: str) -> None:
    assert target_of(found, name).verdict == "hard_structural", target_of(found, name).reason
    told = [f.disposition for f in found.findings if f.suspect.symbol == name]
    assert "confirmed" in told


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v


def capped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1)
    return (scores / 2 if bool((scores > 9).any()) else scores).softmax(-1) @ v


class _Scaled(torch.autograd.Function):
    """Its backward alone reads a number."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad if float(grad.detach().sum()) > 0 else grad.clone()


def scaled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return plain(_Scaled.apply(q), k, v)  # type: ignore[no-untyped-call]


def test_it_is_known_whether_numbers_decide_what_runs() -> None:
    calls = {f: find_working_call(f, TargetKind.FUNCTION, "cpu", {}, 60.0, ShimLog()) for f in (plain, capped, scaled)}
    assert {f.__name__: [reads_numbers(call, order) for order in (0, 2)] for f, call in calls.items()} == {
        "plain": [False, False],
        "capped": [True, True],
        "scaled": [False, True],
    }


def test_to_look_whether_numbers_are_read_imports_no_compiler() -> None:
    code = (
        "import sys\n"
        "from tests.worker.configurations.test_unreached_code import *\n"
        "call = find_working_call(plain, TargetKind.FUNCTION, 'cpu', {}, 60.0, ShimLog())\n"
        "assert not reads_numbers(call, 0)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


OPERATIONS = """
def combine(s, v):
    if s.dtype == torch.float32:
        return s.detach().softmax(-1) @ v
    return s.softmax(-1) @ v


def combine_long(s, v):
    if s.shape[-1] == 37:
        return s.detach().softmax(-1) @ v
    return s.softmax(-1) @ v


def combine_well(s, v):
    if s.dtype == torch.float32:
        return (s - s.amax(-1, keepdim=True).detach()).softmax(-1) @ v
    return s.softmax(-1) @ v
"""

CALLER = """
from operations import combine, combine_long, combine_well


def attention(q, k, v):
    return combine(q @ k.mT, v)


def long_attention(q, k, v):
    return combine_long(q @ k.mT, v)


def sound_attention(q, k, v):
    return combine_well(q @ k.mT, v)
"""


def test_what_code_of_another_file_asks_about_is_reached(tmp_path: Path) -> None:
    (tmp_path / "operations.py").write_text("import torch\n" + OPERATIONS)
    (tmp_path / "attend.py").write_text(CALLER)
    found = confirm_files([tmp_path / "attend.py"])
    verdicts = [target_of(found, name).verdict for name in ("attention", "long_attention", "sound_attention")]
    assert verdicts == ["hard_structural", "hard_structural", "safe"]


def test_what_is_installed_below_a_project_is_none_of_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project has its environment in its own folder, as the README makes it."""
    files = {"kernel": "/p/kernel.py", "helper": "/p/ops/helper.py", "dep": "/p/.venv/lib/site-packages/dep/a.py"}
    for name, path in files.items():
        module = ModuleType(name)
        module.__file__ = path
        monkeypatch.setitem(sys.modules, name, module)
    assert _list_package_files("kernel") == ["/p/kernel.py", "/p/ops/helper.py"]
    assert _list_package_files("dep") == ["/p/.venv/lib/site-packages/dep/a.py"]
