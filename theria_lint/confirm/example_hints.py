"""Which code of the linted paths calls the targets: it is tried before anything is guessed, if nothing is recorded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from theria_lint.errors import ReadError
from theria_lint.model import SourceFile, Target, TargetKind
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
        """Keeps the texts of those that can be read."""
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
