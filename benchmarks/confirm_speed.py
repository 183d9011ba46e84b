"""Times the dynamic stage beside the import that nothing can do without.

    python benchmarks/confirm_speed.py [--runs N] [--jobs N] [--skip-corpus] [--skip-executors] [--workers N …]

prints, from interleaved whole-process runs: ``import torch, triton`` alone; what an eager file with two suspects, and
the example kernels, cost over it, in all, a target and a run of a target (variants are runs too); the example kernels
warm; and, run once, a corpus of 100 targets made of copies of the examples, interpreted Triton kernels among them. Then
the targets a minute of that corpus on 1, 2 and 4 workers, cold and warm, through each executor that is installed, on
the CPU and, where there are any, on the GPUs: on all of them, and on the first alone; with the processor time of the
linter itself, and what each GPU did meanwhile. That alone, as on a machine with two GPUs:

    python benchmarks/confirm_speed.py --runs 0 --workers 4 8
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from theria_lint.confirm.confirm import ConfirmSettings, confirm_suspects
from theria_lint.model import SourceFile
from theria_lint.rules.loader import load_rules
from theria_lint.static.scan import scan_source
from theria_lint.static.targets import find_targets

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "kernels"
CORPUS = 100
"""Targets in the corpus, where nothing else is said."""

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


IN_PLACE_OF_SLURM = """
import sys
from theria_lint.confirm import cluster_pools
pool = cluster_pools.SubmititPool
cluster_pools.SubmititPool = lambda cluster, jobs: pool("local", jobs)
from theria_lint.__main__ import main
main()
"""
"""Runs theria-lint with submitit's processes of this machine, where there is no Slurm."""


@contextmanager
def dask_workers(folder: Path, count: int, gpus: Sequence[str]) -> Iterator[str]:
    """A scheduler with so many workers, each a process that has a GPU, if there is one; its address as an executor."""
    told = folder / f"scheduler{count}.json"
    program = [sys.executable, "-m"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show", "--scheduler-file", str(told)]
    started = [subprocess.Popen([*program, "distributed.cli.dask_scheduler", *options], **quiet)]
    try:
        while not told.exists() or not told.read_text():
            time.sleep(0.1)
        for number in range(count):
            seen = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
            command = [*program, "distributed.cli.dask_worker", "--scheduler-file", str(told), "--no-nanny"]
            options = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)]
            started.append(subprocess.Popen([*command, *options], env={**os.environ, **seen}, **quiet))
        yield json.loads(told.read_text())["address"].replace("tcp://", "dask://")
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
        told.unlink(missing_ok=True)


@contextmanager
def watched_gpus() -> Iterator[dict[str, list[tuple[float, float]]]]:
    """How busy each GPU is, in percent, and how much of its memory is taken, in MiB, again and again."""
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    ended = threading.Event()
    query = ["nvidia-smi", "--query-gpu=index,utilization.gpu,memory.used", "--format=csv,noheader,nounits"]

    def look() -> None:
        while not ended.wait(0.5):
            for line in subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines():
                index, busy, memory = line.split(", ")
                seen[index].append((float(busy), float(memory)))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def list_gpus() -> list[str]:
    """The numbers of the GPUs."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()


def measure_executors(folder: Path, corpus: Path, targets: int, workers: Sequence[int]) -> None:
    gpus = list_gpus()
    print("\n| executor | device | workers | targets a minute, cold | warm | parent's processor time a target, cold |")
    print("| --- | --- | --- | --- | --- | --- |")
    several = ["cuda:0"] if len(gpus) > 1 else []
    for device in ["cpu", *several, *(["cuda"] if gpus else [])]:
        with watched_gpus() if device != "cpu" else nullcontext({}) as seen:
            for count in workers:
                measure_executor("local", corpus, targets, count, device, folder)
                if device == "cuda:0":  # for comparison with all of them
                    continue
                if find_spec("distributed"):
                    with dask_workers(folder, count, gpus if device == "cuda" else ()) as address:
                        measure_executor(address, corpus, targets, count, device, folder)
                if find_spec("submitit"):
                    measure_executor("slurm", corpus, targets, count, device, folder)
        for index, samples in sorted(seen.items()):
            busy, memory = (statistics.mean(values) for values in zip(*samples, strict=True))
            print(f"GPU {index}: busy {busy:.0f} % of the time, {memory:.0f} MiB taken, on average")


def measure_executor(executor: str, corpus: Path, targets: int, count: int, device: str, folder: Path) -> None:
    """One row: a run that finds nothing kept, and one that finds everything."""
    cache = tempfile.mkdtemp(dir=folder)
    name = executor.partition(":")[0]
    command = lint(corpus, count, "--device", device, "--executor", executor, "--cache-dir", cache)
    if executor == "slurm" and shutil.which("srun") is None:
        name = "slurm (submitit's local executor)"
        command = [sys.executable, "-c", IN_PLACE_OF_SLURM, *command[3:]]
    cold, warm = Times(name, command), Times(name, command)
    cold.run()
    warm.run()
    # What runs here beside the linter is not its own: only of a cluster is that nothing.
    own = f"{1000 * cold.processor[0] / targets:.0f} ms" if name == "dask" else ""
    rates = (f"{60 * targets / times.median:.0f}" for times in (cold, warm))
    print(f"| {name} | {device} | {count} | {' | '.join(rates)} | {own} |", flush=True)


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


def make_corpus(folder: Path, wanted: int) -> int:
    """Copies of the examples, in turn, until they hold enough targets; returns how many they hold."""
    examples = [(file, len(find_targets(str(file), file.read_text()))) for file in sorted(EXAMPLES.glob("*.py"))]
    total, turn = 0, 0
    while total < wanted:
        for file, count in examples:
            if count <= wanted - total:
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
    parser.add_argument("--skip-executors", action="store_true")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--targets", type=int, default=CORPUS, help="how many the corpus has")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        targets = make_corpus(folder / "corpus", options.targets)
        if options.runs:
            measure(folder, options.runs, options.jobs, 0 if options.skip_corpus else targets)
        if not options.skip_executors:
            measure_executors(folder, folder / "corpus", targets, options.workers)


def measure(folder: Path, runs: int, jobs: int, targets: int) -> None:
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
    if targets:
        corpus = Times(f"{targets} targets, {jobs} processes", lint(folder / "corpus", jobs, "--no-cache"))
        corpus.run()
        print(f"{corpus.name}: {corpus.median:.1f} s, on {len(os.sched_getaffinity(0))} processors")


if __name__ == "__main__":
    main()
