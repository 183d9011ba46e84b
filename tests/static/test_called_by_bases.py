"""Suspects in methods that a base class in another file calls on its heirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from theria_lint.config import Settings
from theria_lint.model import Suspect
from theria_lint.pipeline import lint_paths
from theria_lint.static.cross_file import link_calls
from theria_lint.static.owners import add_owners
from theria_lint.static.scan_files import scan_files
from theria_lint.static.targets import find_targets

BASE = """\
from torch import nn


class Base(nn.Module):
    def forward(self, query, keys, values):
        state = None
        for key, value in zip(keys, values):
            new = self.compute(query, key, value)
            state = new if state is None else self.merge(state, new)
        return state[0] / state[1]
"""
HEIR = """\
import torch
{imports}


class SoftmaxAttention({base}):
    def compute(self, query, key, value):
        weights = (query @ key.mT).exp()
        return weights @ value, weights.sum(-1, keepdim=True)

    def merge(self, a, b):
        with torch.no_grad():
            shift = (a[1] - b[1]).exp()
        return a[0] * shift + b[0], a[1] * shift + b[1]
"""
MERGE = [("pkg/heir.py", "THL001", "SoftmaxAttention.merge")]


def write(folder: Path, heir: str, files: dict[str, str]) -> None:
    for name, text in {"pkg/__init__.py": "", "pkg/heir.py": heir, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def make_heir(imports: str = "from .base import Base", base: str = "Base") -> str:
    return HEIR.format(imports=imports, base=base)


def find(folder: Path, *linted: str) -> list[tuple[str, str, str]]:
    """What is found without running anything; the same must be found where it is run."""
    paths = list(linted) or sorted(str(path.relative_to(folder)) for path in folder.rglob("*.py"))
    still = lint_paths(paths, Settings(cache=False, jobs=1, confirm=False))
    settings = Settings(cache=False, jobs=1)
    items = link_calls(add_owners(scan_files(paths, settings, {}), paths, settings), paths, settings)
    found = list_places(suspect for item in items if item.path in paths for suspect in item.suspects)
    assert list_places(finding.suspect for finding in still.findings) == found
    reached = [target for item in items for target in item.targets]
    for suspect in (suspect for item in items for suspect in item.suspects):
        assert any(target.may_execute(suspect) for target in reached)
    return found


def list_places(suspects: object) -> list[tuple[str, str, str]]:
    assert hasattr(suspects, "__iter__")
    found: list[Suspect] = list(suspects)
    return [(suspect.path, suspect.rule, suspect.symbol) for suspect in found]


@pytest.mark.parametrize(
    ("imports", "base"),
    [
        ("from .base import Base", "Base"),
        ("from .base import Base as B", "B"),
        ("from pkg.base import Base", "Base"),
        ("from . import base", "base.Base"),
        ("import pkg.base as b", "b.Base"),
        ("from .base import Base\nfrom abc import ABC\n\n\nclass Mixin: pass", "Mixin, Base"),
        ("from .base import Base\n\n\nclass Middle(Base): pass", "Middle"),
        ("from .again import Base", "Base"),
    ],
)
def test_what_a_base_calls_on_its_heirs_is_attention_code(folder: Path, imports: str, base: str) -> None:
    write(folder, make_heir(imports, base), {"pkg/base.py": BASE, "pkg/again.py": "from .base import Base\n"})
    assert find(folder) == MERGE
    assert find(folder, "pkg/heir.py") == MERGE


@pytest.mark.parametrize(
    "middle",
    [
        "from .base import Base\n\n\nclass Middle(Base):\n    pass\n",
        "from .base import Base\n\n\nclass Middle(Base):\n    def forward(self, q, k, v):\n"
        "        return super().forward(q, k, v) * 2\n",
        "from .base import Base\n\n\nclass Middle(Base):\n    def compute(self, q, k, v):\n        raise TypeError\n",
    ],
)
def test_any_number_of_bases_lies_between(folder: Path, middle: str) -> None:
    heir = make_heir("from .middle import Middle", "Middle")
    write(folder, heir, {"pkg/base.py": BASE, "pkg/middle.py": middle})
    assert find(folder) == MERGE


def test_a_step_of_a_base_between_leads_to_the_heir(folder: Path) -> None:
    step = "    def merge(self, a, b):\n        return self.join(a, b)\n"
    middle = f"from .base import Base\n\n\nclass Middle(Base):\n{step}"
    heir = make_heir("from .middle import Middle", "Middle").replace("def merge", "def join")
    write(folder, heir, {"pkg/base.py": BASE, "pkg/middle.py": middle})
    assert find(folder) == [("pkg/heir.py", "THL001", "SoftmaxAttention.join")]


def test_what_a_forward_asks_of_its_base_may_lead_back(folder: Path) -> None:
    base = BASE.replace("def forward", "def run")
    own = "    def forward(self, q, k, v):\n        return {}.run(q, k, v)\n"
    for owner in ("self", "super()"):
        write(folder, make_heir() + "\n" + own.format(owner), {"pkg/base.py": base})
        assert find(folder) == MERGE


@pytest.mark.parametrize(
    ("heir", "base"),
    [
        # The base never calls it.
        (make_heir().replace("def merge", "def watch"), BASE),
        # It calls a method of this name on something else.
        (make_heir(), BASE.replace("self.merge(state, new)", "self.joiner.merge(state, new)")),
        # The heir's own forward leaves out what the base's would have run.
        (make_heir() + "\n    def forward(self, q, k, v):\n        return self.compute(q, k, v)[0]\n", BASE),
        # Another class of the base's file calls it.
        (
            make_heir(),
            BASE.replace("self.merge(state, new)", "new")
            + "\n\nclass Other(nn.Module):\n    def forward(self, a, b):\n        return self.merge(a, b)\n",
        ),
    ],
)
def test_what_a_base_does_not_call_is_no_attention_code(folder: Path, heir: str, base: str) -> None:
    write(folder, heir, {"pkg/base.py": base})
    assert find(folder) == []


def test_what_uses_such_a_class_reaches_the_suspect(folder: Path) -> None:
    block = (
        "from torch import nn\nfrom .heir import SoftmaxAttention\n\n\nclass Block(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.inner = SoftmaxAttention()\n\n"
        "    def forward(self, q, k, v):\n        return self.inner(q, k, v)\n"
    )
    write(folder, make_heir(), {"pkg/base.py": BASE, "pkg/block.py": block})
    settings = Settings(cache=False, jobs=1)
    paths = ["pkg/base.py", "pkg/block.py", "pkg/heir.py"]
    items = link_calls(add_owners(scan_files(paths, settings, {}), paths, settings), paths, settings)
    (suspect,) = [suspect for item in items for suspect in item.suspects]
    assert {t.symbol for item in items for t in item.targets if t.may_execute(suspect)} >= {"Block", "SoftmaxAttention"}


RUNS = "from .base import Base\nfrom .parts import CrossAttention\n\n\nclass {}({}):\n"
INIT = "    def __init__(self):\n        super().__init__()\n        self.inner = CrossAttention()\n\n"
STEP = "    def step(self, x):\n        return self.inner(x)\n"


def list_targets(heir: str) -> list[str]:
    return [target.symbol for target in find_targets("heir.py", f"import torch\nfrom torch import nn\n{heir}")]


@pytest.mark.parametrize(
    "heir",
    [
        RUNS.format("PoolingAttention", "Base") + INIT + STEP,
        RUNS.format("InducedAttentionBlock", "Base") + INIT + STEP,
        RUNS.format("PoolingAttention", "Base, nn.Module") + INIT + STEP,
        RUNS.format("PoolingAttention", "Base") + "    def step(self, q, k, v): return (q @ k.mT).softmax(-1) @ v\n",
    ],
)
def test_attention_with_a_forward_of_another_file_is_a_target(heir: str) -> None:
    assert list_targets(heir) == [heir.partition("class ")[2].partition("(")[0]]


@pytest.mark.parametrize(
    "heir",
    [
        # It trains attention, or says how it is made.
        RUNS.format("AttentionTrainer", "Base") + INIT + STEP,
        RUNS.format("AttentionConfig", "Base") + INIT + STEP,
        # Its methods run none, and nothing tells that its base does.
        RUNS.format("PoolingAttention", "Base") + "    def step(self, x): return x.exp()\n",
        # No module: nothing calls its method.
        RUNS.format("PoolingAttention", "object") + INIT + STEP,
        RUNS.format("PoolingAttention", "nn.Module") + INIT + STEP,
        # It is called by a method that does not run any.
        RUNS.format("PoolingAttention", "Base") + INIT + STEP + "    def __call__(self, x): return x\n",
    ],
)
def test_what_inherits_no_attention_is_no_target(heir: str) -> None:
    assert list_targets(heir) == []
