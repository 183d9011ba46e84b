"""Owners and callers of attention that other files define, under names that do not tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lint_case import Lint
from theria_lint.config import Settings
from theria_lint.result import ScannedFile
from theria_lint.rules.loader import load_rules
from theria_lint.static.owners import add_owners
from theria_lint.static.scan import scan_source
from theria_lint.static.scan_files import scan_files
from theria_lint.static.targets import find_targets

RULES = load_rules()
HEAD = "import torch\nfrom torch import nn\n"
MIXERS = f"""{HEAD}

class Mixer(nn.Module):
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.mT).softmax(-1) @ v

    @staticmethod
    def build(dim): return Mixer()


def mix(q, k, v):
    return (q @ k.mT).softmax(-1) @ v


class Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v): return (q @ k.mT).softmax(-1) @ v

    @staticmethod
    def backward(ctx, g): return g, g, g


class Norm(nn.Module):
    def forward(self, x): return x / x.norm()


def scale(x): return x / 2
"""


def lint(folder: Path, files: dict[str, str], *linted: str, confirm: bool = False) -> dict[str, ScannedFile]:
    for name, text in {"pkg/__init__.py": "", "pkg/mixers.py": MIXERS, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    paths = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.py"))]
    paths = [path for path in paths if not linted or path in linted]
    settings = Settings(cache=False, jobs=1, confirm=confirm)
    return {item.path: item for item in add_owners(scan_files(paths, settings, {}), paths, settings)}


def targets(folder: Path, code: str, **files: str) -> set[str]:
    found = lint(folder, {"pkg/block.py": HEAD + code, **{f"pkg/{name}.py": text for name, text in files.items()}})
    return {target.symbol for target in found["pkg/block.py"].targets} if "pkg/block.py" in found else set()


OWNER = (
    "class Block(nn.Module):\n    def __init__(self):\n        self.inner = {}\n    def forward(self, x): return {}\n"
)
OWNED = OWNER.format("{}", "self.inner(x)")


@pytest.mark.parametrize(
    "code",
    [
        "from .mixers import Mixer\n" + OWNED.format("Mixer()"),
        "from pkg.mixers import Mixer as M\n" + OWNED.format("M()"),
        "from . import mixers\n" + OWNED.format("mixers.Mixer()"),
        "import pkg.mixers\n" + OWNED.format("nn.ModuleList(pkg.mixers.Mixer() for _ in range(2))[0]"),
        *(
            "from .mixers import Mixer\nclass Block(nn.Module):\n    def __init__(self):\n"
            f"        self.layers = nn.ModuleList([])\n{filled}"
            "    def forward(self, x):\n        for mix, norm in self.layers: x = mix(norm(x))\n        return x\n"
            for filled in (
                "        self.layers.append(nn.ModuleList([Mixer(), nn.Linear(2, 2)]))\n",
                "        layer = Mixer()\n        self.layers.append(nn.ModuleList([layer, nn.Linear(2, 2)]))\n",
            )
        ),
        "from .again import Renamed\n" + OWNED.format("Renamed()"),
        "from .again import Mixer\n" + OWNED.format("Mixer()"),
        "from .mixers import Mixer\nclass Block(nn.Module):\n"
        "    def __init__(self, layer=Mixer): self.inner = layer()\n"
        "    def forward(self, x): return self.inner(x)\n",
        "from .mixers import Mixer\nclass Block(nn.Module):\n"
        "    def __init__(self, layer: Mixer): self.inner = layer\n"
        "    def forward(self, x): return self.inner(x)\n",
        "from .mixers import Mixer\nclass Block(nn.Module):\n    def __init__(self): self.inner = Mixer()\n"
        "    def run(self, x): return self.inner(x)\n    def forward(self, x): return self.run(x)\n",
        "from .mixers import Mixer\nclass Block(nn.Module):\n    def __init__(self): self.inner = Mixer()\n"
        "    def forward(self, x):\n        def run(y): return self.inner.forward(y)\n        return run(x)\n",
        "from .mixers import Mixer\nclass Block(Mixer):\n    pass\n",
        "from .mixers import Mixer\nclass Block(Mixer):\n    def forward(self, x): return 2 * super().forward(x)\n",
        "from .mixers import mix\n" + OWNER.format("nn.Linear(2, 2)", "mix(x, x, x)"),
        "from .mixers import mix\n" + OWNER.format("mix", "self.inner(x, x, x)"),
        "from .mixers import Mix\n" + OWNER.format("nn.Linear(2, 2)", "Mix.apply(x, x, x)"),
        "from .mixers import mix\ndef Block(x): return x + mix(x, x, x)\n",
        "from .mixers import Mixer\ndef Block(x): return x + Mixer()(x)\n",
        "from .mixers import Mixer\ndef Block(x):\n    mixer = Mixer()\n    return x + mixer(x)\n",
        "from torch.utils.checkpoint import checkpoint\nfrom .mixers import mix\n"
        "def Block(x): return checkpoint(mix, x, x, x, use_reentrant=False)\n",
        "import functools\nfrom .mixers import Mixer\nBlock = functools.partial(Mixer, 4)\n",
        "from . import mixers\nBlock = torch.compile(mixers.mix)\n",
        "from .mixers import mix\nBlock = torch.compile(torch.vmap(mix))\n",
        "from .mixers import mix\ndef _of(f): return lambda *given: f(*given)\nBlock = _of(mix)\n",
        "from .elsewhere import make_attention\nBlock = make_attention(2)\n",
        "import functools\nfrom .mixers import mix\n@functools.wraps(mix)\ndef Block(*given): return mix(*given)\n",
    ],
)
def test_what_runs_attention_of_another_file_is_a_target(folder: Path, code: str) -> None:
    again = "from .mixers import Mixer, Mixer as Renamed\n"
    assert targets(folder, code, again=again) == {"Block"}


@pytest.mark.parametrize(
    "code",
    [
        "from .mixers import Norm\n" + OWNED.format("Norm()"),
        "from .mixers import scale\n" + OWNER.format("nn.Linear(2, 2)", "scale(x)"),
        "from .mixers import Mixer\n" + OWNER.format("Mixer()", "x"),
        "from .mixers import Mixer\n" + OWNER.format("nn.Linear(2, 2)", "isinstance(x, Mixer)"),
        "from .mixers import Mixer\ndef layer(dim): return Mixer(dim)\n",
        "from .mixers import mix\ndef train_step(x): return mix(x, x, x)\n",
        "from .mixers import mix\ndef layers(count: int, names: list[str]): return mix(count, names, names)\n",
        "import functools\nfrom .mixers import Norm\nBlock = functools.partial(Norm, 4)\n",
        "from .mixers import scale\nBlock = torch.compile(scale)\n",
        "from .elsewhere import make_attention_mask\nBlock = make_attention_mask(2)\n",
        "from .mixers import Mixer\nBlock = Mixer(4)\n",
        "from .missing import Mixer\n" + OWNED.format("Mixer()"),
        "from .block import Block as Other\n" + OWNED.format("Other()"),
        "import pkg.block\npkg = pkg.block\n" + OWNED.format("pkg.Block()"),
    ],
)
def test_what_does_not_run_it_is_none(folder: Path, code: str) -> None:
    assert targets(folder, code) == set()


def test_owners_of_owners_are_targets_through_any_number_of_files(folder: Path) -> None:
    files = {
        "pkg/layer.py": "from .mixers import Mixer\n" + HEAD + OWNED.format("Mixer()"),
        "pkg/stack.py": "from . import Block\n" + HEAD + OWNED.format("Block()").replace("Block(nn", "Stack(nn"),
        "pkg/__init__.py": "from .layer import *\n",
        "net.py": "import pkg.stack\n" + HEAD + OWNED.format("pkg.stack.Stack()").replace("Block(nn", "Net(nn"),
    }
    found = lint(folder, files)
    assert [target.symbol for path in files if path in found for target in found[path].targets] == [
        "Block",
        "Stack",
        "Net",
    ]


def test_a_file_beside_the_linted_ones_tells_too(folder: Path) -> None:
    found = lint(
        folder, {"pkg/block.py": "from .mixers import Mixer\n" + HEAD + OWNED.format("Mixer()")}, "pkg/block.py"
    )
    assert [target.symbol for target in found["pkg/block.py"].targets] == ["Block"]


def test_the_code_of_an_owner_is_attention_code(lint: Lint, folder: Path) -> None:
    cut = HEAD + "from .mixers import Mixer\n" + OWNER.format("Mixer()", "self.inner(x.detach())")
    for name, text in {"pkg/__init__.py": "", "pkg/mixers.py": MIXERS, "pkg/block.py": cut}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for options in (["--no-confirm"], []):
        assert "detach()` in `Block.forward`" in lint(*options, "pkg", confirm=not options).stdout
    (folder / "pkg/mixers.py").write_text(HEAD)
    assert "detach()" not in lint("--no-confirm", "pkg").stdout


@pytest.mark.parametrize(
    "code",
    [
        "from .ops import flash_attention\nclass Block(nn.Module):\n"
        "    def run(self, x): return flash_attention(x, x.detach())\n    def forward(self, x): return self.run(x)\n",
        "from .ops import SelfAttention\nclass Block(nn.Module):\n    def __init__(self): self.mix = SelfAttention(8)\n"
        "    def forward(self, x):\n        def run(y): return self.mix(y.detach())\n        return run(x)\n",
        "from .ops import SelfAttention\nclass Block(nn.Module):\n"
        "    def __init__(self, mix=SelfAttention): self.inner = mix(8)\n"
        "    def forward(self, x): return self.inner(x.detach())\n",
        "from .ops import SelfAttention\nclass Block(nn.Module):\n"
        "    def __init__(self, mix: SelfAttention): self.inner = mix\n"
        "    def forward(self, x): return self.inner(x.detach())\n",
        "from .ops import FlashAttention\ndef Block(x): return FlashAttention.apply(x.detach())\n",
        "from .ops import attention\nfrom torch.utils.checkpoint import checkpoint\n"
        "def Block(x): return checkpoint(attention, x.detach(), use_reentrant=False)\n",
        "from .ops import SelfAttention\nclass Block(SelfAttention):\n"
        "    def forward(self, x): return super().forward(x.detach())\n",
        "from .ops import SelfAttention as Mix\nclass Block(nn.Module):\n"
        "    def __init__(self, mix=Mix): self.inner = mix(8)\n"
        "    def forward(self, x): return self.inner(x.detach())\n",
    ],
    ids=["method", "nested", "default", "annotation", "apply", "handed on", "super", "alias"],
)
def test_names_that_tell_need_no_other_file(code: str) -> None:
    suspects = scan_source("file.py", HEAD + code, RULES)
    assert suspects == scan_source("file.py", HEAD + code, RULES, prefilter=False)
    assert len(suspects) == 1
    assert [target.symbol for target in find_targets("file.py", HEAD + code)] == ["Block"]
