"""Large files of hostile shapes: they end, in a time that grows with their size, or are reported with the reason."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.growth_shapes import list_shapes
from benchmarks.static_growth import STAGES, GrowthCase
from theria_lint.rules.loader import load_rules
from theria_lint.static.prefilter.block_graph import Closure
from theria_lint.static.prefilter.top_level_blocks import ModuleBlocks, TopLevelBlock
from theria_lint.static.scan import scan_source
from theria_lint.static.scan_files import ScanConfig, Scanner

HEAD = """import torch


def attention(q, k, v):
    p = torch.softmax(q @ k.transpose(-1, -2), -1)
    return (p @ v).detach()


"""


def _each(form: str, count: int) -> str:
    return HEAD + "".join(form.format(i=i, j=i + 1) for i in range(count))


def _chain(count: int) -> str:
    return _each("def f{i}(x):\n    return f{j}(x).detach()\n\n", count) + "f0(attention)\n"


def _chain_upwards(count: int) -> str:
    return (
        _each("def f{j}(x):\n    return f{i}(x).detach()\n\n", count) + f"def attention_2(q, k, v):\n    f{count}(q)\n"
    )


def _methods(count: int) -> str:
    return (
        _each("", 0)
        + "class Attention(torch.nn.Module):\n"
        + "".join(
            f"    def m{i}(self, q, k, v):\n        return self.m{i + 1}(q.detach(), k, v)\n" for i in range(count)
        )
    )


def _functions(count: int) -> str:
    form = "class F{i}(torch.autograd.Function):\n    def forward(ctx, q, k, v):\n        return softmax(q @ k) @ v\n"
    return _each(form + "    def backward(ctx, g):\n        return g.data, None, F{j}.apply(g)\n\n", count)


def _hooks(count: int) -> str:
    return _each("def h{i}(g):\n    g.register_hook(h{j})\n    return h{j}(g.detach())\n\n", count) + "h0(attention)\n"


def _one_name(count: int) -> str:
    return _each("def f(x):\n    return f(x).detach()\n\n", count) + "def attention_2(q, k, v):\n    return f(q)\n"


def _heirs(count: int) -> str:
    form = "class C{j}(C{i}):\n    def forward(self, q, k, v):\n        return softmax(q @ k).detach() @ v\n\n"
    return _each(form, count) + "class C0(torch.nn.Module):\n    pass\n"


def _line(count: int) -> str:
    return HEAD + f"def attention_2(q, k, v):\n    return foo({', '.join(['q.detach()'] * count)}) @ k @ v\n"


def _attention_chain(count: int) -> str:
    form = "def attention_{i}(q, k, v):\n    return attention_{j}(q.detach(), k, v)\n\n"
    return _each(form, count) + f"def attention_{count}(q, k, v):\n    return attention(q, k, v)\n"


def _wide_line(count: int) -> str:
    arguments = "q.detach(), '漢', " * count
    return HEAD + f"def attention_2(q, k, v):\n    return foo({arguments}) @ k @ v\n"


def _diamonds(count: int) -> str:
    form = "def attention_{j}(q, k, v):\n    return left_{j}(q, k, v) + right_{j}(q, k, v)\n\n"
    form += "def left_{j}(q, k, v):\n    return attention_{i}(q.detach(), k, v)\n\n"
    return _each(form + "def right_{j}(q, k, v):\n    return attention_{i}(q, k, v.detach())\n\n", count)


def _tries(count: int) -> str:
    tries = "".join(f"try:\n    from a{i} import f\nexcept ImportError:\n    f = None\n" for i in range(count))
    stars = "".join(f"from a{i} import *\n" for i in range(count))
    uses = "    q = f(g(q.detach()))\n" * count
    return f"{tries}{stars}{HEAD}def attention_2(q, k, v):\n{uses}    return q\n"


def _recompiled(count: int) -> str:
    return _each("attention = torch.compile(attention)\n", count)


SHAPES: list[tuple[Callable[[int], str], int]] = [
    *((_chain, 12_000), (_chain_upwards, 12_000), (_methods, 8_000), (_functions, 3_000), (_hooks, 6_000)),
    *((_one_name, 6_000), (_heirs, 3_000), (_line, 20_000)),
    *((_recompiled, 2_000), (_attention_chain, 1_000), (_wide_line, 20_000), (_diamonds, 300), (_tries, 6_000)),
]
CODE = """
import json, sys
from theria_lint.static.scan_files import ScanConfig, Scanner
path = sys.argv[1]
scanner = Scanner(ScanConfig((), (), True, True, False, None, ()), {})
found = scanner.scan_file(path, scanner.read_candidate(path))
print(json.dumps([len(found.suspects), [str(error.reason.code) for error in found.errors]]))
"""


@pytest.mark.parametrize(("shape", "count"), SHAPES, ids=[shape.__name__ for shape, _ in SHAPES])
def test_a_large_file_ends_and_says_what_it_holds(tmp_path: Path, shape: Callable[[int], str], count: int) -> None:
    path = tmp_path / "large.py"
    path.write_text(shape(count))
    command = [sys.executable, "-c", CODE, str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "internal_error" not in answer.stdout
    assert not answer.stdout.startswith("[0, []]")


ENDLESS = """
import sys
from theria_lint.cli import run_command_line
from theria_lint.static import scan, scan_files

original = scan.scan_source

def slow(path, *rest, **named):
    while path.endswith("endless.py"):
        try:
            sum(range(1000))
        except Exception:
            pass
    return original(path, *rest, **named)

