"""Classifies attention that was broken on purpose: every wrapper on every backend, one CSV row each.

    python experiments/phase11/scripts/run_bad_backend_diagnostics.py --backend all --steps 5 --inner-steps 5

What the columns mean: ``experiments/phase11/README.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import nullcontext
from dataclasses import asdict
from itertools import product
from pathlib import Path

try:
    import bad_backends
    import diagnostics
    import torch
    from bad_backends import WRAPPERS
    from diagnostics import BACKENDS, RecordedBase, Settings, circumstances, diagnose, measure_row
    from plots import MISSING_MATPLOTLIB, can_plot, plot_blocks, plot_rel_diff
    from table import Row, Table, TableError

    from theria_lint.config import LOCAL
    from theria_lint.confirm.cluster_pools import ClusterPool, ExecutorError, open_pool
    from theria_lint.report.sentences import say
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed here: run `pip install -e '.[confirm]'` in the checkout first")

DEFAULT_CSV = Path(__file__).resolve().parent.parent / "runs" / "bad_backend_diagnostics.csv"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the sweep; 0 when every row is in the table, 2 for settings that cannot be run, 130 when interrupted."""
    options = parse(arguments)
    torch.set_num_threads(1)  # the tensors are tiny: more threads only get in each other's way
    jobs = list_jobs(options)
    try:
        if options.plot and not can_plot():
            raise TableError(MISSING_MATPLOTLIB)
        table = Table(options.csv_out, circumstances(jobs[0][2]), fresh=options.fresh)
        with open_workers(options.executor) if options.executor != LOCAL else nullcontext() as pool:
            if pool is None:
                check_backends(jobs)
            run(jobs, table, pool)
    except TableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted: {options.csv_out} keeps what is finished, the same command resumes", file=sys.stderr)
        return 130
    rows = table.sorted()
    print(summary(rows))
    print(f"{options.csv_out}: {len(rows)} rows")
    if options.plot:
        draw(rows, options.csv_out.parent)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; argparse exits with 2 and a message for what it does not know."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s [--backend WRAPPER] [--attention-backend BACKEND] [--steps N] [--inner-steps N] [options]",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="\n  ".join(["wrappers:", "all", *WRAPPERS]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--backend",
        default="all",
        choices=["all", *WRAPPERS],
        metavar="WRAPPER",
        help="the wrapper to run, by the name that the published command has for it: one of those below",
    )
    parser.add_argument(
        "--attention-backend",
        default="all",
        choices=["all", *BACKENDS],
        metavar="BACKEND",
        help=f"the attention to put under it: all, {', '.join(BACKENDS)}",
    )
    parser.add_argument("--steps", type=positive, default=5, metavar="N", help="outer steps")
    parser.add_argument("--inner-steps", type=positive, default=5, metavar="N", help="steps of adaptation")
    parser.add_argument("--inner-steps-list", type=numbers(1), metavar="1,5,10,20", help="instead of --inner-steps")
    parser.add_argument("--inner-lr", type=float, default=0.4, metavar="RATE", help="of the adaptation")
    parser.add_argument("--seeds", type=numbers(0), default=[0], metavar="0,1,2", help="one row each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--dtype", choices=["float64", "float32", "bfloat16", "float16"], help="float64 on the CPU, else float32"
    )
    parser.add_argument("--executor", default=LOCAL, help="whose machines measure: local, dask://HOST:PORT or slurm")
    parser.add_argument("--csv-out", type=Path, default=DEFAULT_CSV, metavar="FILE", help="the table")
    parser.add_argument("--fresh", action="store_true", help="measure again what the CSV already holds")
    parser.add_argument("--plot", action="store_true", help="draw two PNGs beside the CSV")
    options = parser.parse_args(arguments)
    options.csv_out = shortest(options.csv_out)
    options.dtype = options.dtype or ("float64" if options.device == "cpu" else "float32")
    return options


