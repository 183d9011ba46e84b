"""Suspects in files that targets of other files call: which are found, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.lint_case import Lint
from theria_lint.config import Settings
from theria_lint.model import Suspect
from theria_lint.pipeline import lint_paths as run
from theria_lint.static.cross_file import link_calls
from theria_lint.static.scan_files import scan_files

ATTENTION = """\
import torch
{imports}


class Attention(torch.nn.Module):
    def forward(self, q, k, v):
        q, k = {map}(q), {map}(k)
        return q @ (k.mT @ v) / (q @ k.sum(-2)[..., None])
"""
FEATURES = """\
import torch


def features(x):
    return torch.exp(x - x.amax(-1, keepdim=True).detach())
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def found(folder: Path, *linted: str, **settings: Any) -> list[Suspect]:
    """The suspects that the targets of a project reach, without running it."""
    paths = [
        str(path.relative_to(folder)) for name in linted or (".",) for path in sorted((folder / name).rglob("*.py"))
    ]
    chosen = Settings(**{"cache": False, "jobs": 1, **settings})
    items = scan_files(paths, chosen, {})
    if chosen.confirm:
        items = link_calls(items, paths, chosen)
    return [suspect for item in items for suspect in item.suspects]


def attention(imports: str, name: str = "features") -> str:
    return ATTENTION.format(imports=imports, map=name)


@pytest.mark.parametrize(
    ("imports", "name"),
    [
        ("from .maps import features", "features"),
        ("from .maps import features as f", "f"),
        ("from pkg.maps import features", "features"),
        ("from . import maps", "maps.features"),
        ("from . import maps as m", "m.features"),
        ("import pkg.maps", "pkg.maps.features"),
        ("import pkg.maps as m", "m.features"),
        ("from .maps import *", "features"),
        ("try:\n    from fast import features\nexcept ImportError:\n    from .maps import features", "features"),
        ("from functools import partial\nfrom .maps import features\n\nf = partial(features)", "f"),
        ("from .maps import features\n\nMAPS = {'exp': features}", "MAPS['exp']"),
    ],
)
def test_every_way_to_import_a_helper_is_followed(folder: Path, imports: str, name: str) -> None:
    write(folder, {"pkg/__init__.py": "", "pkg/att.py": attention(imports, name), "pkg/maps.py": FEATURES})
    assert [(s.path, s.rule, s.symbol) for s in found(folder)] == [("pkg/maps.py", "THL002", "features")]


def test_a_helper_that_no_target_uses_is_no_attention_code(folder: Path) -> None:
    write(folder, {"pkg/__init__.py": "", "pkg/att.py": attention("from .maps import other", "other")})
    write(folder, {"pkg/maps.py": FEATURES + "\n\ndef other(x):\n    return x.exp()\n"})
    assert found(folder) == []
    assert found(folder, confirm=False) == []


def test_a_chain_of_files_is_followed(folder: Path) -> None:
    middle = "from .maps import features\n\n\ndef scaled(x):\n    return features(x / 2)\n"
    write(folder, {"pkg/__init__.py": "", "pkg/att.py": attention("from .middle import scaled", "scaled")})
    write(folder, {"pkg/middle.py": middle, "pkg/maps.py": FEATURES})
    assert [s.path for s in found(folder)] == ["pkg/maps.py"]


def test_a_file_need_not_say_torch(folder: Path) -> None:
    middle = "def features(x):\n    return (x - x.amax(-1, keepdim=True).detach()).exp()\n"
    write(folder, {"pkg/__init__.py": "", "pkg/att.py": attention("from .maps import features"), "pkg/maps.py": middle})
    assert [s.path for s in found(folder)] == ["pkg/maps.py"]


@pytest.mark.parametrize("exported", ["from .maps import features", "from .maps import *"])
@pytest.mark.parametrize(
    "imports", ["from . import features", "from .deep import features", "from pkg import features"]
)
def test_re_exports_are_followed(folder: Path, exported: str, imports: str) -> None:
    write(folder, {"pkg/__init__.py": exported, "pkg/deep/__init__.py": exported.replace(".maps", "..maps")})
    write(folder, {"pkg/att.py": attention(imports), "pkg/maps.py": FEATURES})
    assert [s.path for s in found(folder)] == ["pkg/maps.py"]


