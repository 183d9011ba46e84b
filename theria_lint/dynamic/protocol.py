"""What the linter and its worker say to each other: one JSON object a line.

Both sides import this module; it needs neither torch nor libcst.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from theria.verdicts import Verdict
from theria_lint.model import Run


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """One target to run: its qualified name, its kind, and the hints that the user's configuration gives for it."""

    symbol: str
    kind: str
    hints: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """A variant of a file and the targets to run in it.

    ``overrides`` maps absolute paths to the source that the worker is to import in place of the file's own;
    ``watched`` lists the absolute paths of which the executed places are wanted back.
    """

    id: int
    path: str
    targets: tuple[TargetRequest, ...]
    overrides: dict[str, str]
    watched: tuple[str, ...]
    device: str
    timeout: float
    memory: int

    def to_json(self) -> dict[str, Any]:
        """The job as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Job:
        """The inverse of ``to_json``."""
        targets = tuple(TargetRequest(**t) for t in data["targets"])
        return cls(**{**data, "targets": targets, "watched": tuple(data["watched"])})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running one target gave: its runs, or the reason why there are none.

    ``places`` maps watched paths to what the target executed there: line, column, end line and end column, lines from
    1, columns in UTF-8 bytes from 0.
    """

    job: int
    symbol: str
    runs: tuple[Run, ...] = ()
    reason: str = ""
    places: dict[str, tuple[tuple[int, int, int, int], ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The outcome as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Outcome:
        """The inverse of ``to_json``; ValueError, TypeError or KeyError for anything else."""
        runs = tuple(
            Run(**{**r, "verdict": Verdict(r["verdict"]), "notes": tuple(r.get("notes", ()))}) for r in data["runs"]
        )
        places = {path: tuple((a, b, c, d) for a, b, c, d in found) for path, found in data["places"].items()}
        return cls(**{**data, "runs": runs, "places": places, "notes": tuple(data["notes"])})
