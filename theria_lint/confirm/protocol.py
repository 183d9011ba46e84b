"""The protocol between linter and worker: one JSON object a line.

Both sides import this module; it needs neither torch nor libcst.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from theria.verdicts import Reason, Status, Verdict
from theria_lint.confirm import message_checks
from theria_lint.confirm.message_checks import NonsenseError
from theria_lint.model import AS_IT_IS, Run
from theria_lint.reasons import FIELDS, Field, ReasonCode
from theria_lint.result import Environment

WALL_FACTOR = 4
"""How many times its seconds a process may take that works all the while, and has not had them of the processor."""

LONGEST_ANSWER = 8 << 20
"""How many bytes the outcome of a target may take; larger ones are no outcomes."""


def digest_text(text: str) -> str:
    """A short text that is another one for another text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class WorkerError(Exception):
    """The worker cannot run anything; ``reason`` says why."""

    def __init__(self, reason: Reason) -> None:
        """Keep the reason."""
        super().__init__(str(reason.code))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """One target to run: its qualified name, its kind, and the hints that the user's configuration gives for it."""

    symbol: str
    kind: str
    hints: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuShare:
    """What a job has of a worker's GPUs: one of them, as CUDA_VISIBLE_DEVICES says it, and a part of its memory."""

    visible: str
    memory: float


