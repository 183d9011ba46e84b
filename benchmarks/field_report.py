"""Lints published attention packages and prints the tables of docs/field-report.md.

    python benchmarks/field_report.py FOLDER [--reports REPORTS] [--executor EXECUTOR] [--guesses] [PACKAGE ...]

makes a virtual environment in FOLDER, installs the pinned packages there with pip, runs theria-lint on each (once, with
a 60 s limit a target) and prints one row a package, the share of targets with a verdict among those that can run on a
CPU, and the inconclusive targets with their reasons. With --reports it leaves the JSON reports in that folder, which
benchmarks/cross_check reads. With --guesses it prints instead how often each guess is what made a call work, which
guess_counts.py counts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import venv
from collections import Counter
from collections.abc import Container, Iterable, Mapping
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
    "MEGABYTE-pytorch==0.3.6": "MEGABYTE_pytorch",
    "adasplash==0.2.2": "adasplash",
    "adjacent-attention-pytorch==0.0.12": "adjacent_attention_network",
    "area-attention==0.1.0": "area_attention",
    "attnhut==0.5.0": "attnhut",
    "bottleneck-transformer-pytorch==0.1.4": "bottleneck_transformer_pytorch",
    "complex-valued-transformer==0.0.14": "complex_valued_transformer",
    "compositional-attention-pytorch==0.0.1": "compositional_attention_pytorch",
    "compressive-transformer-pytorch==0.4.0": "compressive_transformer_pytorch",
    "conformer==0.3.2": "conformer",
    "coordinate-descent-attention==0.0.11": "coordinate_descent_attention",
    "egnn-pytorch==0.2.8": "egnn_pytorch",
    "En-transformer==1.6.6": "en_transformer",
    "fast-transformer-pytorch==0.0.4": "fast_transformer_pytorch",
    "fast-weight-attention==0.3.1": "fast_weight_attention",
    "flash-attention-triton==0.1.1": "flash_attention_triton",
    "FLASH-pytorch==0.1.9": "flash_pytorch",
    "goat-attention==0.1.1": "goat",
    "grouped_query_attention_pytorch==0.3.0": "grouped_query_attention_pytorch",
    "gsa-pytorch==0.2.2": "gsa_pytorch",
    "halonet-pytorch==0.0.5": "halonet_pytorch",
    "invariant-point-attention==0.2.2": "invariant_point_attention",
    "isab-pytorch==0.3.0": "isab_pytorch",
    "iTransformer==0.8.1": "iTransformer",
    "jvp_flash_attention==0.14.0": "jvp_flash_attention",
    "kl-div-attention==0.1.6": "kl_div_attention",
    "lambda-networks==0.4.0": "lambda_networks",
    "leetDecoding==0.0.3": "leetDecoding",
    "lightning-attn==0.0.5": "lightning_attn",
    "lookahead-keys-attention==0.1.2": "lookahead_keys_attention",
    "memory-compressed-attention==0.0.7": "memory_compressed_attention",
    "mixture-of-attention==0.0.25": "mixture_of_attention",
    "moda-attention==0.1.0": "moda",
    "mtla==0.3.2": "mtla",
    "multihead-latent-attention==0.1.0": "mla",
    "noflash-attention==1.0.1": "noflash_attention",
    "pascal-attn==0.1.0": "pascal_attn",
    "sageattention==1.0.6": "sageattention",
    "se3-transformer-pytorch==0.9.0": "se3_transformer_pytorch",
    "simple-hierarchical-transformer==0.4.0": "simple_hierarchical_transformer",
    "simplicial-attention==0.1.6": "simplicial_attention",
    "slot-attention-pytorch==0.1.0": "slot_attention_pytorch",
    "srf-attention==1.0.16": "srf_attention",
    "strassen-attention==0.1.5": "strassen_attention",
    "tab-transformer-pytorch==0.6.1": "tab_transformer_pytorch",
    "torch-multi-head-attention==0.15.1": "torch_multi_head_attention",
    "torchscale==0.3.0": "torchscale",
    "trim-transformer==0.1.3": "trim_transformer",
    "trinix==0.1.4": "trinix",
    "triton-sigmoid==0.1.2": "triton_sigmoid",
    "uattn==0.1.0": "uattn",
    "x-clip==0.14.4": "x_clip",
}
STALE = (
    "adjacent-attention-pytorch",
    "grouped_query_attention_pytorch",
    "leetDecoding",
    "slot-attention-pytorch",
    "torch-multi-head-attention",
    "torchscale",
)
"""Packages that pin old versions of torch, triton or of one another: they are installed without what they ask for."""

VERDICTS = ("safe", "silent_collapse", "silent_corruption", "first_order_only", "hard_structural", "inconclusive")

_IMPORT = r"could not be imported[:;] "
IMPOSSIBLE = {
    "another package is missing, or it exits for want of one": (
        rf"{_IMPORT}.*(is missing|No module named)|ModuleNotFoundError|exits (the process|when)"
    ),
    "it cannot be imported as published": rf"{_IMPORT}(ImportError|AttributeError|NameError)",
    "a compiled extension, or a GPU": r"CUDA extension|C\+\+ extensions|not support backwards?|NVIDIA|no CUDA",
    "a process group": r"process group",
    "a name that its own code does not define": r"NameError: name",
}
"""What keeps a callable from running on a CPU at all, whoever calls it: by what its reason says."""

CAUSES = {
    "slower than the time limit": r"did not end within",
    "more memory than a probe may take": r"GiB of memory",
    "it could not be imported": _IMPORT,
    "arguments that could not be found": r"no way to call it worked",
    "its derivatives could not be told from differences": r"too coarse|not finite|jumps|unclear",
}
"""What the other inconclusive callables lack, likewise."""


def environment(folder: Path) -> Path:
    """The interpreter of an environment with what every package needs."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        install(python, *BASE)
    return python


