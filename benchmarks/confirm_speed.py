"""Times the dynamic stage beside the import that nothing can do without.

    python benchmarks/confirm_speed.py [PATH ...] [--runs N]

prints, from interleaved whole-process runs: ``import torch, triton`` alone, the linter cold on each path, and the
difference divided by the targets and variants that ran.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from theria_lint.dynamic import ConfirmSettings, confirm
from theria_lint.model import SourceFile
from theria_lint.static import find_targets, load_rules, scan

IMPORT = [sys.executable, "-c", "import torch, triton"]
LINT = [sys.executable, "-m", "theria_lint", "--no-cache", "--isolated", "--quiet"]


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=False, capture_output=True)
    return time.perf_counter() - began


def counts(path: Path) -> tuple[int, int]:
    """How many targets a path has, and how many runs of targets (variants included) the linter makes of them."""
    rules = load_rules()
    files = []
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        source = file.read_text(encoding="utf-8")
        files.append(SourceFile(str(file), source, scan(str(file), source, rules), find_targets(str(file), source)))
    runs: list[str] = []
    found = confirm(files, ConfirmSettings(), lambda name, done, known: runs.append(name))
    return len(found.targets), len(runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, default=[Path("examples/kernels")])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"import torch, triton": []} | {str(path): [] for path in options.paths}
    for _ in range(options.runs):
        times["import torch, triton"].append(seconds(IMPORT))
        for path in options.paths:
            times[str(path)].append(seconds([*LINT, str(path)]))
    alone = statistics.median(times["import torch, triton"])
    for name, found in times.items():
        spread = f"{min(found):.2f} … {max(found):.2f}"
        print(f"{name}: median {statistics.median(found):.2f} s ({spread}), {len(found)} runs")
    for path in options.paths:
        targets, runs = counts(path)
        over = statistics.median(times[str(path)]) - alone
        per_target, per_run = 1000 * over / max(targets, 1), 1000 * over / max(runs, 1)
        print(f"{path}: {over:.2f} s over the import; {targets} targets, {per_target:.0f} ms each; ", end="")
        print(f"{runs} runs of a target, {per_run:.0f} ms each")


if __name__ == "__main__":
    main()