def shortest(path: Path) -> Path:
    """The path as a person in the working directory would write it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def positive(text: str) -> int:
    """An integer of at least 1."""
    return numbers(1)(text)[0]


def numbers(least: int) -> Callable[[str], list[int]]:
    """The parser of a comma-separated list of different integers."""

    def parse_list(text: str) -> list[int]:
        try:
            values = sorted({int(part) for part in text.split(",")})
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 1,5,10") from None
        if values[0] < least:
            raise argparse.ArgumentTypeError(f"{values[0]} is below {least}")
        return values

    return parse_list


Job = tuple[str, str, Settings]
"""A wrapper, a backend and the settings of one row."""


def list_jobs(options: argparse.Namespace) -> list[Job]:
    """Every row that was asked for, the cheap backends first."""
    backends = list(BACKENDS) if options.attention_backend == "all" else [options.attention_backend]
    wrappers = list(WRAPPERS) if options.backend == "all" else [options.backend]
    depths = options.inner_steps_list or [options.inner_steps]
    return [
        (wrapper, backend, Settings(options.steps, depth, seed, options.inner_lr, options.device, options.dtype))
        for backend, wrapper, depth, seed in product(backends, wrappers, depths, options.seeds)
    ]


def check_backends(jobs: Sequence[Job]) -> None:
    """Runs each backend once on the device: a machine that lacks something must not look like a broken wrapper."""
    for backend, settings in {backend: settings for _, backend, settings in jobs}.items():
        try:
            x = torch.ones(1, 1, 2, 2, device=settings.device, dtype=getattr(torch, settings.dtype))
            RecordedBase(backend)(x, x, x)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise TableError(
                f"{backend} does not run on {settings.device} in {settings.dtype} ({reason}): "
                "choose another --device, --dtype or --attention-backend"
            ) from error


def open_workers(name: str) -> ClusterPool:
    """The workers of a cluster, which are sent the modules of this folder: there they can be imported nowhere."""
    try:
        pool = open_pool(name, os.cpu_count() or 1)
    except ExecutorError as error:
        raise TableError(say(error.reason)) from error
    import cloudpickle

    for module in (bad_backends, diagnostics):
        cloudpickle.register_pickle_by_value(module)
    return pool


def run(jobs: Sequence[Job], table: Table, pool: ClusterPool | None = None) -> None:
    """Measures what the table lacks, a line of progress each on stderr."""
    waiting = [job for job in jobs if row_key(job) not in table]
    if len(waiting) < len(jobs):
        print(f"{len(jobs) - len(waiting)} of {len(jobs)} rows are kept from {table.path}", file=sys.stderr)
    for number, ((wrapper, backend, settings), row) in enumerate(measure(waiting, pool), start=1):
        table.add(row)
        print(
            f"[{number:>{len(str(len(waiting)))}}/{len(waiting)}] {wrapper} on {backend}, "
            f"{settings.inner_steps} inner steps, seed {settings.seed}: {row['status']}, {row['verdict']} "
            f"({row['seconds']} s)",
            file=sys.stderr,
            flush=True,
        )


def measure(jobs: Sequence[Job], pool: ClusterPool | None) -> Iterator[tuple[Job, Row]]:
    """Each job with its row: here in their order, on workers as they end."""
    if pool is None:
        yield from ((job, diagnose(*job)) for job in jobs)
        return
    sent = {pool.submit(measure_row, json.dumps([w, b, asdict(s)]), name=f"{w} on {b}"): (w, b, s) for w, b, s in jobs}
    for future in as_completed(sent):
        try:
            yield sent[future], json.loads(future.result())
        except Exception as error:  # whatever a worker lacks, or has died of
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise TableError(f"{' on '.join(sent[future][:2])} was not measured by the executor ({reason})") from error


def row_key(job: Job) -> tuple[str, ...]:
    """What the table knows the job's row by."""
    wrapper, backend, settings = job
    return wrapper, backend, str(settings.inner_steps), str(settings.seed)


def summary(rows: Sequence[Row]) -> str:
    """The table in brief, for a terminal."""
    columns = {
        "wrapper": "wrapper",
        "attention_backend": "backend",
        "inner_steps": "inner",
        "status": "status",
        "verdict": "verdict",
        "attn_second_order_ok": "attn ok",
        "second_order_attn_inputs": "attn",
        "rel_diff_mean": "rel_diff",
        "meta_gradient_error": "error",
    }
    lines = [tuple(columns.values()), *(tuple(row[name] or "-" for name in columns) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Both figures, from every row of the table."""
    for name, plot in (("rel_diff_vs_inner_steps.png", plot_rel_diff), ("block_errors.png", plot_blocks)):
        plot(rows, folder / name)
        print(folder / name)


if __name__ == "__main__":
    sys.exit(main())