def install(python: Path, *requirements: str) -> None:
    """Installs with pip; the base stays as it is pinned."""
    stale = any(requirement.partition("==")[0] in STALE for requirement in requirements)
    options = ["--no-deps"] if stale else list(BASE[:2])
    subprocess.run([python, "-m", "pip", "install", "-q", *options, *requirements], check=True)


def choose_packages(names: Container[str]) -> Iterable[tuple[str, str]]:
    """The packages of some names, all where there is none: each with the place of its modules."""
    for requirement, place in PACKAGES.items():
        if not names or requirement.partition("==")[0] in names:
            yield requirement, place


def find_modules(folder: Path, place: str) -> Path:
    """Where the modules of an installed package are."""
    (modules,) = folder.absolute().glob(f"lib/python*/site-packages/{place}")
    return modules


def lint(python: Path, folder: Path, executor: str) -> dict[str, Any]:
    """The JSON report on a folder of installed modules, with the seconds that it took."""
    command = [sys.executable, "-m", "theria_lint", "--python", str(python), "--timeout", "60", "--executor", executor]
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
    return next((name for name, pattern in IMPOSSIBLE.items() if re.search(pattern, told(target))), None)


def cause(target: Mapping[str, Any]) -> str:
    """Why a target that could run has no verdict."""
    return next((name for name, pattern in CAUSES.items() if re.search(pattern, told(target))), "another reason")


def told(target: Mapping[str, Any]) -> str:
    """What the report says of a target, on one line."""
    return "; ".join((target["reason"], *target.get("reason_notes", ())))