def test_a_function_that_shadows_its_module_is_found(folder: Path) -> None:
    write(folder, {"pkg/__init__.py": "from .features import features", "pkg/features.py": FEATURES})
    write(folder, {"pkg/att.py": attention("from . import features")})
    assert [s.path for s in found(folder)] == ["pkg/features.py"]


SUBMODULE = """\
import torch


class Features(torch.nn.Module):
    def __init__(self, size=1):
        super().__init__()
        self.start()

    @torch.no_grad()
    def start(self):
        pass

    def forward(self, x):
        return self.shifted(x).exp()

    def shifted(self, x):
        return x - x.amax(-1, keepdim=True).detach()

    def project(self, x):
        return x.detach()
"""
OWNER = """\
import torch
from .maps import Features


class Attention(torch.nn.Module):
    def __init__(self, features=Features):
        super().__init__()
        {init}

    def forward(self, q, k, v):
        q, k = {q}, {k}
        return q @ (k.mT @ v) / (q @ k.sum(-2)[..., None])
"""


@pytest.mark.parametrize(
    "init",
    [
        "self.map = Features()",
        "inner = Features()\n        self.map = torch.nn.Sequential(inner)",
        "self.map = features()",
        "self.map = torch.nn.ModuleList()\n        self.map.append(Features())",
    ],
)
def test_submodules_of_other_files_are_followed(folder: Path, init: str) -> None:
    owner = OWNER.format(init=init, q="self.map(q)", k="self.map(k)")
    write(folder, {"pkg/__init__.py": "", "pkg/att.py": owner, "pkg/maps.py": SUBMODULE})
    assert [s.symbol for s in found(folder)] == ["Features.shifted"]


def test_methods_that_are_called_on_a_submodule_are_followed(folder: Path) -> None:
    owner = OWNER.format(init="self.map = Features()", q="self.map.project(q)", k="k")
    write(folder, {"pkg/__init__.py": "", "pkg/att.py": owner, "pkg/maps.py": SUBMODULE})
    assert {s.symbol for s in found(folder)} == {"Features.shifted", "Features.project"}


def test_what_is_inherited_from_another_file_is_followed(folder: Path) -> None:
    base = "import torch\n\n\nclass Base(torch.nn.Module):\n    def phi(self, x):\n        return x.exp().detach()\n"
    owner = attention("from .base import Base", "self.phi").replace("torch.nn.Module", "Base")
    write(folder, {"pkg/__init__.py": "", "pkg/att.py": owner, "pkg/base.py": base})
    assert [s.symbol for s in found(folder)] == ["Base.phi"]


def test_files_that_import_each_other_are_followed_to_the_end(folder: Path) -> None:
    maps = "from . import att\n\n\ndef features(x):\n    return att.shifted(x).exp()\n"
    shifted = (
        "\n\ndef shifted(x):\n    from .maps import features\n\n    return x.detach() if x.dim() else features(x)\n"
    )
    write(folder, {"pkg/__init__.py": "", "pkg/att.py": attention("from .maps import features") + shifted})
    write(folder, {"pkg/maps.py": maps})
    assert {s.symbol for s in found(folder)} == {"shifted"}


def test_an_import_without_end_ends(folder: Path) -> None:
    write(folder, {"pkg/__init__.py": "from . import maps\nfrom .maps import *\n"})
    write(folder, {"pkg/maps.py": "import pkg\nfrom pkg import *\nfrom . import features\nmaps = pkg.maps.maps\n"})
    write(folder, {"pkg/att.py": attention("from .maps import features, maps", "maps.features")})
    assert found(folder) == []


