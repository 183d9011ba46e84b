"""Which recorded calls belong to the targets of some files: what a target is called with before anything is guessed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from theria_lint.calls.call_file import find_calls
from theria_lint.confirm.example_hints import ExampleReader
from theria_lint.model import SourceFile
from theria_lint.reasons import Reason


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
