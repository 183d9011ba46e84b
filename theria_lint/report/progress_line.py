"""Show on one line of a terminal how far a run is and what runs now."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import TextIO

from theria_lint.report.style import escape_unprintable, inert

_STARTING = "starting Python and PyTorch"
"""What runs before the code of anybody does: it has no name."""

_TICK = 1.0
_BAR_CELLS = 20
_MIN_COLUMNS = 20
_DEFAULT_COLUMNS = 80


class ProgressLine:
    """Called with what runs, how many runs are done and how many are known of; more may become known.

    Used as a context manager, because what is printed next has to find the line empty. Its seconds go on
    while one thing runs.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to a stream that is a terminal."""
        self._stream = stream
        self._shown = 0
        self._began = time.monotonic()
        self._told = ("", 0, 0)
        self._one_at_a_time = threading.Lock()
        self._ended = threading.Event()
        # A thread from the first call on: before it, files are scanned in processes that are forked.
        self._clock: threading.Thread | None = None

    def __call__(self, what: str, done: int, known: int) -> None:
        """Show the line anew."""
        self._told = (what, done, known)
        self._show_progress()
        if self._clock is None:
            self._clock = threading.Thread(target=self._go_on, daemon=True)
            self._clock.start()

    def _go_on(self) -> None:
        while not self._ended.wait(_TICK):
            self._show_progress()

    def _show_progress(self) -> None:
        what, done, known = self._told
        filled = _BAR_CELLS * done // max(known, 1)
        self._show_line(
            f"{time.monotonic() - self._began:3.0f} s [{'#' * filled}{'.' * (_BAR_CELLS - filled)}] {done}/{known} "
            f"{inert(escape_unprintable(what or _STARTING))}"
        )

    def _show_line(self, line: str) -> None:
        with self._one_at_a_time:
            self._write_over(line)

    def _write_over(self, line: str) -> None:
        """Write over what was shown; a line as wide as the terminal would begin a new one."""
        room = max(self._get_columns() - 1, _MIN_COLUMNS)
        if len(line) > room:
            line = line[: room - 3] + "..."
        line = line.encode(self._stream.encoding or "ascii", "replace").decode(self._stream.encoding or "ascii")
        self._stream.write(f"\r{line}{' ' * min(self._shown - len(line), room - len(line))}")
        self._stream.flush()
        self._shown = len(line)

    def _get_columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or _DEFAULT_COLUMNS
        except (OSError, ValueError):
            return _DEFAULT_COLUMNS

    def __enter__(self) -> ProgressLine:
        """The line, not shown yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the line away."""
        self._ended.set()
        if self._clock is not None:
            self._clock.join()
        if self._shown:
            self._show_line("")
            self._stream.write("\r")
            self._stream.flush()
