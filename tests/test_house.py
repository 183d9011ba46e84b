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
