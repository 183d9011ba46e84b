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


WORDED_ROOMS = ("report", "rules", "launch", "commands")
WORDED_FILES = ("cli.py", "command.py", "config.py", "about.py", "errors.py", "config_schema.py", "write_fixes.py")
"""Where people are spoken to: reports, rules, and the command lines with what is wrong with a command."""

INVOCATION_ERRORS = {"UserError", "RuleError", "ClickException"}
"""What is wrong with a call or a configuration is said where it is found, and ends the run."""

PATTERN_MAKERS = {"compile", "make_word_set", "split"}
"""What is given to these, or is cut up by them, is a pattern, or a list of names."""

LONGEST_PHRASE = 3
"""From so many words on, a text is a sentence. What is told as data are names, and words for the place of a value."""

# Texts that are no sentences of ours, or none that a report shows: by module, and why.
EXCEPTIONS = {
    "theria_lint.ablate.replacements": "source code",
    "theria_lint.calls.call_tree": "why an argument is not kept, told by the command that records",
    "theria_lint.calls.recorder": "why an argument is not kept, told by the command that records",
    "theria_lint.confirm.message_checks": "what is wrong with a message of the worker, quoted like a library's error",
    "theria_lint.confirm.outcome_cache": "errors that are caught beside",
    "theria_lint.confirm.protocol": "what is wrong with a message of the worker, quoted like a library's error",
    "theria_lint.confirm.runner": "what the line of progress says runs",
    "theria_lint.confirm.worker_client": "source code",
    "theria_lint.lsp.code_actions": "the title of an action in an editor's menu",
    "theria_lint.lsp.language_server": "what an editor keeps in its log",
    "theria_lint.lsp.session": "what an editor keeps in its log",
    "theria_lint.reasons": "what may stand in a field",
    "theria_lint.sandbox.confine": "why a protection does not hold, as the system says it",
    "theria_lint.sandbox.namespaces": "why a protection does not hold, as the system says it",
    "theria_lint.sandbox.refused_operations": "the error that code under test is given",
    "theria_lint.sandbox.seccomp": "why a protection does not hold, as the system says it",
    "theria_lint.sandbox.tempdir": "how much is too much",
    "theria_lint.sources.gitignore": "errors that are caught beside",
    "theria_lint.sources.owned_folder": "errors that are caught beside",
    "theria_lint.worker.along_directions": "the name of an oracle",
    "theria_lint.worker.autograd_substitutes": "an error of a trial, quoted beside those that the target raises",
    "theria_lint.worker.configurations.further_calls": "names of configurations",
    "theria_lint.worker.configurations.list_configurations": "names of configurations",
    "theria_lint.worker.importer": "an error of an import, as Python would word it",
    "theria_lint.worker.library_messages": "messages of other libraries, to match",
    "theria_lint.worker.probe_target": "names of configurations",
}
EXCEPTED_ROOMS = {
    "theria_lint.worker.find_call": "errors of a trial, quoted beside those that the target raises",
    "theria_lint.worker.shims": "names of stand-ins",
    "theria_lint.worker.triton_interpreter": "names of stand-ins, and errors that a kernel is given",
}


def list_phrases(path: Path) -> list[str]:
    """The texts of a module that read as sentences: docstrings, regular expressions and errors of the call left out."""
    tree = read_tree(path)
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        called = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if called in INVOCATION_ERRORS | PATTERN_MAKERS:
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
        parts = path.relative_to(ROOT / "theria_lint").parts
        if parts[0] not in WORDED_ROOMS and parts[-1] not in WORDED_FILES:
            found[name_module(path)] = list_phrases(path)
    told = {module: phrases for module, phrases in found.items() if phrases}
    rooms = {module for module in told if any(module.startswith(f"{room}.") for room in EXCEPTED_ROOMS)}
    assert {module: told[module] for module in told if module not in rooms | EXCEPTIONS.keys()} == {}
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
