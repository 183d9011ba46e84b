"""Small things that the text formats share: colours, places, plurals."""

from __future__ import annotations

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


def place(path: str, cell: int | None, line: int | None, column: int | None) -> str:
    """``path:line:column``, with the cell of a notebook after the path."""
    parts = [path, f"cell {cell}" if cell is not None else None, line, column]
    return ":".join(str(part) for part in parts if part is not None)


def counted(count: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
