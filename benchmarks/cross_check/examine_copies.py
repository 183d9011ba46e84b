"""Examines cases in copies of their packages, each in a process of its own: the truth of benchmarks/planted_faults.py.

    PYTHON benchmarks/cross_check/examine_copies.py < REQUESTS

Every line of the input is a request in JSON: ``key``, a case; ``folder``, what holds the copy ("" for the installed
package); and ``values``, true where the answer is to list the expressions of the package that gave a tensor with a
graph. For each request, in order, one line of JSON: ``verdict``, or ``error``; and ``values`` where asked. It shares no
code with the linter.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import json
import os
import signal
import sys
import warnings
from operator import attrgetter
from types import CodeType
from typing import Any

import cases
import cases_kernels
import cases_mixed
import cases_vit
import torch
from measure_case import Check, run

CASES = cases.CASES | cases_vit.CASES | cases_mixed.CASES | cases_kernels.CASES
SECONDS = 60
"""How long one request may take."""

SPIED = (ast.Name, ast.Attribute, ast.Call, ast.BinOp, ast.Subscript, ast.IfExp)
"""The kinds of expressions that are looked at."""

Place = tuple[str, int, int, int, int]
"""File, line, column, last line, last column, as the parser counts them."""


class SpyTransformer(ast.NodeTransformer):
    """Hands the value of every expression inside a function to ``note``, which returns it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Leave decorators, annotations and defaults alone."""
        self.depth += 1
        node.body = [self.visit(statement) for statement in node.body]
        self.depth -= 1
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Leave the annotation alone."""
        if node.value:
            node.value = self.visit(node.value)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Leave texts alone: what stands in them has no place of its own."""
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Leave what is called alone: it gives no tensor."""
        if isinstance(node.func, ast.Attribute):
            node.func.value = self.visit(node.func.value)
        node.args = [self.visit(argument) for argument in node.args]
        for keyword in node.keywords:
            keyword.value = self.visit(keyword.value)
        return self._spy(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Wrap the expression after those in it."""
        node = super().generic_visit(node)
        return self._spy(node) if isinstance(node, SPIED) and not isinstance(node, ast.Call) else node

    def _spy(self, node: Any) -> ast.AST:
        if not self.depth or not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            return node
        place = (self.path, node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)
        call = ast.Call(ast.Name("_spy_note", ast.Load()), [ast.Constant(place), node], [])
        return ast.fix_missing_locations(ast.copy_location(call, node))


def spy_on(package: str) -> set[Place]:
    """Collect from now on the places in a package whose value is a floating-point tensor with a graph."""
    found: set[Place] = set()

    def note(place: Place, value: Any) -> Any:
        tensor = isinstance(value, torch.Tensor)
        if tensor and value.requires_grad and value.is_floating_point() and torch.is_grad_enabled():
            found.add(place)
        return value

    compile_source = importlib.machinery.SourceFileLoader.source_to_code

    def source_to_code(loader: Any, data: Any, path: Any, *options: Any, **more: Any) -> CodeType:
        if f"{os.sep}{package}{os.sep}" in str(path) and "site-packages" in str(path):
            data = SpyTransformer(str(path)).visit(ast.parse(data))
        return compile_source(loader, data, path, *options, **more)

    vars(builtins)["_spy_note"] = note
    importlib.machinery.SourceFileLoader.source_to_code = source_to_code  # type: ignore[method-assign, assignment]
    importlib.machinery.SourceFileLoader.get_code = _compile_afresh  # type: ignore[method-assign, assignment]
    return found


def _compile_afresh(loader: Any, name: str) -> CodeType:
    """Compile a module from its source, whatever bytecode lies beside it."""
    path = loader.get_filename(name)
    code: CodeType = loader.source_to_code(loader.get_data(path), path)
    return code


def answer(key: str, folder: str, values: bool) -> dict[str, Any]:
    """The answer to a request."""
    path, _, symbol = key.partition(":")
    places = spy_on(path.partition("/")[0]) if values else set()
    if folder:
        sys.path.insert(0, folder)
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    target = attrgetter(symbol)(importlib.import_module(module))
    if folder and not str(sys.modules[module].__file__).startswith(folder):
        return {"error": "the installed package was imported in place of the copy"}
    torch.manual_seed(3)
    case = CASES[key](target)
    if values:
        places.clear()
        run(case.function, [t.detach().clone().requires_grad_() for t in case.inputs.values()])
        return {"values": sorted(places)}
    found = Check(case).examine()
    return {"verdict": found.verdict(), "counts": found.counts(), "raised": found.raised}


def answer_in_child(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request, from a process that leaves nothing behind."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        signal.alarm(SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        try:
            found = answer(request["key"], request.get("folder", ""), request.get("values", False))
        except BaseException as error:
            found = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(found))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    found = json.loads(text) if text else {"error": f"it did not end within {SECONDS} s, or crashed"}
    return found if isinstance(found, dict) else {"error": "no answer"}


def main() -> None:
    """Answer the requests of standard input."""
    warnings.simplefilter("ignore")
    os.environ["TRITON_INTERPRET"] = "1"
    torch.cuda.get_device_capability = lambda *_: (8, 0)  # type: ignore[assignment]
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(answer_in_child(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
