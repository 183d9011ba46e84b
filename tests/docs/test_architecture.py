"""The architecture's map is true: files and functions that it names exist, in the files that it names them in."""

from __future__ import annotations

import ast
import re

from tests.support.doc_pages import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TABLE = PAGE.split("## Where is it decided?", 1)[1].split("\n## ", 1)[0]
QUESTIONS = [line for line in TABLE.splitlines() if line.startswith("|")][2:]
ROOMS = PAGE.split("## Rooms", 1)[1].split("\n## ", 1)[0]


def defined_names(source: str) -> set[str]:
    names = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_every_answer_names_what_exists_within_three_jumps() -> None:
    assert len(QUESTIONS) >= 20
    for line in QUESTIONS:
        names: set[str] = set()
        files = 0
        for code in re.findall(r"`([^`]+)`", line):
            if code.endswith(".py"):
                path = ROOT / code if code.startswith("theria/") else ROOT / "theria_lint" / code
                assert path.is_file(), line
                names = defined_names(path.read_text(encoding="utf-8"))
                files += 1
            else:
                assert names.issuperset(code.split(".")), f"{code}: {line}"
        assert 1 <= files <= 3, line


def test_the_rooms_are_those_that_exist() -> None:
    """Each of theria_lint's rooms and modules stands there, and each that stands there exists."""
    listed = re.findall(r"^ {6}(\w+/|\w+\.py(?:, \w+\.py)*)", ROOMS.split("theria_lint/ ", 1)[1], re.MULTILINE)
    named = {name.rstrip("/") for entry in listed for name in entry.split(", ")}
    found = {path.name for path in (ROOT / "theria_lint").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert named | {"errors.py"} == {name for name in found if not name.startswith("__")}
