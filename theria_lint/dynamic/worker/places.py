"""Which places of some files a piece of code executes: not lines but expressions, for a line may hold a branch."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import CodeType, FrameType, TracebackType
from typing import Any

Place = tuple[int, int, int, int]
"""Line, column, end line and end column of an instruction: lines from 1, columns in UTF-8 bytes from 0."""


class Places:
    """A context manager that records what is executed of the watched files, in this thread.

    Autograd runs the backward pass of CPU tensors in the calling thread, so backwards are seen too.
    """

    def __init__(self, watched: Iterable[str]) -> None:
        """Watches files by the absolute path that their code objects carry."""
        self._watched = frozenset(watched)
        self._executed: dict[CodeType, set[int]] = {}
        self._previous: Any = None

    def __enter__(self) -> Places:
        """Starts recording."""
        self._previous = sys.gettrace()
        if self._watched:
            sys.settrace(self._call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops recording."""
        sys.settrace(self._previous)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code.co_filename not in self._watched:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        executed = self._executed.setdefault(code, set())

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            if event == "opcode":
                executed.add(frame.f_lasti // 2)
            return step

        return step

    def seen(self) -> dict[str, tuple[Place, ...]]:
        """The places that were executed, by file, sorted."""
        found: dict[str, set[Place]] = {}
        for code, indices in self._executed.items():
            places = found.setdefault(code.co_filename, set())
            for index, (line, end_line, column, end_column) in enumerate(code.co_positions()):
                if index in indices and None not in (line, end_line, column, end_column):
                    places.add((line, column, end_line, end_column))  # type: ignore[arg-type]
        return {path: tuple(sorted(places)) for path, places in found.items()}
