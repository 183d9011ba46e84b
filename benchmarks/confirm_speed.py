"""Times the dynamic stage beside the import that nothing can do without.

    python benchmarks/confirm_speed.py [--runs N] [--jobs N] [--skip-corpus]

prints, from interleaved whole-process runs: ``import torch, triton`` alone; what an eager file with two suspects, and
the example kernels, cost over it, in all, a target and a run of a target (variants are runs too); the example kernels
warm; and, run once, a corpus of 100 targets made of copies of the examples, interpreted Triton kernels among them.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from theria_lint.confirm.confirm import ConfirmSettings, confirm_suspects
from theria_lint.model import SourceFile
from theria_lint.rules.loader import load_rules
from theria_lint.static.scan import scan_source
from theria_lint.static.targets import find_targets

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "kernels"
CORPUS = 100
"""Targets in the corpus."""

TWO_SUSPECTS = '''\
"""Attention with two places that may cut the graph: one does, one does not."""

import torch


def attention(q, k, v):
    logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    logits = logits - logits.amax(-1, keepdim=True).detach()
    weights = torch.exp(logits)
    weights = weights / weights.sum(-1, keepdim=True).detach()
    return weights @ v
'''


@dataclass
class Times:
    """Whole-process runs of one command: seconds by the clock and of processor time, children included."""

    name: str
    command: list[str]
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def run(self) -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = subprocess.run(self.command, check=False, capture_output=True, text=True)
        self.wall.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{self.name} failed:\n{done.stderr}")

    @property
    def median(self) -> float:
        return statistics.median(self.wall)

    def __str__(self) -> str:
        spread = f"{min(self.wall):.2f} … {max(self.wall):.2f}"
        return f"{self.name}: median {self.median:.2f} s ({spread}), {len(self.wall)} runs"


def lint(path: Path, jobs: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "theria_lint", "--isolated", "--quiet", "--jobs", str(jobs), *options, str(path)]


def counts(path: Path, jobs: int) -> tuple[int, int]:
    """How many targets a path has, and how many runs of targets (variants included) the linter makes of them."""
    rules = load_rules()
    files = []
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        source = file.read_text(encoding="utf-8")
        files.append(
            SourceFile(str(file), source, scan_source(str(file), source, rules), find_targets(str(file), source))
        )
    known = [0]
    found = confirm_suspects(files, ConfirmSettings(jobs=jobs), lambda what, done, runs: known.append(runs))
    return len(found.targets), max(known)


def make_corpus(folder: Path) -> int:
    """Copies of the examples, in turn, until they hold enough targets; returns how many they hold."""
    examples = [(file, len(find_targets(str(file), file.read_text()))) for file in sorted(EXAMPLES.glob("*.py"))]
    total, turn = 0, 0
    while total < CORPUS:
        for file, count in examples:
            if count <= CORPUS - total:
                (folder / f"copy{turn}").mkdir(exist_ok=True)
                shutil.copy(file, folder / f"copy{turn}")
                total += count
        turn += 1
    return total


def report(times: Times, alone: Times, targets: int, runs: int) -> None:
    over = times.median - alone.median
    print(
        f"{times.name}: {over:.2f} s over the import; {targets} targets, {1000 * over / targets:.0f} ms each; ", end=""
    )
    print(f"{runs} runs of a target, {1000 * over / runs:.0f} ms each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--skip-corpus", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(folder, options.runs, options.jobs, with_corpus=not options.skip_corpus)


def measure(folder: Path, runs: int, jobs: int, *, with_corpus: bool) -> None:
    eager = folder / "eager.py"
    eager.write_text(TWO_SUSPECTS)
    alone = Times("import torch, triton", [sys.executable, "-c", "import torch, triton"])
    cold = [
        Times("an eager file with two suspects", lint(eager, jobs, "--no-cache")),
        Times("the example kernels", lint(EXAMPLES, jobs, "--no-cache")),
    ]
    warm = Times("the example kernels, warm", lint(EXAMPLES, jobs, "--cache-dir", str(folder / "cache")))
    subprocess.run(warm.command, check=False, capture_output=True)
    for _ in range(runs):
        for times in (alone, *cold, warm):
            times.run()
    for times in (alone, *cold, warm):
        print(times)
    print(f"warm: {statistics.median(warm.processor):.2f} s of processor time")
    for times, path in zip(cold, (eager, EXAMPLES), strict=True):
        report(times, alone, *counts(path, jobs))
    if with_corpus:
        (folder / "corpus").mkdir()
        total = make_corpus(folder / "corpus")
        corpus = Times(f"{total} targets, {jobs} processes", lint(folder / "corpus", jobs, "--no-cache"))
        corpus.run()
        print(f"{corpus.name}: {corpus.median:.1f} s, on {len(os.sched_getaffinity(0))} processors")


if __name__ == "__main__":
    main()