scan.scan_source = slow
scan_files.FILE_SECONDS = 1.0
run_command_line(["--no-confirm", "--no-cache", "--isolated", sys.argv[1]])
"""


def test_a_file_that_takes_too_long_is_reported_and_the_others_are_checked(tmp_path: Path) -> None:
    for name in ("endless.py", "other.py"):
        (tmp_path / name).write_text(HEAD + "def attention(q, k, v):\n    return (q @ k.detach()).softmax(-1) @ v\n")
    found = subprocess.run(
        [sys.executable, "-c", ENDLESS, str(tmp_path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert "endless.py: error: takes more than 1 s of processor time" in found.stdout
    assert "other.py:6:" in found.stdout
    assert found.returncode == 1


IN_A_THREAD = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from theria_lint.lsp.check_document import check_text
from theria_lint.lsp.client import ClientOptions
from theria_lint.static import scan, scan_files

original = scan.scan_source

def slow(path, source, *rest, **named):
    while "endless" in source:
        try:
            sum(range(1000))
        except Exception:
            pass
    return original(path, source, *rest, **named)

scan.scan_source = slow
scan_files.FILE_SECONDS = 1.0
with ThreadPoolExecutor(1) as pool:  # as the language server does
    for text in ("# endless\\n", ""):
        text += "import torch\\n\\ndef attention(q, k, v):\\n    return (q @ k.detach()).softmax(-1) @ v\\n"
        report = pool.submit(check_text, sys.argv[1], text, ClientOptions(), True).result().report
        print([str(error.reason.code) for error in report.errors], len(report.findings))
"""


def test_in_a_thread_of_the_language_server_the_limit_holds_as_well(tmp_path: Path) -> None:
    command = [sys.executable, "-c", IN_A_THREAD, str(tmp_path / "a.py")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert found.stdout.splitlines() == ["['too_slow_to_check'] 0", "[] 1"], found.stderr


ONE_LINE = """
import sys
from theria_lint.sources.notebook import read_notebook
from theria_lint.sources.source_text import find_statement_end
from theria_lint.static.prefilter.entry_points import find_renamed_operations
match sys.argv[1]:
    case "names of operations":
        print(find_renamed_operations("x = MultiheadAttention\\n" + "MultiheadAttention" * 60_000))
    case "ends of statements":
        text = "f(a, [b], {c})\\n" * 100_000
        print(len({find_statement_end(text, place) for place in range(0, len(text), 15)}))
    case "blanks in a cell":
        cell = '{"cell_type": "code", "source": "%magic\\\\n' + " " * 1_000_000 + 'x"}'
        print(len(read_notebook(f'{{"cells": [{cell}]}}'.encode()).numbers))
"""


@pytest.mark.parametrize(
    ("line", "answer"), [("names of operations", "{'x'}"), ("blanks in a cell", "1"), ("ends of statements", "100000")]
)
def test_one_long_line_is_read_in_one_go(line: str, answer: str) -> None:
    found = subprocess.run([sys.executable, "-c", ONE_LINE, line], capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == answer, found.stderr


def _scanned(tmp_path: Path, source: str) -> list[str]:
    path = tmp_path / "large.py"
    path.write_text(source)
    scanner = Scanner(ScanConfig((), (), True, True, False, None, ()), {})
    data = scanner.read_candidate(str(path))
    assert isinstance(data, bytes)
    found = scanner.scan_file(str(path), data)
    assert found is not None
    return [str(error.reason.code) for error in found.errors]


def test_a_file_beyond_the_limits_is_reported(tmp_path: Path) -> None:
    assert _scanned(tmp_path, _heirs(300)) == ["too_many_ancestors"]
    assert _scanned(tmp_path, _one_name(1_200)) == ["too_entangled"]
    assert _scanned(tmp_path, _heirs(100)) == []
    assert _scanned(tmp_path, _one_name(100)) == []


def test_functions_that_call_one_another_in_a_long_row_are_checked(tmp_path: Path) -> None:
    assert _scanned(tmp_path, _attention_chain(600)) == []


def test_targets_that_all_run_the_same_many_functions_are_reported(tmp_path: Path) -> None:
    assert _scanned(tmp_path, _attention_chain(1_500)) == ["too_entangled"]


def test_a_closure_follows_each_name_once() -> None:
    chunks = ModuleBlocks(_chain(200))
    asked: list[str] = []

    def defined(name: str) -> list[TopLevelBlock]:
        asked.append(name)
        return chunks.by_name.get(name, [])

    closure = Closure((lambda chunk: chunk.get_mentions(), defined))
    for chunk in chunks.all:
        closure.add([chunk])
    assert len(asked) == len(set(asked))
    assert closure.blocks == set(chunks.all)


def test_what_is_cut_away_changes_nothing() -> None:
    rules = load_rules()
    for shape in (_chain, _chain_upwards, _methods, _functions, _hooks, _one_name):
        source = shape(12)
        assert scan_source("f.py", source, rules) == scan_source("f.py", source, rules, prefilter=False), shape.__name__


def _count_calls(work: Callable[[], object]) -> int:
    """How many functions are entered: what grows with the square does so on any machine."""
    count = 0

    def enter(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(enter)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


ASKED_ONCE = [
    "no grad, in one function",
    "numpy, in one function",
    "set attribute, in one function",
    "rename of a rename, in module",
    "aliases backwards",
    "targets of one helper",
    "long parts, in functions",
]


@pytest.mark.parametrize("stage", ["scan all", "targets", "uses"])
@pytest.mark.parametrize("name", ASKED_ONCE)
def test_four_times_the_file_is_four_times_the_work(name: str, stage: str) -> None:
    shape = dict(list_shapes())[name]
    small, large = (_count_calls(lambda n=n: STAGES[stage](GrowthCase(shape(n)))) for n in (12, 48))  # type: ignore[misc]
    assert large < 5.5 * small
