"""Plants one fault in each of many copies of sound attention callables, and counts what theria-lint says of them.

    python benchmarks/planted_faults.py PYTHON OUT [--count 2000] [--seed 0] [--batch 20] [--jobs 1]

PYTHON is the interpreter of an environment with published packages (benchmarks/field_report.py makes one). The
callables are the cases of benchmarks/cross_check that it finds safe there. A fault is a rewrite of one expression or
function that ran, drawn at random, in the callable itself or in any code of its package that it runs. The truth about
every copy comes from benchmarks/cross_check, by double backward beside central differences; it shares no code with the
linter. A fault may do no harm (a detached maximum): then the copy is as sound as the original.

OUT holds what was found, a line of JSON a copy; a run that was interrupted goes on where it ended. At the end stands a
table: for each kind of fault how many copies it made unsafe, and of those how many the linter calls unsafe, calls safe
(wanted: none), calls safe in silence (without a finding at the planted line that is not cleared, or another way of
calling that it calls unsafe), has no verdict for, puts into the right class, and confirms at a planted line; of the
sound ones how many it calls unsafe (wanted: none). The exit code is 1 if an unsafe copy was called safe.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

CROSS_CHECK = Path(__file__).parent / "cross_check"

Place = tuple[str, int, int, int, int]
"""File, line, column, last line, last column, as the parser counts them."""

WRAPPERS = {
    "detach": "({0}).detach()",
    "data": "({0}).data",
    "item": "(({0}) * (({0}).abs().mean().item() + 0.5))",
    "numpy": "torch.from_numpy(({0}).detach().cpu().numpy())",
    "lossy_cast": "((({0}) * 64).int().to(({0}).dtype) / 64)",
    "new_tensor": "torch.tensor(({0}).tolist(), dtype=({0}).dtype)",
    "hook": "_keep_gradient_only({0})",
    "saved_intermediate": "_Bend.apply({0})",
    "dropped_gradient": "_Scale.apply({0}, ({0}).mean())",
    "once_differentiable": "_Bend.apply({0})",
    "checkpoint": "torch.utils.checkpoint.checkpoint(torch.sin, {0}, use_reentrant=True)",
}
"""Faults that replace an expression."""

DECORATORS = {
    "no_grad_decorator": "@torch.no_grad()",
    "compile_decorator": '@torch.compile(backend="aot_eager")',
}
"""Faults that decorate a function."""

STATEMENTS = {"no_grad_statement": "with torch.no_grad(): "}
"""Faults that stand before an assignment."""

HELPERS = {
    "hook": """
def _keep_gradient_only(x):
    x = x * 1.0
    x.register_hook(lambda grad: grad.detach())
    return x
""",
    "saved_intermediate": """
class _Bend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.cos())
        return x + 0.5 * x.sin()

    @staticmethod
    def backward(ctx, grad):
        (slope,) = ctx.saved_tensors
        return grad * (1 + 0.5 * slope)
""",
    "dropped_gradient": """
class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(scale)
        return x * scale

    @staticmethod
    def backward(ctx, grad):
        (scale,) = ctx.saved_tensors
        return grad * scale, None
""",
    "once_differentiable": """
class _Bend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x + 0.5 * x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (1 + 0.5 * x.cos())
""",
    "checkpoint": "import torch.utils.checkpoint\n",
}
"""What a fault needs besides, put after the imports."""

KINDS = (*WRAPPERS, *DECORATORS, *STATEMENTS)


@dataclass(frozen=True)
class Planting:
    """A fault to plant: its kind, the case, the file relative to site-packages, the place, and where that is."""

    key: str
    kind: str
    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    where: str


@dataclass
class Source:
    """A module's text and tree."""

    text: str
    tree: ast.Module

    @property
    def import_end(self) -> int:
        """The line of the last import at the top level; 0 if torch is not imported there by its name."""
        imports = [node for node in self.tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.asname or alias.name for node in imports for alias in node.names if isinstance(node, ast.Import)}
        return max((node.end_lineno or 0 for node in imports), default=0) if "torch" in names else 0


@cache
def read_source(path: Path) -> Source:
    """Read and parse a module."""
    text = path.read_text()
    return Source(text, ast.parse(text))


