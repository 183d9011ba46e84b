"""Which places of some files a piece of code executes: not lines but expressions, for a line may hold a branch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import CodeType, FrameType, TracebackType
from typing import Any

Place = tuple[int, int, int, int]
"""Line, column, end line and end column of an instruction: lines from 1, columns in UTF-8 bytes from 0."""

Executed = dict[CodeType, set[int]]
"""The numbers of the executed instructions, by the code that holds them."""

_INSTRUCTION = 2
"""Bytes of an instruction, in which the interpreter counts offsets."""


class Places:
    """A context manager that records what is executed of the watched files.

    Before Python 3.12 in this thread only: whoever records a backward pass has to keep it here.
    """

    def __init__(self, watched: Iterable[str], is_aside: Callable[[], bool] = lambda: False) -> None:
        """Watches files by the absolute path that their code objects carry.

        ``is_aside`` says whether what is called now is to be known from the rest.
        """
        self._executed: Executed = {}
        self._aside: Executed = {}
        self._recorder = _Recorder(frozenset(watched), lambda: self._aside if is_aside() else self._executed)

    def __enter__(self) -> Places:
        """Starts recording."""
        self._recorder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops recording."""
        self._recorder.stop()

    def seen(self) -> dict[str, tuple[Place, ...]]:
        """The places that were executed, by file, sorted."""
        return _by_file(self._executed, self._aside)

    def seen_aside(self) -> dict[str, tuple[Place, ...]]:
        """Those of them that were executed aside, perhaps among other times."""
        return _by_file(self._aside)


def _by_file(*executed: Executed) -> dict[str, tuple[Place, ...]]:
    found: dict[str, set[Place]] = {}
    for code, indices in (item for part in executed for item in part.items()):
        places = found.setdefault(code.co_filename, set())
        for index, (line, end_line, column, end_column) in enumerate(code.co_positions()):
            # The first instruction of a module stands on line 0.
            if index in indices and line and None not in (end_line, column, end_column):
                places.add((line, column, end_line, end_column))  # type: ignore[arg-type]
    return {path: tuple(sorted(places)) for path, places in found.items()}


if sys.version_info >= (3, 12):

    class _Recorder:
        """Hears of every instruction, in all threads; a trace function hears of none since Python 3.12."""

        def __init__(self, watched: frozenset[str], where: Callable[[], Executed]) -> None:
            self._watched = watched
            self._where = where

        def start(self) -> None:
            monitoring = sys.monitoring
            monitoring.use_tool_id(monitoring.COVERAGE_ID, __name__)
            monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.INSTRUCTION, self._step)
            monitoring.restart_events()
            monitoring.set_events(monitoring.COVERAGE_ID, monitoring.events.INSTRUCTION if self._watched else 0)

        def stop(self) -> None:
            monitoring = sys.monitoring
            monitoring.set_events(monitoring.COVERAGE_ID, 0)
            monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.INSTRUCTION, None)
            monitoring.free_tool_id(monitoring.COVERAGE_ID)

        def _step(self, code: CodeType, offset: int) -> Any:
            if code.co_filename not in self._watched:
                return sys.monitoring.DISABLE
            self._where().setdefault(code, set()).add(offset // _INSTRUCTION)
            return None

else:

    class _Recorder:
        """Traces the frames of the watched files in this thread, instruction by instruction."""

        def __init__(self, watched: frozenset[str], where: Callable[[], Executed]) -> None:
            self._watched = watched
            self._where = where
            self._previous: Any = None

        def start(self) -> None:
            self._previous = sys.gettrace()
            if self._watched:
                sys.settrace(self._call)

        def stop(self) -> None:
            sys.settrace(self._previous)

        def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
            code = frame.f_code
            if code.co_filename not in self._watched:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            executed = self._where().setdefault(code, set())

            def step(frame: FrameType, event: str, argument: Any) -> Any:
                if event == "opcode":
                    executed.add(frame.f_lasti // _INSTRUCTION)
                return step

            return step