def test_names_of_other_folders_are_not_confused(folder: Path) -> None:
    harmless = "def features(x):\n    return x.exp()\n"
    for name, maps in (("one", FEATURES), ("two", harmless)):
        write(folder, {f"{name}/att.py": attention("from maps import features"), f"{name}/maps.py": maps})
    write(folder, {"three/maps.py": FEATURES, "four/att.py": attention("from maps import features")})
    assert [s.path for s in found(folder)] == ["one/maps.py"]


@pytest.mark.parametrize(
    ("imports", "place"),
    [
        ("from . import maps", "pkg/sub/maps.py"),
        ("from .. import maps", "pkg/maps.py"),
        ("from .maps import features as maps", "pkg/sub/maps.py"),
        ("from ..maps import features as maps", "pkg/maps.py"),
    ],
)
def test_the_dots_of_an_import_count(folder: Path, imports: str, place: str) -> None:
    name = "maps" if " as " in imports else "maps.features"
    write(folder, {"pkg/__init__.py": "", "pkg/sub/__init__.py": "", "pkg/sub/att.py": attention(imports, name)})
    write(folder, {"pkg/maps.py": FEATURES, "pkg/sub/maps.py": FEATURES})
    assert [s.path for s in found(folder)] == [place]


def test_a_package_under_another_root_is_found_if_there_is_but_one(folder: Path) -> None:
    write(folder, {"src/pkg/__init__.py": "", "src/pkg/maps.py": FEATURES})
    write(folder, {"tools/att.py": attention("from pkg.maps import features")})
    assert [s.path for s in found(folder)] == ["src/pkg/maps.py"]
    write(folder, {"old/pkg/__init__.py": "", "old/pkg/maps.py": FEATURES})
    assert found(folder) == []


def test_outside_the_linted_files_only_the_own_package_is_followed(folder: Path) -> None:
    write(folder, {"pkg/__init__.py": "", "pkg/maps.py": FEATURES, "pkg/a/__init__.py": ""})
    write(folder, {"pkg/a/att.py": attention("from ..maps import features")})
    write(folder, {"loose/maps.py": FEATURES, "loose/b/att.py": attention("from maps import features")})
    assert [s.path for s in found(folder, "pkg/a", "loose/b")] == ["pkg/maps.py"]


def test_a_helper_of_two_files_is_found_once_and_nothing_is_lost(folder: Path) -> None:
    own = "\n\ndef attention(q, k, v):\n    return (q @ k.mT).softmax(-1).detach() @ v\n"
    write(folder, {"pkg/__init__.py": "", "pkg/maps.py": FEATURES + own})
    for name in ("a", "b"):
        write(folder, {f"pkg/{name}.py": attention("from .maps import features")})
    assert [s.symbol for s in found(folder)] == ["features", "attention"]
    assert [s.symbol for s in found(folder, confirm=False)] == ["attention"]


def test_what_is_cached_of_a_file_does_not_outlive_a_change_of_another(folder: Path) -> None:
    cache = {"cache": True, "cache_dir": str(folder / "cache")}
    write(
        folder, {"pkg/__init__.py": "", "pkg/maps.py": FEATURES, "pkg/att.py": attention("from .maps import features")}
    )
    first = found(folder, "pkg", **cache)
    assert [s.path for s in first] == ["pkg/maps.py"]
    assert found(folder, "pkg", **cache) == first
    write(folder, {"pkg/att.py": attention("", "torch.exp")})
    assert found(folder, "pkg", **cache) == []
    write(
        folder, {"pkg/att.py": attention("from .maps import features"), "pkg/maps.py": "from .deep import features\n"}
    )
    write(folder, {"pkg/deep.py": FEATURES})
    assert [s.path for s in found(folder, "pkg", **cache)] == ["pkg/deep.py"]


