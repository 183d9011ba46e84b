"""The static stage in several processes."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from theria_lint.model import LintError
from theria_lint.scanning import Plan, Scanned, Scanner, collections_seldom

_LARGEST_CHUNK = 32
_CRASHED = "made the parser crash; it is nested too deeply or needs too much memory: exclude it."


class _Process:
    """What lives in a process of the pool."""

    scanner: Scanner


def _start(plan: Plan) -> None:
    gc.freeze()
    _Process.scanner = Scanner(plan, {})


def _scan_chunk(paths: Sequence[str]) -> list[Scanned]:
    scanner = _Process.scanner
    with collections_seldom():
        results = [scanner.scan(path, data) for path in paths if (data := scanner.read(path)) is not None]
    return [found for found in results if found is not None]


def scan_in_processes(paths: Sequence[str], plan: Plan, processes: int) -> Iterator[Scanned]:
    """Scan ``paths`` in ``processes`` processes, in no fixed order; a file that kills its process is an error."""
    size = max(1, min(_LARGEST_CHUNK, len(paths) // (8 * processes)))
    chunks = [paths[start : start + size] for start in range(0, len(paths), size)]
    broken: list[Sequence[str]] = []
    with ProcessPoolExecutor(min(processes, len(chunks)), initializer=_start, initargs=(plan,)) as pool:
        futures: dict[Future[list[Scanned]], Sequence[str]] = {}
        for chunk in chunks:
            try:
                futures[pool.submit(_scan_chunk, chunk)] = chunk
            except BrokenProcessPool:
                broken.append(chunk)
        for future in as_completed(futures):
            try:
                yield from future.result()
            except BrokenProcessPool:
                broken.append(futures[future])
    for chunk in broken:
        for path in chunk:
            yield from _scan_alone(path, plan)


def _scan_alone(path: str, plan: Plan) -> list[Scanned]:
    with ProcessPoolExecutor(1, initializer=_start, initargs=(plan,)) as pool:
        try:
            return pool.submit(_scan_chunk, [path]).result()
        except BrokenProcessPool:
            return [Scanned(path, errors=(LintError(path, None, _CRASHED),))]
