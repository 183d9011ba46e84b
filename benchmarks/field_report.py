"""Lints published attention packages and prints the table of docs/field-report.md.

    python benchmarks/field_report.py FOLDER [PACKAGE ...]

makes a virtual environment in FOLDER, installs the pinned packages there with pip, runs theria-lint on each (once, with
a 60 s limit a target) and prints one row a package, then the inconclusive targets with their reasons.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import venv
from collections import Counter
from pathlib import Path
from typing import Any

BASE = ("torch==2.13.0", "triton==3.9.0", "numpy", "einops", "transformers==5.23.0")
PACKAGES = {
    "fla-core==0.6.0": "fla/ops",
    "liger-kernel==0.8.5": "liger_kernel",
    "x-transformers==2.31.10": "x_transformers",
    "local-attention==1.11.2": "local_attention",
    "linformer==0.2.3": "linformer",
    "performer-pytorch==1.1.4": "performer_pytorch",
    "nystrom-attention==0.0.14": "nystrom_attention",
    "memory-efficient-attention-pytorch==0.1.6": "memory_efficient_attention_pytorch",
    "perceiver-pytorch==0.11.0": "perceiver_pytorch",
    "axial-attention==0.6.1": "axial_attention",
    "taylor-series-linear-attention==0.2.0": "taylor_series_linear_attention",
    "ring-attention-pytorch==0.5.20": "ring_attention_pytorch",
    "linear-attention-transformer==0.19.1": "linear_attention_transformer",
    "flash-cosine-sim-attention==0.2.2": "flash_cosine_sim_attention",
    "routing-transformer==1.6.1": "routing_transformer",
}
VERDICTS = ("safe", "silent_collapse", "silent_corruption", "first_order_only", "hard_structural", "inconclusive")


def environment(folder: Path) -> Path:
    """The interpreter of an environment with what every package needs."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        install(python, *BASE)
    return python


def install(python: Path, *requirements: str) -> None:
    """Installs with pip; the base stays as it is pinned."""
    subprocess.run([python, "-m", "pip", "install", "-q", *BASE[:2], *requirements], check=True)


def lint(python: Path, folder: Path) -> dict[str, Any]:
    """The JSON report on a folder of installed modules, with the seconds that it took."""
    command = [sys.executable, "-m", "theria_lint", "--python", str(python), "--timeout", "60"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--output-format", "json", str(folder)], capture_output=True, text=True, check=False
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return {**report, "seconds": time.monotonic() - began}


def row(name: str, report: dict[str, Any]) -> str:
    """A line of the table."""
    counts = Counter(target["verdict"] for target in report["targets"])
    cells = [name, report["summary"]["suspects"], len(report["targets"])]
    cells += [counts.get(verdict, 0) for verdict in VERDICTS]
    return "| " + " | ".join(map(str, [*cells, f"{report['seconds']:.0f}"])) + " |"


def main() -> None:
    """Prints the table and the reasons."""
    folder, *wanted = sys.argv[1:]
    python = environment(Path(folder).absolute())
    reasons = []
    print("| package | suspects | targets | " + " | ".join(VERDICTS) + " | s |")
    print("| --- " * (4 + len(VERDICTS)) + "|")
    for requirement, place in PACKAGES.items():
        if wanted and requirement.partition("==")[0] not in wanted:
            continue
        install(python, requirement)
        (modules,) = Path(folder).absolute().glob(f"lib/python*/site-packages/{place}")
        report = lint(python, modules)
        print(row(requirement, report), flush=True)
        unknown = [target for target in report["targets"] if target["verdict"] == "inconclusive"]
        reasons += [f"- {requirement}, `{target['symbol']}`: {target['reason']}" for target in unknown]
    print("\n" + "\n".join(reasons))


if __name__ == "__main__":
    main()
