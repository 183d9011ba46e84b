"""Small things that the text formats share: colours, places, plurals, and what keeps other people's text text."""

from __future__ import annotations

import re

# How to show what a terminal or a browser would act on: control characters, and those that reorder or end lines.
_ORDER = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ACTIVE = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *_ORDER)
ESCAPES = {code: repr(chr(code))[1:-1] for code in _ACTIVE}
COMMAND = re.compile(r"##(?=\w*\[)")
"""How a command to the log of Azure Pipelines, TeamCity or (of old) GitHub begins, wherever in a line it stands."""
# How one to GitHub begins: at the start of a line, which may be indented or coloured, and has what ends the command.
_STARTING = re.compile(r"^((?:[^\S\n]|\033\[[\d;]*m)*):(?=:.*::)", re.MULTILINE)
_CODES = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36}


class Style:
    """Terminal colours, or none of them."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def paint(self, text: str, colour: str | None = None, bold: bool = False) -> str:
        """``text`` in a colour of ``_CODES``, bold or not; unchanged without colours."""
        codes = ([1] if bold else []) + ([_CODES[colour]] if colour else [])
        if not self._colour or not codes:
            return text
        return f"\033[{';'.join(map(str, codes))}m{text}\033[0m"


def wrapped(text: str, indent: str, width: int) -> list[str]:
    """``text`` on lines of at most ``width`` columns, all but the first further in; on one line if ``width`` is 0."""
    line = f"{indent}{printable(' '.join(text.split()))}"
    if not width or len(line) <= width:
        return [line]
    from textwrap import wrap

    further = f"{indent}    "
    return wrap(line, max(width, 40), subsequent_indent=further, break_long_words=False, break_on_hyphens=False)


def place(path: str, cell: int | None, line: int | None, column: int | None) -> str:
    """``path:line:column``, with the cell of a notebook after the path."""
    parts = [path, f"cell {cell}" if cell is not None else None, line, column]
    return ":".join(printable(str(part)) for part in parts if part is not None)


def printable(text: str) -> str:
    """One line of text in which nothing moves the cursor: other people's code and errors may hold anything."""
    return text if text.isprintable() else text.translate(ESCAPES)


def inert(text: str) -> str:
    """A whole text in which no line is a command to a CI service that reads it in a log."""
    return _STARTING.sub(r"\1\\x3a", COMMAND.sub(r"#\\x23", text))


def shown(text: str) -> str:
    """Lines that may hold anything, as lines that nothing acts on."""
    return inert("\n".join(map(printable, text.split("\n"))))


def counted(count: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
