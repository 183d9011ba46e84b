"""Lints published attention packages and prints the tables of docs/field-report.md.

    python benchmarks/field_report.py FOLDER [--reports REPORTS] [PACKAGE ...]

makes a virtual environment in FOLDER, installs the pinned packages there with pip, runs theria-lint on each (once, with
a 60 s limit a target) and prints one row a package, the share of targets with a verdict among those that can run on a
CPU, and the inconclusive targets with their reasons. With --reports it leaves the JSON reports in that folder, which
benchmarks/cross_check reads.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
import venv
from collections import Counter
from collections.abc import Iterable, Mapping
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
    "agent-attention-pytorch==0.1.7": "agent_attention_pytorch",
    "infini-transformer-pytorch==0.2.1": "infini_transformer_pytorch",
    "Mega-pytorch==0.1.0": "mega_pytorch",
    "recurrent-memory-transformer-pytorch==0.7.0": "recurrent_memory_transformer_pytorch",
    "slot-attention==1.5.2": "slot_attention",
    "native-sparse-attention-pytorch==0.2.3": "native_sparse_attention_pytorch",
    "titans-pytorch==0.5.5": "titans_pytorch",
    "CoLT5-attention==0.11.2": "colt5_attention",
    "reformer-pytorch==1.4.4": "reformer_pytorch",
    "sinkhorn-transformer==0.11.4": "sinkhorn_transformer",
    "vit-pytorch==1.26.11": "vit_pytorch",
}
VERDICTS = ("safe", "silent_collapse", "silent_corruption", "first_order_only", "hard_structural", "inconclusive")

_IMPORT = "could not be imported: "
IMPOSSIBLE = {
    "another package is missing, or it exits for want of one": (
        rf"{_IMPORT}.*(is missing|No module named)|ModuleNotFoundError|exits (the process|when)"
    ),
    "it cannot be imported as published": rf"{_IMPORT}(ImportError|AttributeError|NameError)",
    "a CUDA extension, or a GPU": r"CUDA extension|not support backwards?|NVIDIA|no CUDA",
    "a process group": r"process group",
    "a name that its own code does not define": r"NameError: name",
}
"""What keeps a callable from running on a CPU at all, whoever calls it: by what its reason says."""


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


def obstacle(target: Mapping[str, Any]) -> str | None:
    """Why a target cannot run on a CPU; None if it can, as far as its reason tells."""
    if target["verdict"] != "inconclusive":
        return None
    return next((name for name, pattern in IMPOSSIBLE.items() if re.search(pattern, target["reason"])), None)


def row(name: str, report: Mapping[str, Any]) -> str:
    """A line of the table."""
    targets = report["targets"]
    counts = Counter(target["verdict"] for target in targets)
    summary = report["summary"]
    suspects = f"{summary['suspects']} ({summary['confirmed']}/{summary['cleared']}/{summary['unconfirmed']})"
    cells = [name, suspects, len(targets), *(counts.get(verdict, 0) for verdict in VERDICTS)]
    return "| " + " | ".join(map(str, [*cells, share(targets), f"{report['seconds']:.0f}"])) + " |"


def share(targets: Iterable[Mapping[str, Any]]) -> str:
    """How many of the targets that can run on a CPU have a verdict."""
    able = [target for target in targets if obstacle(target) is None]
    known = sum(target["verdict"] != "inconclusive" for target in able)
    return f"{known} of {len(able)}" + (f" ({100 * known / len(able):.0f} %)" if able else "")


def reasons(reports: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """One line for each inconclusive target: those that cannot run on a CPU last, by what they lack."""
    lines = [
        (obstacle(target) or "", f"- {name}, `{target['symbol']}`: {target['reason']}")
        for name, report in reports.items()
        for target in report["targets"]
        if target["verdict"] == "inconclusive"
    ]
    for kind in dict.fromkeys(["", *IMPOSSIBLE]):
        found = [line for of_kind, line in lines if of_kind == kind]
        if found:
            yield f"\nCounted out, {kind}: {len(found)}" if kind else f"\nWithout a verdict: {len(found)}"
            yield from found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the virtual environment is, or is made")
    parser.add_argument("packages", nargs="*", help="names of packages; all by default")
    parser.add_argument("--reports", type=Path, help="a folder for the JSON reports")
    return parser.parse_intermixed_args()


def main() -> None:
    """Prints the tables."""
    given = arguments()
    python = environment(given.folder.absolute())
    reports = {}
    print("| package | suspects (confirmed/cleared/unconfirmed) | targets | " + " | ".join(VERDICTS), end="")
    print(" | verdict, of those that can run on a CPU | s |\n" + "| --- " * (5 + len(VERDICTS)) + "|")
    for requirement, place in PACKAGES.items():
        name = requirement.partition("==")[0]
        if given.packages and name not in given.packages:
            continue
        install(python, requirement)
        (modules,) = given.folder.absolute().glob(f"lib/python*/site-packages/{place}")
        report = reports[requirement] = lint(python, modules)
        if given.reports:
            given.reports.mkdir(parents=True, exist_ok=True)
            (given.reports / f"{name}.json").write_text(json.dumps(report))
        print(row(requirement, report), flush=True)
    print(f"\nIn all: {share(target for report in reports.values() for target in report['targets'])}")
    print("\n".join(reasons(reports)))


if __name__ == "__main__":
    main()
