"""What the linter and its worker say to each other: one JSON object a line.

Both sides import this module; it needs neither torch nor libcst.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

from theria.verdicts import Verdict
from theria_lint.model import Run

OUT_OF_TIME = "out of time"
"""How a run's note ends on a configuration that was left out because the time of the probe was spent."""


MATH_PATH = "PyTorch took its math path for scaled_dot_product_attention, which a GPU may give to a fused kernel"
"""The note of a run that is safe without having met a fused kernel."""


def digest(text: str) -> str:
    """A short text that is another one for another text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class WorkerError(Exception):
    """The worker cannot run anything; the message says why, in one sentence, and what to do."""


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
    ``watched`` lists the absolute paths of which the executed places are wanted back; ``digests`` has, by absolute
    path, the `digest` of the text that the static stage has read.
    """

    id: int
    path: str
    targets: tuple[TargetRequest, ...]
    overrides: dict[str, str]
    watched: tuple[str, ...]
    device: str
    timeout: float
    memory: int
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """The files whose projects the job may read: its own, those that it replaces, and those of adapters."""
        adapters = (path for target in self.targets for path in target.hints.get("adapters", ()))
        return tuple(dict.fromkeys((self.path, *self.overrides, *adapters)))

    @property
    def import_time(self) -> float:
        """Seconds that importing the file may take: packages import more than the one file."""
        return 2 * self.timeout

    @property
    def imports_once(self) -> bool:
        """Whether all targets share one import: what has used a GPU cannot go on in a fork."""
        return self.device == "cpu"

    @property
    def probing_time(self) -> float:
        """Seconds that probing a target may take: on a GPU its kernels are compiled first, for every size and dtype."""
        return self.timeout if self.device == "cpu" else 4 * self.timeout

    @property
    def target_time(self) -> float:
        """Seconds that one target may take, with the import where it is not shared."""
        return self.probing_time if self.imports_once else self.import_time + self.probing_time

    def to_json(self) -> dict[str, Any]:
        """The job as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Job:
        """The inverse of ``to_json``."""
        targets = tuple(TargetRequest(**t) for t in data["targets"])
        return cls(**{**data, "targets": targets, "watched": tuple(data["watched"])})


@dataclass(frozen=True, slots=True)
class Reads:
    """What a process has read: all paths are absolute.

    ``files`` it opened or imported; ``searched`` has, by folder, the names of modules that it looked for there, found
    or not.
    """

    files: tuple[str, ...] = ()
    searched: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Reads:
        """The inverse of ``asdict``; ValueError, TypeError or KeyError for anything else."""
        searched = {_text(folder): tuple(map(_text, names)) for folder, names in data["searched"].items()}
        return cls(tuple(map(_text, data["files"])), searched)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running one target gave: its runs, or the reason why there are none.

    ``places`` maps watched paths to what the target executed there: line, column, end line and end column, lines from
    1, columns in UTF-8 bytes from 0; ``aside`` those of them that it executed in a backward, or where no graph was
    recorded. ``reads`` is what the outcome was made from; None where it depends on the moment
    too, as on a clock, so that it may not be kept.
    """

    job: int
    symbol: str
    runs: tuple[Run, ...] = ()
    reason: str = ""
    places: dict[str, tuple[tuple[int, int, int, int], ...]] = field(default_factory=dict)
    aside: dict[str, tuple[tuple[int, int, int, int], ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reads: Reads | None = None

    def to_json(self) -> dict[str, Any]:
        """The outcome as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Outcome:
        """The inverse of ``to_json``; ValueError, TypeError or KeyError for anything else."""
        runs = tuple(
            Run(**{**r, "verdict": Verdict(r["verdict"]), "notes": tuple(r.get("notes", ()))}) for r in data["runs"]
        )
        reads = None if data["reads"] is None else Reads.from_json(data["reads"])
        seen = {name: _places(data[name]) for name in ("places", "aside")}
        return cls(**{**data, **seen, "runs": runs, "notes": tuple(data["notes"]), "reads": reads})


def _places(data: dict[str, Any]) -> dict[str, tuple[tuple[int, int, int, int], ...]]:
    return {path: tuple((a, b, c, d) for a, b, c, d in found) for path, found in data.items()}
