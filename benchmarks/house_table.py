"""Measure how packages are built: python -m benchmarks.house_table [FOLDER ...].

Prints, of each package: modules and lines, lengths of functions, how many private functions one call names, tokens a
line, function names of one word, lines that are comments, and the modules of the room that finds calls; of all
together the longest chain of imports. Of ours, where no folder is named: the frames of our own code between the command
line and a measurement, which a kernel counts that is linted; those of both processes.
"""

from __future__ import annotations

import ast
import io
import json
import re
import statistics
import sys
import tempfile
import tokenize
import traceback
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from click.testing import CliRunner

ROOT = Path(__file__).parents[1]
_NO_TOKENS = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENCODING}
_FAILURE = re.compile(r"(\d+) frames in (\d+) modules")
KERNEL = """
import sys

def attention(q, k, v):
    frame, places = sys._getframe(1), []
    while frame is not None:
        places.append(frame.f_code.co_filename)
        frame = frame.f_back
    ours = [place for place in places if "theria" in place]
    if any(place.endswith("measure.py") for place in ours):
        raise RuntimeError(f"{len(ours)} frames in {len(set(ours))} modules")
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v
"""


class MeasuredPackage:
    """The modules of a folder, parsed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))}
        self.trees = {path: ast.parse(text) for path, text in self.texts.items()}
        self.functions = [node for tree in self.trees.values() for node in ast.walk(tree) if _is_function(node)]

    def count_lines(self) -> int:
        return sum(len(text.splitlines()) for text in self.texts.values())

    def list_lengths(self) -> list[int]:
        return sorted((node.end_lineno or node.lineno) - node.lineno + 1 for node in self.functions)

    def measure_called_once(self) -> float:
        """The share of private names of functions that one call names in all of the package."""
        calls = [node.func for tree in self.trees.values() for node in ast.walk(tree) if isinstance(node, ast.Call)]
        named = Counter(getattr(called, "attr", getattr(called, "id", None)) for called in calls)
        private = {node.name for node in self.functions if re.match(r"_[a-z]", node.name)}
        return _share(sorted(private), lambda name: named[name] == 1)

    def measure_single_words(self) -> float:
        names = [node.name.strip("_") for node in self.functions if not node.name.startswith("__")]
        return _share(names, lambda name: "_" not in name)

    def measure_tokens_a_line(self) -> float:
        """Tokens over lines that are not blank; a text of many lines is one token."""
        tokens = sum(map(_count_tokens, self.texts.values()))
        return tokens / sum(bool(line.strip()) for text in self.texts.values() for line in text.splitlines())

    def measure_comments(self) -> float:
        lines = [line.strip() for text in self.texts.values() for line in text.splitlines()]
        return _share(lines, lambda line: line.startswith("#"))

    def name_modules(self) -> dict[str, Path]:
        return {_name_module(path, self.folder.parent): path for path in self.texts}

    def read_imports(self, known: Collection[str]) -> dict[str, set[str]]:
        """By module, those that it imports of the known ones; imports in functions and for type checkers included."""
        found: dict[str, set[str]] = {}
        for module, path in self.name_modules().items():
            parts = module.split(".")
            package = parts if path.stem == "__init__" else parts[:-1]
            mentioned: list[str] = []
            for node in ast.walk(self.trees[path]):
                if isinstance(node, ast.Import):
                    mentioned += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    above = package[: len(package) - node.level + 1] if node.level else []
                    base = ".".join([*above, *([node.module] if node.module else [])])
                    mentioned += [f"{base}.{alias.name}" for alias in node.names]
            nearest = (next((m for m in (name, name.rpartition(".")[0]) if m in known), module) for name in mentioned)
            found[module] = set(nearest) - {module}
        return found


def find_longest_chain(packages: list[MeasuredPackage]) -> int:
    """How many modules the longest chain of imports goes through."""
    known = {module for package in packages for module in package.name_modules()}
    imports = {module: found for package in packages for module, found in package.read_imports(known).items()}
    lengths: dict[str, int] = {}

    def follow(module: str, before: tuple[str, ...] = ()) -> int:
        if module in before:
            return 0
        if module not in lengths:
            lengths[module] = 1 + max((follow(found, (*before, module)) for found in imports[module]), default=0)
        return lengths[module]

    return max(map(follow, imports))


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _share(items: list[str], test: Callable[[str], bool]) -> float:
    return 100 * sum(map(test, items)) / max(1, len(items))


def _name_module(path: Path, above: Path) -> str:
    parts = path.relative_to(above).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _count_tokens(text: str) -> int:
    found = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type not in _NO_TOKENS and bool(token.string) for token in found)


def count_frames() -> tuple[int, int]:
    """The frames of ours between the command line and a call that is measured, and the modules they are in."""
    from theria_lint.cli import run_command_line
    from theria_lint.confirm.worker_client import WorkerClient

    stacks: list[list[str]] = []
    run_jobs = WorkerClient.run_jobs

    def note_stack(self: WorkerClient, *arguments: object) -> object:
        stack = [frame.filename for frame in traceback.extract_stack()]
        stacks.append([name for name in stack if "theria_lint/" in name])
        return run_jobs(self, *arguments)  # type: ignore[arg-type]

    WorkerClient.run_jobs = note_stack  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.py"
        path.write_text(KERNEL, encoding="utf-8")
        options = ("--no-cache", "--device", "cpu", "--output-format", "json", "--python", sys.executable)
        printed = CliRunner().invoke(run_command_line, [*options, str(path)]).stdout
    told = _FAILURE.search(json.dumps(json.loads(printed)["targets"]))
    assert told is not None, printed
    parent = stacks[0]
    return len(parent) + int(told[1]), len(set(parent)) + int(told[2])


def print_table(package: MeasuredPackage) -> None:
    lengths = package.list_lengths()
    rows = {
        "modules / lines": f"{len(package.texts)} / {package.count_lines():,}",
        "lines a module, median / max": _describe([len(text.splitlines()) for text in package.texts.values()]),
        "function length median / p90 / max": f"{statistics.median(lengths):.0f} / {lengths[len(lengths) * 9 // 10]}"
        f" / {lengths[-1]}",
        "private functions called exactly once": f"{package.measure_called_once():.0f} %",
        "tokens a line": f"{package.measure_tokens_a_line():.1f}",
        "function names of one word": f"{package.measure_single_words():.0f} %",
        "lines that are `#` comments": f"{package.measure_comments():.1f} %",
    }
    if (room := package.folder / "worker" / "find_call").is_dir():
        rows["modules in find_call / lines"] = "{} / {:,}".format(*_count_room(room))
    print(f"| {package.folder.name} | |\n| --- | --- |")
    for name, value in rows.items():
        print(f"| {name} | {value} |")


def _describe(counts: list[int]) -> str:
    return f"{statistics.median(counts):.0f} / {max(counts)}"


def _count_room(room: Path) -> tuple[int, int]:
    texts = [path.read_text(encoding="utf-8") for path in room.glob("*.py")]
    return len(texts), sum(len(text.splitlines()) for text in texts)


def main() -> None:
    named = [Path(name).resolve() for name in sys.argv[1:]]
    packages = [MeasuredPackage(folder) for folder in named or (ROOT / "theria_lint", ROOT / "theria")]
    for package in packages:
        print_table(package)
    print(f"| together | |\n| --- | --- |\n| longest import chain | {find_longest_chain(packages)} |")
    if not named:
        frames, modules = count_frames()
        print(f"| frames from the command line to a measurement | {frames}, in {modules} modules |")


if __name__ == "__main__":
    main()
