"""The order of the house: names that say one thing, modules that fit a head, and short ways between them."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("theria", "theria_lint")
EVERYWHERE = (*PACKAGES, "benchmarks", "tests")
LONGEST_MODULE = 500
# Who reads from the command line to a verdict follows imports: this is the longest way there is. Lower it whenever it
# gets shorter. Imports inside functions and for type checkers count, as a reader follows those too.
LONGEST_CHAIN = 14
# One name, one meaning: two rooms may each have these.
COMMON_FILES = {"__init__", "__main__"}


def list_modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def read_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def read_imports() -> dict[str, set[str]]:
    """By module of the packages, the modules of the packages that it imports, wherever it does."""
    paths = {name_module(path): path for path in list_modules(*PACKAGES)}
    imports: dict[str, set[str]] = {module: set() for module in paths}
    for module, path in paths.items():
        for node in ast.walk(read_tree(path)):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module} imports relatively"
                named = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in named:
                found = next((part for part in (name, name.rpartition(".")[0]) if part in paths), None)
                if found is not None and found != module:
                    imports[module].add(found)
    return imports


def find_longest_chain() -> list[str]:
    """The longest chain of imports; fails on a cycle."""
    imports = read_imports()
    chains: dict[str, list[str]] = {}

    def follow(module: str, before: tuple[str, ...]) -> list[str]:
        if module in before:
            pytest.fail("a cycle of imports: " + " → ".join([*before[before.index(module) :], module]))
        if module not in chains:
            below = [follow(imported, (*before, module)) for imported in sorted(imports[module])]
            chains[module] = [module, *max(below, key=len, default=[])]
        return chains[module]

    return max((follow(module, ()) for module in imports), key=len)


def test_no_import_leads_back_and_no_chain_is_long() -> None:
    chain = find_longest_chain()
    assert len(chain) > 3
    assert len(chain) <= LONGEST_CHAIN, " → ".join(chain)


def test_no_module_is_long() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in list_modules(*EVERYWHERE)}
    assert lines
    assert {name_module(path): count for path, count in lines.items() if count > LONGEST_MODULE} == {}


STATE = {
    "theria.attention.everywhere": "it replaces a function of PyTorch, which all threads share, and puts it back",
    "theria.testing": "adapters that a test suite registers as its modules are imported",
    "theria_lint.calls.constructions": "what living objects were built with, as long as they live",
    "theria_lint.confirm.cluster_worker": "processes that wait for the next job: a cluster calls a mere function",
    "theria_lint.worker.clock": "whether a process is one that waits for a GPU",
}
"""Modules with globals that change, caches of pure functions aside; any other passes on what it has to know later."""


def has_changing_globals(tree: ast.Module) -> bool:
    """Whether a function rebinds a global, or one begins as an empty container: it is there to be filled."""
    values = [node.value for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    made = {call.func.id for call in values if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
    empty = any(ast.unparse(value) in ("{}", "[]") for value in values if value)
    rebinds = any(isinstance(node, ast.Global) for node in ast.walk(tree))
    return rebinds or empty or not made.isdisjoint({"dict", "list", "set", "defaultdict", "deque", "Counter"})


def test_state_is_passed() -> None:
    changing = {name_module(path) for path in list_modules(*PACKAGES) if has_changing_globals(read_tree(path))}
    assert changing == STATE.keys()


@pytest.mark.parametrize("text", ["x: dict[str, int] = {}", "x = []", "x = set()", "def f():\n    global x\n    x = 1"])
def test_a_global_that_changes_is_seen(text: str) -> None:
    assert has_changing_globals(ast.parse(text))
    assert not has_changing_globals(ast.parse("X = {1: 2}\nY = [1]\nZ = frozenset()\ndef f():\n    x = {}"))


def test_file_names_are_unique() -> None:
    counts = Counter(path.stem for path in list_modules(*EVERYWHERE) if path.stem != "conftest")
    assert {name for name, count in counts.items() if count > 1} <= COMMON_FILES


def test_class_names_are_unique() -> None:
    counts = Counter(
        node.name
        for path in list_modules(*PACKAGES, "benchmarks")
        for node in ast.walk(read_tree(path))
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, count in counts.items() if count > 1} == set()


WORDED_ROOM = "report"
"""Where sentences are made: what people read of a run, whichever way they read it."""

INVOCATION_ERRORS = {"UserError", "RuleError", "ClickException", "UsageError", "_BadValue"}
"""What is wrong with a call or a configuration is said where it is found, and ends the run."""

OPTION_MAKERS = {"option", "argument", "addoption", "addini", "addinivalue_line", "version_option"}
"""What is given to these is the help of a command line."""

PATTERN_MAKERS = {"compile", "make_word_set", "split"}
"""What is given to these, or is cut up by them, is a pattern, or a list of names."""

LONGEST_PHRASE = 1
"""From so many words on, a text is a sentence."""

# Texts that are no sentences about a run: by module, and why.
EXCEPTIONS = {
    "theria_lint.ablate.replacements": "source code",
    "theria_lint.ablate.rewriting": "source code",
    "theria_lint.calls.marked_sources": "source code",
    "theria_lint.calls.recorder": "the name of a caller that is no test and no line",
    "theria_lint.cli": "the help of the command line, and what it says of an internal error",
    "theria_lint.commands": "the help of the command line",
    "theria_lint.commands.command_output": "that nothing can be printed, which ends the run",
    "theria_lint.commands.explain_command": "what --show-settings prints",
    "theria_lint.config": "what is wrong with a configuration, which ends the run, and names of settings",
    "theria_lint.config_schema": "the configuration's schema, for editors",
    "theria_lint.confirm.cluster_worker": "source code",
    "theria_lint.confirm.outcome_cache": "errors that are caught beside, and shown to nobody",
    "theria_lint.confirm.worker_client": "source code",
    "theria_lint.errors": "a suggestion in what is wrong with a call or a configuration",
    "theria_lint.launch.pytest_plugin": "the help of the command line",
    "theria_lint.launch.record_command": "the name of a command",
    "theria_lint.launch.diagnose_command": "source code",
    "theria_lint.lsp.command": "what is wrong with a call, which ends the run",
    "theria_lint.reasons": "what may stand in a field",
    "theria_lint.rules.loader": "what is wrong with a rule, which ends the run",
    "theria_lint.rules.pages": "the page of a rule, around the rule's own words, and the table of rules",
    "theria_lint.sources.gitignore": "errors that are caught beside, and shown to nobody",
    "theria_lint.sources.owned_folder": "errors that are caught beside, and shown to nobody, and the name of a folder",
    "theria_lint.static.detectors.opaque_backward": "what stands for a file in a rule's own words",
    "theria_lint.static.prefilter.reduction": "source code",
    "theria_lint.static.prefilter.triggers": "a pattern",
    "theria_lint.static.static_cache": "errors that are caught beside, and shown to nobody",
    "theria_lint.suppress.ignore_comments": "an ignore comment",
    "theria_lint.worker.along_directions": "the name of an oracle",
    "theria_lint.worker.find_call.run_trial": "words that names of parameters are made of",
    "theria_lint.worker.library_messages": "messages of other libraries, to match",
    "theria_lint.worker.configurations.measure_configuration": "the name of an oracle",
    "theria_lint.worker.shims.fake_cuda": "names of functions, and of a GPU",
}


def list_phrases(path: Path) -> list[str]:
    """The texts of a module that read as sentences: docstrings, regular expressions and errors of the call left out."""
    tree = read_tree(path)
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        called = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if called in INVOCATION_ERRORS | OPTION_MAKERS | PATTERN_MAKERS:
            skipped |= {id(inner) for inner in ast.walk(node)}
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
    texts = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            texts.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
    return [text for text in texts if sum(any(map(str.isalpha, word)) for word in text.split()) > LONGEST_PHRASE]


def test_sentences_are_made_in_the_report_alone() -> None:
    found: dict[str, list[str]] = {}
    for path in list_modules("theria_lint"):
        if path.relative_to(ROOT / "theria_lint").parts[0] != WORDED_ROOM:
            found[name_module(path)] = list_phrases(path)
    told = {module: phrases for module, phrases in found.items() if phrases}
    assert {module: phrases for module, phrases in told.items() if module not in EXCEPTIONS} == {}
    assert EXCEPTIONS.keys() - told.keys() == set()


def test_a_sentence_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        '"""A docstring of many words."""\nraise UserError(f"{1}: is wrong, do it again")\nx = f"it is {2} too much"\n'
    )
    assert list_phrases(path) == ["it is … too much"]


def test_errors_of_files_have_codes_that_there_are() -> None:
    from theria_lint.reasons import FIELDS

    kinds = {"ReadError", "SourceError", "BadCallError"}
    calls = [
        node
        for path in list_modules("theria_lint")
        for node in ast.walk(read_tree(path))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") in kinds
        and isinstance(node.args[0], ast.Constant)
    ]
    assert len(calls) > 15
    for call in calls:
        code = call.args[0]
        assert isinstance(code, ast.Constant)
        assert {keyword.arg for keyword in call.keywords} == set(FIELDS[code.value]), code.value


def test_reasons_have_the_data_that_is_said_to_be_in_them() -> None:
    """What has others is no answer: the parent takes a worker that gives it for one that forges."""
    from theria.verdicts import Ground
    from theria_lint.reasons import FIELDS, ReasonCode

    codes = {"Ground": Ground, "ReasonCode": ReasonCode}
    seen = 0
    for path in (*list_modules("theria"), *list_modules("theria_lint")):
        for call in ast.walk(read_tree(path)):
            match call:
                case ast.Call(args=[ast.Attribute(value=ast.Name(id=kind), attr=name), ast.Dict(keys=keys)]):
                    names = {key.value if isinstance(key, ast.Constant) else None for key in keys}
                case ast.Call(func=ast.Name(id="Reason"), args=[ast.Attribute(value=ast.Name(id=kind), attr=name)]):
                    names = set()
                case _:
                    continue
            if kind in codes and None not in names:
                seen += 1
                assert names == set(FIELDS[codes[kind][name]]), (path, call.lineno)
    assert seen > 50