def test_the_order_is_that_of_paths_however_many_processes_scan(folder: Path) -> None:
    write(folder, {"pkg/__init__.py": "", "pkg/a_maps.py": FEATURES, "pkg/z_maps.py": FEATURES})
    both = "from .z_maps import features as g\nfrom .a_maps import features"
    padding = "\n".join(f"# softmax torch detach {number}" for number in range(12_000))
    for name in ("m", "n", "o", "p"):
        write(folder, {f"pkg/{name}.py": attention(both, "(features if torch else g)") + padding})
    one = found(folder, jobs=1)
    assert [s.path for s in one] == ["pkg/a_maps.py", "pkg/z_maps.py"]
    assert found(folder, jobs=2) == one


def test_the_helper_is_to_blame(folder: Path, lint: Lint) -> None:
    write(
        folder, {"pkg/__init__.py": "", "pkg/att.py": attention("from .maps import features"), "pkg/maps.py": FEATURES}
    )
    report = json.loads(lint("pkg", "--output-format", "json", confirm=True).stdout)
    (finding,) = report["findings"]
    assert (finding["path"], finding["disposition"], finding["verdict"]) == (
        "pkg/maps.py",
        "confirmed",
        "silent_corruption",
    )
    assert lint("pkg", "--output-format", "json").stdout.count("THL002") == 0


def test_a_helper_that_harms_nothing_is_cleared_and_can_be_silenced(folder: Path, lint: Lint) -> None:
    maps = FEATURES.replace("def features", "def weights").replace(
        "return torch.exp(x - x.amax(-1, keepdim=True).detach())",
        "return torch.softmax(x - x.amax(-1, keepdim=True).detach(), -1)",
    )
    target = "import torch\nfrom maps import weights\n\n\ndef attend(q, k, v):\n    return weights(q @ k.mT) @ v\n"
    write(folder, {"att.py": target, "maps.py": maps})
    report = json.loads(lint(".", "--output-format", "json", confirm=True).stdout)
    assert [(f["path"], f["disposition"]) for f in report["findings"]] == [("maps.py", "cleared")]
    write(folder, {"maps.py": maps.replace(", -1)", ", -1)  # theria: ignore[THL002]")})
    report = json.loads(lint(".", "--output-format", "json", confirm=True).stdout)
    assert report["findings"] == []


def test_of_a_file_that_was_not_linted_the_reason_speaks(folder: Path, lint: Lint) -> None:
    write(
        folder, {"pkg/__init__.py": "", "pkg/att.py": attention("from .maps import features"), "pkg/maps.py": FEATURES}
    )
    shown = lint("pkg/att.py", "--output-format", "json", confirm=True)
    report = json.loads(shown.stdout)
    assert shown.exit_code == 1
    assert report["findings"] == []
    (target,) = report["targets"]
    assert any("THL002 on line 5 of pkg/maps.py" in note for note in target["reason_notes"])
    assert "no suspect explains it" not in lint("pkg/att.py", confirm=True).stdout
    write(folder, {"pkg/maps.py": FEATURES.replace(".detach())", ".detach())  # theria: ignore")})
    silenced = lint("pkg/att.py", confirm=True)
    assert (silenced.exit_code, "pkg/maps.py" in silenced.stdout) == (0, False)


def test_a_rewrite_may_change_a_file_that_was_not_linted(folder: Path, lint: Lint) -> None:
    target = attention("from .maps import features").replace("q @ k.sum", "q.detach() @ k.sum")
    write(folder, {"pkg/__init__.py": "", "pkg/att.py": target, "pkg/maps.py": FEATURES})
    shown = lint("pkg/att.py", "--diff", confirm=True).stdout
    assert "+++ b/pkg/att.py" in shown
    assert "+++ b/pkg/maps.py" in shown
    report = json.loads(lint("pkg/att.py", "--output-format", "json", confirm=True).stdout)
    assert [(f["path"], f["disposition"]) for f in report["findings"]] == [("pkg/att.py", "confirmed")]


def test_standard_input_is_followed_nowhere(folder: Path) -> None:
    write(folder, {"pkg/__init__.py": "", "pkg/maps.py": FEATURES})
    given = {"pkg/att.py": attention("from .maps import features").encode()}
    report = run(["pkg/att.py", "pkg/maps.py"], Settings(cache=False), given=given)
    assert report.findings == ()