@dataclass(frozen=True, slots=True)
class Job:
    """A variant of a file and the targets to run in it.

    ``overrides`` maps absolute paths to the source that the worker is to import in place of the file's own;
    ``watched`` lists the absolute paths of which the executed places are wanted back; ``digests`` has, by absolute
    path, the `digest_text` of the text that the static stage has read. ``sources`` has the texts of the watched
    files: an outcome is held against them, and the worker is not told. ``gpu`` is given to it when it begins.
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
    sources: dict[str, str] = field(default_factory=dict)
    gpu: GpuShare | None = None

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

    @property
    def longest_wait(self) -> float:
        """Seconds on the wall after which a target that works all the while is ended too: others have the processor."""
        return WALL_FACTOR * self.target_time

    def to_json(self) -> dict[str, Any]:
        """The job as JSON data."""
        return {name: value for name, value in asdict(self).items() if name != "sources"}

    def admit(self, outcome: Outcome) -> None:
        """Hold an outcome against what was asked.

        Raises:
            NonsenseError: if it answers something else.
        """
        target = next((target for target in self.targets if target.symbol == outcome.symbol), None)
        if outcome.job != self.id or target is None:
            raise NonsenseError(ReasonCode.ANSWER_UNASKED, kind="target")
        asked = target.hints.get("backends")
        if isinstance(asked, list | tuple) and any(run.backend not in (*asked, AS_IT_IS) for run in outcome.runs):
            raise NonsenseError(ReasonCode.ANSWER_UNASKED, kind="backend")
        for path, places in (*outcome.places.items(), *outcome.aside.items()):
            if path not in self.watched or path not in self.sources:
                raise NonsenseError(ReasonCode.ANSWER_UNASKED, kind="file")
            _find(places, self.overrides.get(path, self.sources[path]))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Job:
        """The inverse of ``to_json``."""
        targets = tuple(TargetRequest(**t) for t in data["targets"])
        gpu = GpuShare(**data["gpu"]) if data["gpu"] else None
        return cls(**{**data, "targets": targets, "watched": tuple(data["watched"]), "gpu": gpu})


@lru_cache(64)
def _widths(source: str) -> tuple[int, ...]:
    """How many bytes each line of a text has."""
    return tuple(len(line.encode("utf-8", "surrogatepass")) for line in source.split("\n"))


def _find(places: tuple[Place, ...], source: str) -> None:
    """Make sure that places are places of a text; an expression begins and ends in it, and few do at one character."""
    widths = _widths(source)
    if len(places) > 2 * (len(source) + 1):
        raise NonsenseError(ReasonCode.ANSWER_BEYOND_FILE)
    for line, column, last, end in places:
        if not (line <= last <= len(widths) and column <= widths[line - 1] and end <= widths[last - 1]):
            raise NonsenseError(ReasonCode.ANSWER_BEYOND_FILE)


Place = tuple[int, int, int, int]
"""Line, column, end line and end column: lines from 1, columns in UTF-8 bytes from 0."""

_RUNS = 64
_NOTES = 1_000
_BLOCKS = 10_000
_PLACES = 1_000_000
_FILES = 100_000
_STATES = ("right", "zero", "wrong", "missing", "unclear")
_MEASURES = ("norm", "oracle_norm", "error")


@dataclass(frozen=True, slots=True)
class FileDependencies:
    """What a process has read: all paths are absolute.

    ``files`` it opened or imported; ``searched`` has, by folder, the names of modules that it looked for there, found
    or not.
    """

    files: tuple[str, ...] = ()
    searched: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Any) -> FileDependencies:
        """The inverse of ``asdict``; NonsenseError for anything else."""
        data = message_checks.fields(data, _names(cls))
        searched = message_checks.table(data["searched"], _list_of(message_checks.text, _FILES), _FILES, key=_path)
        return cls(message_checks.items(data["files"], _path, _FILES), searched)


_CONFIGURATIONS = 64
_GPUS = 1_000


@dataclass(frozen=True, slots=True)
class Flag:
    """A value that a parameter, an attribute or an entry of a configuration can be given beside its default.

    ``place`` says where it is given, in the words of `theria_lint.worker.configurations.flags`, ``literal`` is the
    value as Python writes it, ``label`` the two as people read them: ``use_flash=True``.
    """

    place: str
    literal: str
    label: str

    @classmethod
    def from_json(cls, data: Any) -> Flag:
        """The inverse of ``asdict``; NonsenseError for anything else."""
        data = message_checks.fields(data, _names(cls))
        return cls(*(message_checks.name(data[item]) for item in _names(cls)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running one target gave: its runs, or the reason why there are none.

    ``places`` maps watched paths to what the target executed there: line, column, end line and end column, lines from
    1, columns in UTF-8 bytes from 0; ``aside`` those of them that it executed in a backward, or where no graph was
    recorded. ``reads`` is what the outcome was made from, where that is known; ``lasting``: of nothing else, such as a
    clock, so that it may be kept. ``flags`` are those that change what the target computes, or with which it does not
    run: each is worth a configuration of its own.
    """

    job: int
    symbol: str
    runs: tuple[Run, ...] = ()
    reason: Reason | None = None
    places: dict[str, tuple[Place, ...]] = field(default_factory=dict)
    aside: dict[str, tuple[Place, ...]] = field(default_factory=dict)
    notes: tuple[Reason, ...] = ()
    reads: FileDependencies | None = None
    lasting: bool = True
    flags: tuple[Flag, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The outcome as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Outcome:
        """The inverse of ``to_json``; NonsenseError for anything else. `Job.admit` tells whether it was asked for."""
        data = message_checks.fields(data, _names(cls))
        return cls(
            job=message_checks.index(data["job"], -1),
            symbol=message_checks.text(data["symbol"]),
            runs=message_checks.items(data["runs"], _run, _RUNS),
            reason=message_checks.optional(read_reason)(data["reason"]),
            places=message_checks.table(data["places"], _list_of(_place, _PLACES), _FILES, key=_path),
            aside=message_checks.table(data["aside"], _list_of(_place, _PLACES), _FILES, key=_path),
            notes=message_checks.items(data["notes"], read_reason, _NOTES),
            reads=message_checks.optional(FileDependencies.from_json)(data["reads"]),
            lasting=message_checks.flag(data["lasting"]),
            flags=message_checks.items(data["flags"], Flag.from_json, _CONFIGURATIONS),
        )


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a worker says of itself: what the jobs will run in.

    ``protections`` maps what keeps the code under test in its place to None where it holds, else to why it does not;
    ``reads`` names the files that the interpreter itself is made of, ``gpus`` the GPUs that jobs may be given.
    """

    environment: Environment = field(default_factory=Environment)
    protections: Mapping[str, Reason | None] = field(default_factory=dict)
    reads: FileDependencies = field(default_factory=FileDependencies)
    gpus: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The greeting as JSON data."""
        told = {name: why.to_json() if why else None for name, why in self.protections.items()}
        reads, gpus = asdict(self.reads), list(self.gpus)
        return {**self.environment._asdict(), "protections": told, "reads": reads, "gpus": gpus}

    @classmethod
    def from_json(cls, data: Any) -> Greeting:
        """The inverse of ``to_json``; NonsenseError for anything else."""
        data = message_checks.fields(data, (*Environment._fields, "protections", "reads", "gpus"))
        return cls(
            Environment(
                python=message_checks.name(data["python"]),
                torch=message_checks.name(data["torch"]),
                triton=message_checks.optional(message_checks.name)(data["triton"]),
                device=message_checks.one_of(data["device"], ("cpu", "cuda")),
            ),
            message_checks.table(data["protections"], message_checks.optional(read_reason), 100),
            FileDependencies.from_json(data["reads"]),
            message_checks.items(data["gpus"], message_checks.name, _GPUS),
        )


def _names(kind: type) -> list[str]:
    return [item.name for item in fields(kind)]


def _list_of(check: Callable[[Any], Any], most: int) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: message_checks.items(value, check, most)


def _path(value: Any) -> str:
    path = message_checks.text(value)
    if not os.path.isabs(path):
        raise NonsenseError(ReasonCode.ANSWER_OF_KIND, kind="text", wanted="path")
    return path


def _place(value: Any) -> Place:
    line, column, last, end = message_checks.items(value, message_checks.index, 4) if _has_four(value) else (0, 0, 0, 0)
    if not 1 <= line <= last:
        raise NonsenseError(ReasonCode.ANSWER_OF_KIND, kind=type(value).__name__, wanted="place")
    return line, column, last, end


def _has_four(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 4


def _run(value: Any) -> Run:
    data = message_checks.fields(value, _names(Run))
    size = message_checks.optional(message_checks.size)
    return Run(
        backend=message_checks.name(data["backend"]),
        device=message_checks.name(data["device"]),
        dtype=message_checks.name(data["dtype"]),
        oracle=message_checks.name(data["oracle"]),
        status=message_checks.one_of(data["status"], [*Status]),
        verdict=Verdict(message_checks.one_of(data["verdict"], [*Verdict])),
        reason=message_checks.optional(read_reason)(data["reason"]),
        error=message_checks.optional(message_checks.words)(data["error"]),
        gradients=message_checks.table(data["gradients"], size, _BLOCKS),
        blocks=message_checks.table(data["blocks"], _block, _BLOCKS, key=_pair),
        states=message_checks.table(data["states"], lambda state: message_checks.one_of(state, _STATES), 2 * _BLOCKS),
        maml=message_checks.optional(_figures)(data["maml"]),
        notes=message_checks.items(data["notes"], read_reason, _NOTES),
    )


_NESTED_REASONS = 8


def read_reason(value: Any, nested: int = 0) -> Reason:
    """A reason of a known code with the data that belongs to it: whoever puts it into words can rely on that."""
    data = message_checks.fields(value, ("code", "data"))
    code = data["code"]
    if not isinstance(code, str) or code not in FIELDS:
        raise NonsenseError(ReasonCode.ANSWER_BAD_REASON)
    if nested > _NESTED_REASONS:
        raise NonsenseError(ReasonCode.ANSWER_BAD_REASON)
    kinds = FIELDS[code]
    told = message_checks.fields(data["data"], kinds)
    return Reason(code, {name: _datum(told[name], kind, nested) for name, kind in kinds.items()})


def _datum(value: Any, kind: Field, nested: int) -> Any:
    match kind:
        case Field.TEXT:
            return message_checks.words(value)
        case Field.OPTIONAL_TEXT:
            return message_checks.optional(message_checks.words)(value)
        case Field.TEXTS:
            return list(message_checks.items(value, message_checks.words, _NOTES))
        case Field.NUMBER:
            return message_checks.size(value)
        case Field.OPTIONAL_NUMBER:
            return message_checks.optional(message_checks.size)(value)
        case Field.FLAG:
            return message_checks.flag(value)
        case Field.REASON:
            return read_reason(value, nested + 1)
        case Field.REASONS:
            return list(message_checks.items(value, lambda item: read_reason(item, nested + 1), _NOTES))
        case Field.VALUES:
            return message_checks.table(value, _literal, _NOTES)
        case _:
            raise NonsenseError(ReasonCode.ANSWER_BAD_REASON)


def _literal(value: Any) -> Any:
    """What a configuration can hold: a truth value, a number, a text, or a list of these."""
    if isinstance(value, list | tuple):
        return list(message_checks.items(value, _scalar, _NOTES))
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return message_checks.words(value)
    return value if isinstance(value, bool) else message_checks.number(value)


def _pair(value: Any) -> str:
    key = message_checks.name(value)
    if key.count(",") != 1:
        raise NonsenseError(ReasonCode.ANSWER_OF_KIND, kind="text", wanted="block")
    return key


def _block(value: Any) -> dict[str, float | None]:
    return message_checks.table(
        value,
        message_checks.optional(message_checks.size),
        len(_MEASURES),
        key=lambda k: message_checks.one_of(k, _MEASURES),
    )


def _figures(value: Any) -> dict[str, Any]:
    """The measurements under MAML, which are only shown."""
    found = message_checks.table(value, _figure, _NOTES)
    for name in ("inner_steps", "outer_steps"):
        if name in found:
            message_checks.index(found[name])
    return found


def _figure(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return list(message_checks.items(value, message_checks.words, _NOTES))
    if isinstance(value, str):
        return message_checks.words(value)
    if value is None or isinstance(value, bool | float):
        return value
    return message_checks.index(value)