def ask(python: Path, requests: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the answer of benchmarks/cross_check to each request, in order."""
    command = [str(python), str(CROSS_CHECK / "examine_copies.py")]
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        yield json.loads(line)


def ask_side_by_side(python: Path, requests: list[dict[str, Any]], jobs: int) -> Iterator[dict[str, Any]]:
    """Yield the answer to each request, in order, from several processes."""
    size = -(-len(requests) // jobs) or 1
    shares = [requests[start : start + size] for start in range(0, len(requests), size)]
    with ThreadPoolExecutor(jobs) as threads:
        for answers in threads.map(lambda share: list(ask(python, share)), shares):
            yield from answers


def list_keys(python: Path) -> list[str]:
    """The keys of all cases."""
    code = "import examine_copies, json; print(json.dumps(list(examine_copies.CASES)))"
    done = subprocess.run([python, "-c", code], cwd=CROSS_CHECK, capture_output=True, text=True, check=True)
    keys: list[str] = json.loads(done.stdout.splitlines()[-1])
    return keys


def find_sound_cases(python: Path, out: Path, jobs: int) -> dict[str, list[Place]]:
    """The cases that are safe as published, each with the places that gave a tensor with a graph; kept in OUT."""
    kept = out / "cases.json"
    if not kept.exists():
        keys = list_keys(python)
        found = zip(keys, ask_side_by_side(python, [{"key": key} for key in keys], jobs), strict=True)
        safe = [key for key, answer in found if answer.get("verdict") == "safe"]
        spied = ask_side_by_side(python, [{"key": key, "values": True} for key in safe], jobs)
        places = {key: answer.get("values", []) for key, answer in zip(safe, spied, strict=True)}
        kept.write_text(json.dumps({key: values for key, values in places.items() if values}))
    sound: dict[str, list[Place]] = json.loads(kept.read_text())
    return sound


def _enclosing(tree: ast.Module, line: int, column: int) -> list[ast.AST]:
    """The nodes around a place, from outside to inside."""
    chain: list[ast.AST] = []
    node: ast.AST | None = tree
    while node is not None:
        chain.append(node)
        node = next((child for child in ast.iter_child_nodes(node) if _holds(child, line, column)), None)
    return chain


def _holds(node: ast.AST, line: int, column: int) -> bool:
    first, last = getattr(node, "lineno", None), getattr(node, "end_lineno", None)
    if first is None or last is None:
        return False
    return (first, node.col_offset) <= (line, column) < (last, node.end_col_offset)  # type: ignore[attr-defined]


def describe_place(case: str, path: str, chain: list[ast.AST]) -> str:
    """Where a place stands, seen from the case: in another file, a helper, another method, a branch, an output, ..."""
    case_path, _, symbol = case.partition(":")
    if path != case_path:
        return "other file"
    names = [n.name for n in chain if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    if symbol not in names:
        classes = any(isinstance(n, ast.ClassDef) for n in chain)
        return "other class" if classes else "helper"
    if isinstance(chain[1], ast.ClassDef) and names[1:2] not in (["forward"], ["__call__"]):
        return "other method"
    if any(isinstance(n, ast.If | ast.IfExp) for n in chain):
        return "branch"
    return "output" if any(isinstance(n, ast.Return) for n in chain) else "body"


def choose_plantings(places: dict[str, list[Place]], site: Path, count: int, seed: int) -> list[Planting]:
    """Draw faults: a case, a kind and a place that suits it, each at random; no two alike."""
    drawing = random.Random(seed)
    keys, chosen = sorted(places), dict[Planting, None]()
    for _ in range(20 * count):
        if len(chosen) == count:
            break
        key, kind = drawing.choice(keys), drawing.choice(KINDS)
        path, *span = drawing.choice(places[key])
        relative = path.rpartition("site-packages/")[2]
        source = read_source(site / relative)
        chain = _enclosing(source.tree, span[0], span[1])
        found = _suit(kind, chain, tuple(span))
        if found and source.import_end:
            chosen[Planting(key, kind, relative, *found, describe_place(key, relative, chain))] = None
    return list(chosen)


def _suit(kind: str, chain: list[ast.AST], span: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """The span to rewrite for a kind of fault at a place."""
    if kind in WRAPPERS:
        targets = (ast.AugAssign, ast.Delete, ast.JoinedStr)
        return None if any(isinstance(node, targets) for node in chain) else (span[0], span[1], span[2], span[3])
    wanted = ast.FunctionDef if kind in DECORATORS else ast.Assign
    nodes = [node for node in chain if isinstance(node, wanted)]
    if not nodes or (kind in DECORATORS and nodes[-1].name == "__init__"):  # type: ignore[attr-defined]
        return None
    node: Any = nodes[-1]
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return first, node.col_offset, node.end_lineno, node.end_col_offset


def plant(planting: Planting, source: Source) -> tuple[str, set[int]]:
    """The text with the fault, and the lines that are to blame."""
    lines = source.text.encode().splitlines(keepends=True)
    first, last, kind = planting.line - 1, planting.end_line - 1, planting.kind
    if kind in DECORATORS:
        lines.insert(first, b" " * planting.column + DECORATORS[kind].encode() + b"\n")
        blamed = {first + 1, first + 2}
    elif kind in STATEMENTS:
        lines[first] = lines[first][: planting.column] + STATEMENTS[kind].encode() + lines[first][planting.column :]
        blamed = set(range(first + 1, last + 2))
    else:
        tail = lines[last][planting.end_column :]
        head = lines[first][: planting.column]
        body = b"".join(lines[first : last + 1])[planting.column : len(b"".join(lines[first : last + 1])) - len(tail)]
        planted = WRAPPERS[kind].replace("{0}", body.decode()).encode()
        lines[first : last + 1] = (head + planted + tail).splitlines(keepends=True)
        blamed = set(range(first + 1, first + 2 + planted.count(b"\n")))
    helper = HELPERS.get(kind, "").encode().splitlines(keepends=True)
    end = source.import_end
    lines[end:end] = helper
    blamed = {line + (len(helper) if line > end else 0) for line in blamed} | set(range(end + 1, end + 1 + len(helper)))
    return b"".join(lines).decode(), blamed


def make_copy(planting: Planting, site: Path, folder: Path) -> set[int]:
    """Copy the package of a case with the fault in it; return the lines to blame."""
    package = planting.key.partition("/")[0]
    shutil.copytree(site / package, folder / package, ignore=shutil.ignore_patterns("*.pyc", "__pycache__", "*.so"))
    text, blamed = plant(planting, read_source(site / planting.path))
    ast.parse(text)
    (folder / planting.path).write_text(text)
    return blamed


def skip_all_but(symbol: str, path: str, tree: ast.Module) -> Iterator[str]:
    """What a configuration says so that no function or class of a file is run but one."""
    for name in _list_symbols(tree):
        if name != symbol:
            yield f'[[targets]]\ntarget = "{path}:{name}"\nskip = true\n'


def _list_symbols(tree: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{name}" for name in _list_symbols(node))


def lint(python: Path, root: Path, paths: list[str], processes: int) -> dict[str, Any]:
    """The JSON report on files below a folder."""
    command = [sys.executable, "-m", "theria_lint", "--python", str(python), "--jobs", str(processes)]
    command += ["--output-format", "json", *paths]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def try_batch(python: Path, site: Path, work: Path, batch: list[Planting], processes: int) -> Iterator[dict[str, Any]]:
    """Plant a batch of faults, ask for the truth and for the linter's word, and yield a record of each."""
    shutil.rmtree(work, ignore_errors=True)
    blamed = {}
    for number, planting in enumerate(batch):
        try:
            blamed[f"{number:04}"] = make_copy(planting, site, work / f"{number:04}")
        except SyntaxError:
            continue
    copies = {name: batch[int(name)] for name in blamed}
    requests = [{"key": planting.key, "folder": str(work / name)} for name, planting in copies.items()]
    truths = dict(zip(copies, ask(python, requests), strict=True))
    runs = {name: planting for name, planting in copies.items() if "verdict" in truths.get(name, {})}
    settings: dict[str, list[str]] = {}
    for name, planting in runs.items():
        case_path, _, symbol = planting.key.partition(":")
        for path in {planting.path, case_path}:
            tree, only = read_source(site / path).tree, symbol if path == case_path else ""
            settings[f"{name}/{path}"] = list(skip_all_but(only, f"{name}/{path}", tree))
    (work / "theria-lint.toml").write_text("\n".join(text for texts in settings.values() for text in texts))
    paths = set(settings)
    report = lint(python, work, sorted(paths), processes) if paths else {"targets": [], "findings": []}
    for name, planting in copies.items():
        path, _, symbol = planting.key.partition(":")
        said = [t for t in report["targets"] if (t["path"], t["symbol"]) == (f"{name}/{path}", symbol)]
        found = [f for f in report["findings"] if f["path"] == f"{name}/{planting.path}" and f["line"] in blamed[name]]
        yield asdict(planting) | {
            "truth": truths.get(name, {}).get("verdict"),
            "error": truths.get(name, {}).get("error"),
            "said": said[0]["verdict"] if said else "no target",
            "reason": said[0]["reason"] if said else "",
            "otherwise": sorted({other["verdict"] for t in said for other in t["configurations"]}),
            "dispositions": sorted({f["disposition"] for f in found}),
        }


def _identify(record: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a planting from all others."""
    return tuple(record[field.name] for field in fields(Planting))


def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Try what was not tried yet; return the records of all."""
    out, kept = given.out.absolute(), given.out / "plantings.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    python = given.python.absolute()
    (site,) = (python.parent.parent / "lib").glob("python*/site-packages")
    plantings = choose_plantings(find_sound_cases(python, out, given.jobs), site, given.count, given.seed)
    records = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    tried = {_identify(record) for record in records}
    left = [planting for planting in plantings if _identify(asdict(planting)) not in tried]
    batches = [left[start : start + given.batch] for start in range(0, len(left), given.batch)]

    processes = max(1, (os.cpu_count() or 1) // given.jobs)

    def examine(number: int) -> list[dict[str, Any]]:
        batch = batches[number]
        by_name = {_identify(asdict(p)): {**asdict(p), "truth": None, "error": "it does not parse"} for p in batch}
        for record in try_batch(python, site, out / f"copies-{number}", batch, processes):
            by_name[_identify(record)] = record
        shutil.rmtree(out / f"copies-{number}", ignore_errors=True)
        return list(by_name.values())

    with ThreadPoolExecutor(given.jobs) as threads:
        for done in as_completed([threads.submit(examine, number) for number in range(len(batches))]):
            with kept.open("a") as file:
                file.writelines(json.dumps(record) + "\n" for record in done.result())
            records += done.result()
            print(f"{len(records)} of {len(plantings)}", file=sys.stderr, flush=True)
    return records


UNKNOWN = ("inconclusive", "no target")


def _is_reported(record: dict[str, Any]) -> bool:
    """Whether a run fails for a planting all the same: for its line, which was not cleared, or for how it is called."""
    unsafe = set(record["otherwise"]) - {"safe", *UNKNOWN}
    return bool(unsafe) or bool({"confirmed", "unconfirmed"}.intersection(record["dispositions"]))


COLUMNS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "unsafe": lambda r: r["truth"] != "safe",
    "called unsafe": lambda r: r["truth"] != "safe" and r["said"] not in ("safe", *UNKNOWN),
    "called safe": lambda r: r["truth"] != "safe" and r["said"] == "safe",
    "in silence": lambda r: r["truth"] != "safe" and r["said"] == "safe" and not _is_reported(r),
    "no verdict": lambda r: r["truth"] != "safe" and r["said"] in UNKNOWN,
    "right class": lambda r: r["truth"] not in ("safe",) and r["said"] == r["truth"],
    "confirmed at the line": lambda r: r["truth"] != "safe" and "confirmed" in r["dispositions"],
    "a suspect at the line": lambda r: r["truth"] != "safe" and bool(r["dispositions"]),
    "sound": lambda r: r["truth"] == "safe",
    "sound, called unsafe": lambda r: r["truth"] == "safe" and r["said"] not in ("safe", *UNKNOWN),
}


def print_table(records: list[dict[str, Any]], by: str) -> None:
    """Print the counts, a row for each value of a column of the records."""
    rows: dict[str, Counter[str]] = {}
    for record in records:
        for name in (record[by], "all"):
            rows.setdefault(name, Counter()).update(column for column, holds in COLUMNS.items() if holds(record))
    print(f"\n| {by} | " + " | ".join(COLUMNS) + " |\n" + "| --- " * (1 + len(COLUMNS)) + "|")
    for name in sorted(rows, key=lambda name: (name == "all", name)):
        print(f"| {name} | " + " | ".join(str(rows[name][column]) for column in COLUMNS) + " |")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", type=Path, help="the interpreter of an environment with the packages")
    parser.add_argument("out", type=Path, help="a folder for copies and records")
    parser.add_argument("--count", type=int, default=2000, help="how many copies")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--batch", type=int, default=20, help="how many copies are linted in one run")
    parser.add_argument("--jobs", type=int, default=1, help="how many batches are tried side by side")
    return parser.parse_args()


def main() -> None:
    """Print the tables."""
    records = run(parse_arguments())
    tried = [record for record in records if record["truth"]]
    print(f"{len(records)} copies, of which {len(tried)} run; callables: {len({r['key'] for r in tried})}")
    print_table(tried, "kind")
    print_table(tried, "where")
    wrong = [record for record in tried if COLUMNS["called safe"](record)]
    for record in wrong:
        place = f"{record['path']}:{record['line']}"
        print(f"called safe: {record['kind']} in {place} for {record['key']} ({record['truth']})")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
