"""The CSV on disk: rows are kept as they finish, so that an interrupted sweep resumes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from bad_backends import WRAPPERS
from diagnostics import BACKENDS, COLUMNS, SHARED

Row = dict[str, str]

KEY = ("wrapper", "attention_backend", "inner_steps", "seed")
"""What tells the rows of one table apart."""


class TableError(ValueError):
    """The CSV cannot be continued; the message says what to do."""


class Table:
    """A CSV whose rows all share the same settings, sorted, rewritten as a whole with each new row.

    Raises:
        TableError: if the file that is there is not such a table, or was measured with other settings.
    """

    def __init__(self, path: Path, shared: Mapping[str, str], *, fresh: bool = False) -> None:
        self.path = path
        self.rows: dict[tuple[str, ...], Row] = {}
        if path.exists() and not fresh:
            for row in _read(path):
                _check(row, shared, path)
                self.rows[_key(row)] = row

    def __contains__(self, key: tuple[str, ...]) -> bool:
        return key in self.rows

    def add(self, row: Row) -> None:
        """Keeps a row, on disk too: an interrupt leaves either the old file or the new one."""
        self.rows[_key(row)] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.sorted())
        temporary.replace(self.path)

    def sorted(self) -> list[Row]:
        """The rows by backend, wrapper (in the order in which they are defined), inner steps and seed."""
        backends, wrappers = list(BACKENDS), list(WRAPPERS)

        def place(row: Row) -> tuple[int, int, int, int]:
            backend, wrapper = backends.index(row["attention_backend"]), wrappers.index(row["wrapper"])
            return backend, wrapper, int(row["inner_steps"]), int(row["seed"])

        return sorted(self.rows.values(), key=place)


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[column] for column in KEY)


def _read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        header, rows = tuple(reader.fieldnames or ()), list(reader)
    known = all(row.get("wrapper") in WRAPPERS and row.get("attention_backend") in BACKENDS for row in rows)
    if header != COLUMNS or not known or any(None in row.values() for row in rows):
        raise TableError(f"{path} is not a table of this version: give --fresh to replace it, or another --csv-out")
    return rows


def _check(row: Row, shared: Mapping[str, str], path: Path) -> None:
    differing = [f"{name}={row[name]} (now {shared[name]})" for name in SHARED if row[name] != shared[name]]
    if differing:
        raise TableError(
            f"{path} holds rows measured with {', '.join(differing)}: "
            "give --fresh to replace them, or another --csv-out to keep them"
        )