def tally(reports: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """The rows of a table: what keeps callables from a verdict, how many, and in which packages."""
    found: dict[tuple[bool, str], Counter[str]] = {}
    for name, report in reports.items():
        for target in report["targets"]:
            if target["verdict"] == "inconclusive":
                lack = obstacle(target)
                found.setdefault((lack is not None, lack or cause(target)), Counter())[name.partition("==")[0]] += 1
    for (out, kind), packages in sorted(found.items()):
        names = ", ".join(f"{name} {count}" if count > 1 else name for name, count in packages.items())
        yield f"| {'counted out: ' if out else ''}{kind} | {packages.total()} | {names} |"


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


def list_callables(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """The callables in a folder of installed modules, by file: what each is called, and its kind."""
    from theria_lint.config import resolve_settings
    from theria_lint.sources.discovery import discover_files
    from theria_lint.static.owners import add_owners
    from theria_lint.static.scan_files import scan_files

    settings = resolve_settings([str(folder)], {}, None, True).settings
    files = discover_files([str(folder)], settings, {}).files
    scanned = add_owners(scan_files(files, settings, {}), files, settings, {})
    return {
        str(Path(item.path).absolute()): [(target.symbol, str(target.kind)) for target in item.targets]
        for item in scanned
        if item.targets and item.path in files
    }


def count_guesses(python: Path, callables: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """What guess_counts.py says, a line each: first of the guesses that there are, then of every callable."""
    targets, tally = folder / "targets.json", folder / "tally.json"
    targets.write_text(json.dumps(callables))
    tally.unlink(missing_ok=True)
    command = [python, Path(__file__).with_name("guess_counts.py"), targets, tally]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def guess_rows(counted: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """The table of guesses: first those without which most callables have no call, last those that took no part."""
    known, *lines = counted
    told = [line for line in lines if "call" in line]  # the others are files that could not be imported
    used = Counter(name for callable_ in told for name in callable_.get("used", ()))
    without = Counter((name, left) for callable_ in told for name, left in callable_.get("without", {}).items())
    called = sum(callable_.get("call") is not None for callable_ in told)
    yield f"{called} of {len(told)} callables have a call.\n"
    yield "| guess | took part | taken away | no call | another call |\n| --- | --- | --- | --- | --- |"
    for name in sorted(
        known["guesses"], key=lambda name: (-without[name, "none"], -without[name, "other"], -used[name])
    ):
        lost, other = without[name, "none"], without[name, "other"]
        cells = [f"`{name}`".replace("|", "\\|"), used[name], lost + other + without[name, "same"], lost, other]
        if used[name]:
            yield "| " + " | ".join(map(str, cells)) + " |"
    idle = [name for name in known["guesses"] if not used[name]]
    yield f"\n{len(idle)} took part in no call: " + ", ".join(f"`{name}`" for name in idle)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the virtual environment is, or is made")
    parser.add_argument("packages", nargs="*", help="names of packages; all by default")
    parser.add_argument("--reports", type=Path, help="a folder for the JSON reports")
    parser.add_argument("--executor", default="local", help="whose machines run the code, as theria-lint has it")
    parser.add_argument("--guesses", action="store_true", help="count what makes calls work, and print that instead")
    return parser.parse_intermixed_args()


def main() -> None:
    """Prints the tables."""
    given = arguments()
    python = environment(given.folder.absolute())
    if given.guesses:
        callables: dict[str, Any] = {}
        for requirement, place in choose_packages(given.packages):
            install(python, requirement)
            callables |= list_callables(find_modules(given.folder, place))
        print("\n".join(guess_rows(count_guesses(python, callables, given.folder))))
        return
    reports = {}
    print("| package | suspects (confirmed/cleared/unconfirmed) | targets | " + " | ".join(VERDICTS), end="")
    print(" | verdict, of those that can run on a CPU | s |\n" + "| --- " * (5 + len(VERDICTS)) + "|")
    for requirement, place in choose_packages(given.packages):
        name = requirement.partition("==")[0]
        install(python, requirement)
        report = reports[requirement] = lint(python, find_modules(given.folder, place), given.executor)
        if given.reports:
            given.reports.mkdir(parents=True, exist_ok=True)
            (given.reports / f"{name}.json").write_text(json.dumps(report))
        print(row(requirement, report), flush=True)
    print(f"\nIn all: {share(target for report in reports.values() for target in report['targets'])}")
    print("\n| without a verdict for | callables | in |\n| --- | --- | --- |")
    print("\n".join([*tally(reports), *reasons(reports)]))


if __name__ == "__main__":
    main()
