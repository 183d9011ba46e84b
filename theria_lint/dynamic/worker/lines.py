"""Which lines of some files a piece of code executes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any

Tracer = Callable[[FrameType, str, Any], Any]


class Lines:
    """A context manager that records the executed lines of the watched files, in this thread.

    Autograd runs the backward pass of CPU tensors in the calling thread, so backwards are seen too.
    """

    def __init__(self, watched: Iterable[str]) -> None:
        """Watches files by the absolute path that their code objects carry."""
        self.seen: dict[str, set[int]] = {path: set() for path in watched}
        self._previous: Tracer | None = None

    def __enter__(self) -> Lines:
        """Starts recording."""
        self._previous = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops recording."""
        sys.settrace(self._previous)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Tracer | None:
        lines = self.seen.get(frame.f_code.co_filename)
        if lines is None:
            return None

        def line(frame: FrameType, event: str, argument: Any) -> Tracer:
            if event == "line":
                lines.add(frame.f_lineno)
            return line

        return line
