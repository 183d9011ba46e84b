"""Scan many files: read, prefilter and scan each, in as many processes as pay for themselves."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from theria_lint.config import Settings, list_named_symbols, names_file
from theria_lint.errors import ReadError, SourceError
from theria_lint.result import LintError, ScannedFile, make_file_error
from theria_lint.sources.source_text import (
    TENSOR_WORDS,
    check_syntax,
    decode_source,
    is_valid_python,
    may_hold_targets,
    read_bytes,
)
from theria_lint.time_limit import OutOfTimeError, limit_processor_time

if TYPE_CHECKING:
    from concurrent.futures import Future

    from theria_lint.model import Suspect, Target
    from theria_lint.rules.loader import RuleSet
    from theria_lint.sources.notebook import Notebook
    from theria_lint.static.static_cache import StaticCache

FILE_SECONDS = 20.0
"""Of processor time. A file of ten thousand lines, as no person writes one, takes about two."""

_Read = TypeVar("_Read")

# Of an ignore comment.
IGNORE_MARK = b"theria:"
# Above so many bytes processes pay for themselves by what every file costs (0.1 s a megabyte; a process costs 50 ms).
_MANY_BYTES = 1024 * 1024
# Above so many, of the files that need a closer look, by that (0.5 s a megabyte).
_MANY_LOOKED_AT = 300_000
# Up to so many files the cache is asked before the rules are loaded.
_FEW_FILES = 8
# Up to so many bytes in all (0.4 s) every file is parsed as a whole, and its targets are counted, run or not; above, as
# far as the search for suspects needs it.
PARSED_WHOLE = 4 * 1024 * 1024
# About what the trees of a few large files hold.
_OBJECTS = 2_000_000


class ScanConfig(NamedTuple):
    """What a scanner needs to know, small enough to send to a process; ``cache_dir`` "" is the user's, None none.

    ``linted`` are the configuration's folder and what is linted, ``named`` the modules and symbols that it calls
    targets.
    """

    rule_paths: tuple[str, ...]
    detach_names: tuple[str, ...]
    want_targets: bool
    parse_whole: bool
    few: bool
    cache_dir: str | None
    linted: tuple[str, ...]
    named: tuple[tuple[str, str], ...] = ()


def scan_files(paths: Sequence[str], settings: Settings, given: Mapping[str, bytes]) -> list[ScannedFile]:
    """Scan ``paths``; ``given`` holds the content of those not on disk. Sorted by path, without the clean ones."""
    sizes = {path: _get_file_size(path) for path in paths}
    size = sum(sizes.values())
    scanner = Scanner(make_scan_config(paths, size, settings), given)
    processes = 1 if given else settings.jobs or os.cpu_count() or 1
    rest = list(paths)
    if processes == 1 or len(paths) == 1 or size <= _MANY_BYTES:
        with collect_garbage_rarely():
            survivors = [(path, data) for path in paths if (data := scanner.read_candidate(path)) is not None]
            size = sum(len(data) for _, data in survivors if isinstance(data, bytes))
            if processes == 1 or len(survivors) <= 1 or size <= _MANY_LOOKED_AT:
                return [found for path, data in survivors if (found := scanner.scan_file(path, data)) is not None]
        rest = [path for path, _ in survivors]

    rest.sort(key=sizes.__getitem__, reverse=True)  # a large file that came last would be waited for
    return sorted(scan_in_processes(rest, scanner.scan_config, processes), key=lambda found: found.path)


@contextmanager
def collect_garbage_rarely() -> Iterator[None]:
    """Trees are garbage in one piece, a file at a time: looking for it every 700 objects would double the run."""
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def make_scan_config(paths: Sequence[str], size: int, settings: Settings) -> ScanConfig:
    """The plan for files of so many bytes in all."""
    cache_dir = settings.cache_dir or "" if settings.cache else None
    few = len(paths) <= _FEW_FILES
    whole = size <= PARSED_WHOLE
    return ScanConfig(
        settings.rule_paths,
        settings.detach_names,
        settings.confirm or whole,
        whole,
        few,
        cache_dir,
        settings.linted,
        list_named_symbols(settings.targets),
    )


def counts_targets(paths: Sequence[str], settings: Settings) -> bool:
    """Whether targets are looked for: where they are run, or where the files are parsed as a whole anyway."""
    return settings.confirm or sum(map(_get_file_size, paths)) <= PARSED_WHOLE


def _get_file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def read_or_none(read: Callable[[], _Read]) -> _Read | None:
    """What is read of a file in its time; None where that cannot be: `scan_files` says why, if it is linted."""
    try:
        with limit_processor_time(FILE_SECONDS):
            return read()
    except (ReadError, SourceError, RecursionError, MemoryError, OutOfTimeError):
        return None


class Scanner:
    """Scans one file after another; rules and cache are loaded when the first file needs them."""

    def __init__(self, scan_config: ScanConfig, given: Mapping[str, bytes]) -> None:
        self.scan_config = scan_config
        self._given = given
        self._holding: set[str] = set()
        self._roots = [*TENSOR_WORDS, *(name.partition(".")[0].encode() for name in scan_config.detach_names)]

    @cached_property
    def rules(self) -> RuleSet:
        """The rules in force. Raises UserError for a rule that does not load."""
        return load_configured_rules(self.scan_config.rule_paths, self.scan_config.detach_names)

    @cached_property
    def cache(self) -> StaticCache | None:
        """Results of earlier runs, if the settings allow it."""
        if self.scan_config.cache_dir is None:
            return None
        from theria_lint.cache import compute_stamp, place_of
        from theria_lint.static.static_cache import StaticCache

        package = os.path.dirname(os.path.dirname(__file__))
        code = (os.path.join(package, room) for room in ("static", "rules", "sources"))
        directories = (*code, os.path.join(os.path.dirname(package), "rules"))
        place = place_of(self.scan_config.cache_dir or None, self.scan_config.linted)
        stamp = compute_stamp(directories, self.scan_config.detach_names, self.scan_config.rule_paths)
        return StaticCache(place, stamp)

    def read_candidate(self, path: str) -> bytes | LintError | None:
        """The content of a file that needs a closer look, why it cannot be read, or None for one with nothing in it."""
        try:
            data = self._given[path] if path in self._given else read_bytes(path)
        except ReadError as error:
            return make_file_error(path, error)
        return data if self._is_interesting(path, data) else None

    def _is_interesting(self, path: str, data: bytes) -> bool:
        # Rules cost 15 ms to load: most files do not even say torch.
        if any(root in data for root in self._roots) and self._may_hold_suspects(path, data):
            self._holding.add(path)
            return True
        if (
            IGNORE_MARK in data
            or self._list_named(path, data)
            or (self.scan_config.want_targets and may_hold_targets(data))
        ):
            return True
        return self.scan_config.parse_whole and (path.endswith(".ipynb") or not is_valid_python(data))

    def _list_named(self, path: str, data: bytes) -> list[str]:
        """The symbols of a file that the configuration calls targets, as far as its text tells; sorted."""
        named = {symbol for module, symbol in self.scan_config.named if names_file(module, path)}
        return sorted(symbol for symbol in named if symbol.partition(".")[0].encode() in data)

    def _may_hold_suspects(self, path: str, data: bytes) -> bool:
        """The prefilter; for a few files the cache is asked first, for many it would be slower than the prefilter."""
        if self.scan_config.few and self.cache:
            known = self.cache.load_suspects(path, data)
            if known is not None:
                return bool(known)
        from theria_lint.static.prefilter import may_hold_suspects

        may = may_hold_suspects(data, self.rules)
        if self.scan_config.few and self.cache and not may:
            self.cache.store_suspects(path, data, ())
        return may

    def scan_file(self, path: str, data: bytes | LintError) -> ScannedFile | None:
        """What a file that `read_candidate` returned holds; None for nothing at all."""
        if isinstance(data, LintError):
            return ScannedFile(path, errors=(data,))
        try:
            with limit_processor_time(FILE_SECONDS):
                return self._scan_notebook(path, data) if path.endswith(".ipynb") else self._scan_module(path, data)
        except OutOfTimeError:
            return ScannedFile(
                path, errors=(make_file_error(path, SourceError("too_slow_to_check", seconds=FILE_SECONDS)),)
            )
        except (ReadError, SourceError) as error:
            return ScannedFile(path, errors=(make_file_error(path, error),))
        except (RecursionError, MemoryError):
            return ScannedFile(path, errors=(make_file_error(path, SourceError("nested_too_deeply")),))
        except Exception as error:
            failed = SourceError("internal_error", kind=type(error).__name__, message=str(error))
            return ScannedFile(path, errors=(make_file_error(path, failed),))

    def _scan_module(self, path: str, data: bytes) -> ScannedFile | None:
        text = decode_source(data)
        if self.scan_config.parse_whole:
            check_syntax(text)
        suspects = self._scan_suspects(path, data, text)
        found = self.scan_targets(path, data, text) if self.scan_config.want_targets else ()
        targets = tuple(target for target in found if not target.needs)
        candidates = tuple(target for target in found if target.needs)
        if not suspects and not targets and IGNORE_MARK not in data:
            return ScannedFile(path, candidates=candidates) if candidates else None
        return ScannedFile(path, suspects, targets, {None: text}, candidates=candidates)

    def _scan_suspects(self, path: str, data: bytes, text: str) -> tuple[Suspect, ...]:
        roots = list_entry_symbols(self._list_named(path, data))
        known = self.cache.load_suspects(path, data, roots) if self.cache else None
        if known is not None:
            return known
        from theria_lint.static.prefilter import may_hold_suspects
        from theria_lint.static.scan import scan_called_functions, scan_source

        if roots:
            found = scan_called_functions(path, text, self.rules, roots)
            if self.cache:
                self.cache.store_suspects(path, data, found, roots)
            return found
        if path not in self._holding and not may_hold_suspects(text.encode("utf-8", "surrogatepass"), self.rules):
            return ()
        found = scan_source(path, text, self.rules)
        if self.cache:
            self.cache.store_suspects(path, data, found)
        return found

    def scan_targets(self, path: str, data: bytes, text: str) -> tuple[Target, ...]:
        """The targets and candidates of a file. Raises SourceError."""
        named = self._list_named(path, data)
        if not may_hold_targets(data) and not named:
            return ()
        known = self.cache.load_targets(path, data, named) if self.cache else None
        if known is not None:
            return known
        from theria_lint.static.targets import find_targets_and_candidates

        found = find_targets_and_candidates(path, text, named, self.rules.tokens)
        if self.cache:
            self.cache.store_targets(data, found, named)
        return found

    def _scan_notebook(self, path: str, data: bytes) -> ScannedFile | None:
        from theria_lint.sources.notebook import read_notebook

        notebook = read_notebook(data)
        try:
            check_syntax(notebook.source)
            suspects = tuple(
                _move_into_cell(suspect, notebook) for suspect in self._scan_suspects(path, data, notebook.source)
            )
        except SourceError as error:
            cell, line = notebook.locate_line(error.line) if error.line else (None, None)
            return ScannedFile(path, errors=(make_file_error(path, error, line, cell),))
        if not suspects and IGNORE_MARK not in data:
            return None
        return ScannedFile(path, suspects, (), dict(zip(notebook.numbers, notebook.texts, strict=True)))


def list_entry_symbols(symbols: Iterable[str]) -> list[str]:
    """The functions that run when some functions or classes are called; sorted."""
    return sorted(f"{symbol}{end}" for symbol in symbols for end in ("", ".forward", ".__call__", ".backward"))


def load_configured_rules(rule_paths: tuple[str, ...], detach_names: tuple[str, ...]) -> RuleSet:
    """The shipped rules and those of ``rule_paths``. Raises UserError for a rule that is wrong."""
    from theria_lint.rules import loader  # takes a while, and most files do not even say torch

    return loader.load_rules(rule_paths, detach_names)


def _move_into_cell(suspect: Suspect, notebook: Notebook) -> Suspect:
    from dataclasses import replace

    from theria_lint.model import Span

    cell, line = notebook.locate_line(suspect.span.line)
    shift = line - suspect.span.line
    span = Span(line, suspect.span.column, suspect.span.end_line + shift, suspect.span.end_column)
    reach = (suspect.reach[0] + shift, suspect.reach[1] + shift)
    return replace(suspect, span=span, reach=reach, cell=cell)


_LARGEST_CHUNK = 32


class _PoolProcess:
    """What lives in a process of the pool."""

    scanner: Scanner


def _start_process(scan_config: ScanConfig) -> None:
    gc.freeze()
    _PoolProcess.scanner = Scanner(scan_config, {})


def _scan_chunk(paths: Sequence[str]) -> list[ScannedFile]:
    scanner = _PoolProcess.scanner
    with collect_garbage_rarely():
        results = [
            scanner.scan_file(path, data) for path in paths if (data := scanner.read_candidate(path)) is not None
        ]
    return [found for found in results if found is not None]


def scan_in_processes(paths: Sequence[str], scan_config: ScanConfig, processes: int) -> Iterator[ScannedFile]:
    """Scan ``paths`` in ``processes`` processes, in no fixed order; a file that kills its process is an error."""
    from concurrent.futures import ProcessPoolExecutor, as_completed  # takes a while, and most runs need no process
    from concurrent.futures.process import BrokenProcessPool

    size = max(1, min(_LARGEST_CHUNK, len(paths) // (8 * processes)))
    batches = [paths[start : start + size] for start in range(0, len(paths), size)]
    broken: list[Sequence[str]] = []
    with ProcessPoolExecutor(min(processes, len(batches)), initializer=_start_process, initargs=(scan_config,)) as pool:
        futures: dict[Future[list[ScannedFile]], Sequence[str]] = {}
        for batch in batches:
            try:
                futures[pool.submit(_scan_chunk, batch)] = batch
            except BrokenProcessPool:
                broken.append(batch)
        for future in as_completed(futures):
            try:
                yield from future.result()
            except BrokenProcessPool:
                broken.append(futures[future])
    for batch in broken:
        for path in batch:
            yield from _scan_alone(path, scan_config)


def _scan_alone(path: str, scan_config: ScanConfig) -> list[ScannedFile]:
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    with ProcessPoolExecutor(1, initializer=_start_process, initargs=(scan_config,)) as pool:
        try:
            return pool.submit(_scan_chunk, [path]).result()
        except BrokenProcessPool:
            return [ScannedFile(path, errors=(make_file_error(path, SourceError("parser_crashed")),))]
