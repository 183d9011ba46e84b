"""How the processor time of the static stage and of the reports grows with a file, shape by shape.

    python -m benchmarks.static_growth [--parts N] [--stage NAME]... [--share I/N] [SHAPE]...

A shape is a file made of N parts alike: every kind of statement and expression, in every kind of place (one function,
one function each, methods of one class, classes, the module), and ways in which parts can hang together (chains,
stars, bases, renames, names alike). Each is made of N and of 4N parts, and each stage is run on it in a process of its
own. Printed are the processor times, and the exponent between the two: 1 for a time that grows as the file does,
2 for one that grows with its square. What exceeds ``--exponent`` is listed again at the end, and is exit code 1.

The dynamic stage is not run. For the reports every suspect counts as confirmed, and every target as unsafe, with a run.
"""

from __future__ import annotations

import argparse
import gc
import math
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection

from benchmarks.growth_shapes import Shape, list_shapes
from theria_lint.ablate.rewriting import ablate_suspects
from theria_lint.config import FORMATS, Settings
from theria_lint.errors import SourceError
from theria_lint.model import Disposition, Finding, Rewrite, Run, Target, TargetResult, Verdict
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report import ReportView, render
from theria_lint.report.summary import compute_exit_code
from theria_lint.result import Environment, LintReport, ScannedFile
from theria_lint.rules.loader import load_rules
from theria_lint.static.module_uses import read_module_uses
from theria_lint.static.prefilter import may_hold_suspects
from theria_lint.static.scan import scan_called_functions, scan_source
from theria_lint.static.targets import find_targets
from theria_lint.suppress.apply import suppress_findings


@dataclass
class GrowthCase:
    """A file and what earlier stages found in it, for those that need that."""

    source: str
    suspects: tuple = ()  # type: ignore[type-arg]
    targets: tuple[Target, ...] = ()
    report: LintReport | None = None


RULES = load_rules()
PATH = "large.py"
_WHY = Reason(ReasonCode.SAFE_WITHOUT_THE_OTHERS, {"target": "attention"})
_RUN = Run("self", "cpu", "float64", "reference", "OK", Verdict.FIRST_ORDER_ONLY, _WHY)


def _scan(case: GrowthCase) -> None:
    case.suspects = scan_source(PATH, case.source, RULES)


def _find_targets(case: GrowthCase) -> None:
    case.targets = find_targets(PATH, case.source)


def _read_module_uses(case: GrowthCase) -> None:
    uses = read_module_uses(case.source)
    for name in ("attention", "attention_2", "f1", "C1", "Attention", "Attention1"):
        uses.find_module_use(name)


def _ablate(case: GrowthCase) -> None:
    ablate_suspects(case.source, case.suspects, substitute=True)


def _suppress(case: GrowthCase) -> None:
    findings = tuple(
        Finding(suspect, Disposition.CONFIRMED, Verdict.FIRST_ORDER_ONLY, _WHY) for suspect in case.suspects
    )
    if findings:
        changed = case.source.replace(".detach()", "")
        findings = (replace(findings[0], rewrite=Rewrite("attention", ((PATH, changed),))), *findings[1:])
    results = tuple(TargetResult(target, Verdict.FIRST_ORDER_ONLY, _WHY, (_RUN,)) for target in case.targets)
    report = LintReport(Environment(), 1, findings, results, (), sources={(PATH, None): case.source})
    scanned = [ScannedFile(PATH, case.suspects, case.targets, {None: case.source})]
    case.report = suppress_findings(report, scanned, Settings(), [PATH])


def _render(name: str, case: GrowthCase) -> None:
    assert case.report is not None
    render(case.report, name, ReportView(show_cleared=True, width=100))
    compute_exit_code(case.report, ("confirmed", "unsafe-target"))


STAGES: dict[str, Callable[[GrowthCase], None]] = {
    "prefilter": lambda case: may_hold_suspects(case.source.encode(), RULES) and None,
    "scan": _scan,
    "scan all": lambda case: scan_source(PATH, case.source, RULES, prefilter=False) and None,
    "scan called": lambda case: scan_called_functions(PATH, case.source, RULES, ("f1", "C1.forward")) and None,
    "targets": _find_targets,
    "uses": _read_module_uses,
    "ablate": _ablate,
    "suppress": _suppress,
    **{f"report {name}": partial(_render, name) for name in FORMATS},
}
NEEDED = ("scan", "targets", "suppress")
LIMIT = 60
"""Seconds of processor time for a file."""


def iter_times(shape: Shape, parts: int, wanted: Collection[str]) -> Iterator[tuple[str, float]]:
    """The processor time of each stage on a shape of so many parts, in seconds."""
    case = GrowthCase(shape(parts))
    gc.disable()  # as where files are scanned: whether it passes over all trees at some size or not is chance
    for name, stage in STAGES.items():
        if name in wanted or name in NEEDED:
            before = time.process_time()
            with suppress(SourceError, RecursionError):  # what is refused with a reason has ended
                stage(case)
            yield name, time.process_time() - before


def _send_times(sender: Connection, shape: Shape, parts: int, wanted: Collection[str]) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
    for found in iter_times(shape, parts, wanted):
        sender.send(found)


def measure_alone(shape: Shape, parts: int, wanted: Collection[str]) -> dict[str, float]:
    """The same in a process of its own, as far as it came in its time."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_times, args=(sender, shape, parts, wanted))
    process.start()
    sender.close()
    found = dict[str, float]()
    with suppress(EOFError):
        while True:
            name, seconds = receiver.recv()
            found[name] = seconds
    process.join()
    return found


def describe_growth(name: str, shape: Shape, options: argparse.Namespace) -> Iterator[str]:
    """One line for each stage that takes a time worth speaking of, with ``!`` before those that grow too much."""
    wanted = options.stage or list(STAGES)
    rows = [measure_alone(shape, count, wanted) for count in (options.parts, 4 * options.parts)]
    for stage in (stage for stage in STAGES if stage in wanted or stage in NEEDED):
        times = [row.get(stage, math.inf) for row in rows]
        if stage in wanted and times[-1] >= options.least:
            exponent = math.log(max(times[-1], 1e-3) / max(times[0], 1e-3), 4) if times[-1] < math.inf else math.inf
            mark = "!" if exponent > options.exponent else " "
            yield f"{mark} {name}: {stage}: {' '.join(f'{t:.2f}' for t in times)} s, exponent {exponent:.2f}"
        if times[-1] == math.inf:
            return


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the shapes that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help="those whose name holds it; all if there is none")
    parser.add_argument("--parts", type=int, default=1000, help="N, the number of parts of the smallest file")
    parser.add_argument("--stage", action="append", choices=list(STAGES), help="only this stage; again for more")
    parser.add_argument("--least", type=float, default=0.3, help="seconds at 4N from which on a stage is spoken of")
    parser.add_argument("--exponent", type=float, default=1.4, help="the largest exponent that is well")
    parser.add_argument(
        "--share", default="0/1", help="the I-th of N shares of the shapes, to measure them side by side"
    )
    options = parser.parse_args(arguments)
    share, shares = map(int, options.share.split("/"))
    bad = []
    named = [pair for pair in list_shapes() if not options.shapes or any(part in pair[0] for part in options.shapes)]
    for name, shape in named[share::shares]:
        for line in describe_growth(name, shape, options):
            print(line, flush=True)
            bad += [line] if line.startswith("!") else []
    print(f"{len(bad)} grow too much", *bad, sep="\n")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
