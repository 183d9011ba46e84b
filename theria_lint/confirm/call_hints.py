"""Tell the worker how targets are called before anything is guessed: recorded calls, then code that calls them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from theria_lint.calls.call_file import find_calls
from theria_lint.errors import ReadError
from theria_lint.model import SourceFile, Target, TargetKind
from theria_lint.reasons import Reason
from theria_lint.sources.source_text import decode_source, read_up_to
from theria_lint.static.example_calls import ExampleCall, find_calls_in_code, find_calls_in_page

MOST_EXAMPLES = 6
"""How many of the examples of a target are handed to the worker."""

_LARGEST = 1 << 20
_MOST_FILES = 500
_TELLING = re.compile(r"(^|[/_])(tests?|examples?|demos?)([/_.]|$)|^README", re.IGNORECASE)


def list_example_files(linted: Sequence[str], files: Iterable[str]) -> list[str]:
    """The files among the linted ones, with the pages at the top of the linted folders, that may hold examples."""
    pages = (os.path.join(folder, name) for folder in linted for name in ("README.md", "README.rst"))
    named = [path for path in files if path.endswith(".py") and _TELLING.search(os.path.relpath(path))]
    return [*filter(os.path.isfile, pages), *named][:_MOST_FILES]


class ExampleReader:
    """Reads the files once, for all targets."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Keep the texts of those that can be read."""
        self._texts: dict[str, str] = {}
        for path in paths:
            try:
                self._texts[path] = decode_source(read_up_to(_LARGEST, path))
            except ReadError:
                continue

    def find_examples(self, file: SourceFile, target: Target) -> list[dict[str, str]]:
        """The examples of a target, for the worker: those that stand nearest first."""
        if target.kind is TargetKind.WRAPPER:
            return []
        return list(islice(self._iter_examples(file, target), MOST_EXAMPLES))

    def _iter_examples(self, file: SourceFile, target: Target) -> Iterator[dict[str, str]]:
        first, name = target.symbol.partition(".")[0], target.symbol.rpartition(".")[2]
        for found in find_calls_in_code(file.source, {first, name}, docstrings={first, name, "forward", "__call__"}):
            yield _make_hint(file.path, found)
        for path, text in self._texts.items():
            if first in text and os.path.realpath(path) != os.path.realpath(file.path):
                find = find_calls_in_code if path.endswith(".py") else find_calls_in_page
                for found in find(text, {first}):
                    yield _make_hint(path, found)


def _make_hint(path: str, found: ExampleCall) -> dict[str, Any]:
    return {"source": f"{os.path.relpath(path).replace(os.sep, '/')}:{found.line}", "code": found.code}


class CallSource(NamedTuple):
    """Where calls are kept, the root that paths of files count from, and which calls are wanted (a setting).

    ``within``: the folder that no link may lead out of; ``pages``: files of the linted paths that may show calls.
    """

    folder: str
    root: str
    wanted: str
    within: str
    pages: tuple[str, ...] = ()


RecordedHints = Mapping[tuple[str, str], dict[str, Any]]
"""Hints for the worker, by path and symbol of a target."""


def find_recorded_hints(files: Iterable[SourceFile], source: CallSource | None) -> tuple[RecordedHints, list[Reason]]:
    """The recorded calls of the targets, and a reason for each file of a call that cannot be used."""
    hints: dict[tuple[str, str], dict[str, Any]] = {}
    complaints: list[Reason] = []
    if source is None:
        return hints, complaints
    reader = ExampleReader(source.pages) if source.wanted != "recorded" else None
    for file in files:
        path = os.path.relpath(os.path.abspath(file.path), source.root).replace(os.sep, "/")
        for target in file.targets:
            calls, wrong = (
                find_calls(source.folder, path, target.symbol, source.within)
                if source.wanted != "guessed"
                else ([], [])
            )
            complaints += wrong
            found: dict[str, Any] = {"calls": [call.to_hint() for call in calls]} if calls else {}
            closure = any("factory" in call.document for call in calls)
            if source.wanted == "recorded" or closure:
                found |= {"guess": False} if calls else {"unrecorded": True}
            examples = reader.find_examples(file, target) if reader and not calls else []
            if examples:
                found["examples"] = examples
            if found:
                hints[file.path, target.symbol] = found
    return hints, complaints
