"""Read a notebook as one source text, and map its lines back to cell and line."""

from __future__ import annotations

import ast
import json
import re
from bisect import bisect_right
from dataclasses import dataclass

from theria_lint.errors import ReadError

# Cell magics whose body is still Python.
_PYTHON_CELL_MAGICS = frozenset({"%%time", "%%timeit", "%%capture", "%%prun"})
_SHELL_ASSIGNMENT = re.compile(r"^([\w,\s.\[\]]+=\s*)[!%].*$")


@dataclass(frozen=True)
class Notebook:
    """``source`` is the cells joined; cell ``numbers[i]`` (1-based among all cells) starts at line ``starts[i]``."""

    source: str
    numbers: tuple[int, ...]
    starts: tuple[int, ...]
    texts: tuple[str, ...]

    def locate_line(self, line: int) -> tuple[int, int]:
        """(cell, line in it) of a line of ``source``, all 1-based."""
        index = max(bisect_right(self.starts, line) - 1, 0)
        return self.numbers[index], line - self.starts[index] + 1


def read_notebook(data: bytes) -> Notebook:
    """The Python code cells of a notebook (format 3 or 4); none if its language is another. Raises ReadError."""
    try:
        document = json.loads(data.decode("utf-8-sig"))
        cells = [_get_cell_code(cell) for cell in _list_cells(document)] if _is_python(document) else []
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ReadError("not_a_notebook", message=str(error)) from None
    numbers, starts, texts, line = [], [], [], 1
    for number, text in enumerate(cells, start=1):
        if text is not None:
            numbers.append(number)
            starts.append(line)
            texts.append(text)
            line += text.count("\n") + 1
    return Notebook(
        "\n".join(_convert_cell(text) for text in texts) + "\n", tuple(numbers), tuple(starts), tuple(texts)
    )


def _list_cells(document: dict) -> list[dict]:  # type: ignore[type-arg]
    if "worksheets" in document:
        return [cell for sheet in document["worksheets"] for cell in sheet["cells"]]
    return list(document["cells"])


def _get_cell_code(cell: dict) -> str | None:  # type: ignore[type-arg]
    if cell["cell_type"] != "code":
        return None
    source = cell["source"] if "source" in cell else cell["input"]
    text = source if isinstance(source, str) else "".join(source)
    return text.replace("\r\n", "\n").rstrip("\n")


def _is_python(document: dict) -> bool:  # type: ignore[type-arg]
    metadata = document.get("metadata", {})
    language = metadata.get("kernelspec", {}).get("language") or metadata.get("language_info", {}).get("name")
    return language is None or "python" in str(language).lower()


def _convert_cell(text: str) -> str:
    """A cell with IPython's own syntax taken out, line for line; a cell in another language becomes comments."""
    first = text.lstrip().split("\n", 1)[0].split(" ", 1)[0]
    if first.startswith("%%") and first not in _PYTHON_CELL_MAGICS:
        return "\n".join("#" + line for line in text.split("\n"))
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "\n".join(map(_convert_line, text.split("\n")))
    return text


def _convert_line(line: str) -> str:
    stripped = line.lstrip()
    if stripped.startswith(("%", "!", "?")) or re.fullmatch(r"[\w.]+\?{1,2}", stripped.rstrip()):
        return line[: len(line) - len(stripped)] + "pass"
    return _SHELL_ASSIGNMENT.sub(r"\1None", line)
