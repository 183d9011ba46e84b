"""Whatever way a module spells a name, the prefilter takes it for what the tree says that it means."""

from __future__ import annotations

import pytest

from theria_lint.rules.loader import load_rules
from theria_lint.static.prefilter import may_hold_suspects
from theria_lint.static.scan import scan_source

RULES = load_rules()
BODY = "def attention(q, k, v):\n    with {}():\n        return q @ k @ v\n"
COMPILED = "def attention(q, k, v):\n    return q @ k @ v\nfast = {}(attention)\n"
# How a name comes in, and how it is used then.
SPELLINGS = [
    ("import torch", "torch.{}"),
    ("import torch as t", "t.{}"),
    ("import torch \\\n    as t", "t.{}"),
    ("import torch as  t", "t.{}"),
    ("import torch\nt = torch", "t.{}"),
    ("import torch\nt = torch\nu = t", "u.{}"),
    ("import torch\nt = torch if torch else None", "t.{}"),
    ("import torch", "(torch).{}"),
    ("import torch", "torch . {}"),
    ("import torch", "torch.\\\n{}"),
    ("from torch import {}", "{}"),
    ("from torch import (\n    nn,  # (B, T)\n    {},\n)", "{}"),
    ("from torch import nn, \\\n    {}", "{}"),
    ("from torch \\\n    import {}", "{}"),
    ("from torch import *", "{}"),
    ("from torch import {} as other", "other"),
    ("import torch\n{} = torch.{}", "{}"),
    ("from torch import {} as other\n{} = other", "{}"),
    ("import torch\nother = torch.{}", "other"),
    ("try:\n    from torch import {}\nexcept ImportError:\n    from mylib import {}", "{}"),
]


@pytest.mark.parametrize(("imported", "used"), SPELLINGS)
@pytest.mark.parametrize(("name", "template"), [("no_grad", BODY), ("compile", COMPILED)])
def test_every_spelling_of_a_name_is_found(name: str, template: str, imported: str, used: str) -> None:
    source = imported.replace("{}", name) + "\n" + template.replace("{}", used.replace("{}", name))
    whole = scan_source("file.py", source, RULES, prefilter=False)
    assert whole
    assert scan_source("file.py", source, RULES) == whole
    assert may_hold_suspects(source.encode(), RULES)


@pytest.mark.parametrize("imported", ["import re", "import cute as torch2", "from mylib import compile"])
def test_other_names_are_not_worth_parsing(imported: str) -> None:
    source = f"{imported}\n# for torch\nclass SelfAttention: ...\nmodel = re.compile(SelfAttention)\n"
    assert scan_source("file.py", source, RULES) == scan_source("file.py", source, RULES, prefilter=False) == ()
