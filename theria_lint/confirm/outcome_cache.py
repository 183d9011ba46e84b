"""Keep outcomes of the dynamic stage for as long as everything that they depend on is unchanged.

What a target reads is known only once it has run. So an entry is found by the request, and holds, beside the outcome, a
snapshot of every file that was read and of every folder in which a module was looked for. It is valid while all of them
are unchanged. Only the linter writes entries; the code under test cannot.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import cache
from hashlib import blake2b
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from theria_lint import __file__ as _ours
from theria_lint.cache import EntryStore, Place, compute_stamp
from theria_lint.config import LOCAL
from theria_lint.confirm.protocol import FileDependencies, Outcome, read_reason
from theria_lint.model import STATES
from theria_lint.reasons import Reason
from theria_lint.result import Environment
from theria_lint.sandbox.environment import select_harmless_variables
from theria_lint.sources.source_text import open_without_waiting

_CORRUPT_ENTRY_ERRORS = (TypeError, KeyError, ValueError, AttributeError, IndexError, RecursionError, OverflowError)
"""What reading an entry raises that is not what was written."""


@dataclass(frozen=True)
class WorkerInfo:
    """What the worker says of itself: its environment, and what keeps the code under test in its place."""

    environment: Environment
    protections: Mapping[str, Reason | None]


class OutcomeCache:
    """Entries in a place; what cannot be read, or kept, leaves the run as it would be without a cache."""

    def __init__(self, place: Place, python: str, device: str, executor: str = LOCAL) -> None:
        """Results of one interpreter on one device of one executor."""
        self._entries = EntryStore(place, "dynamic")
        self._states = SnapshotChecker()
        package = os.path.dirname(os.path.abspath(_ours))
        self._stamp = compute_stamp((package, os.path.join(os.path.dirname(package), "theria")), ())
        self._place = json.dumps(
            [
                os.path.abspath(python),
                device,
                executor,
                _describe_machine(),
                sorted(select_harmless_variables(os.environ).items()),
            ]
        )
        self._around = ""
        self._began = 0

    def mark_worker_start(self) -> None:
        """Say that a worker is about to start: files that change from now on are not what it has read."""
        self._began = time.time_ns()

    def load_worker_info(self) -> WorkerInfo | None:
        """What a worker would say of itself; to be asked before any outcome."""
        entry = self._entries.load_entry(self._make_outcome_name("surroundings", self._place)) or {}
        try:
            if not self._states.is_unchanged(entry["state"]):
                return None
            held = {name: read_reason(why) if why else None for name, why in entry["protections"].items()}
            found = WorkerInfo(Environment(**entry["environment"]), held)
            if not conforms(found, WorkerInfo):
                return None
        except _CORRUPT_ENTRY_ERRORS:
            return None
        self._around = json.dumps(entry)
        return found

    def store_worker_info(self, found: WorkerInfo, reads: FileDependencies) -> None:
        """Keep what a worker has said of itself; without it no outcome is kept."""
        try:
            state = self._states.take_snapshot(reads, self._began, contents=False)
        except (TooNewError, OSError, ValueError):
            self._around = ""
            return
        held = {name: why.to_json() if why else None for name, why in found.protections.items()}
        entry = {"environment": found.environment._asdict(), "protections": held, "state": state}
        self._entries.store_entry(self._make_outcome_name("surroundings", self._place), entry)
        self._around = json.dumps(entry)

    def load_outcome(self, asked: str, watched: Iterable[str]) -> Outcome | None:
        """What came of a request, if it would come of it again."""
        entry = (self._around and self._entries.load_entry(self._make_outcome_name("outcome", asked))) or {}
        try:
            # A file that has come under watch since was not executed if it was not read.
            new = set(watched).difference(entry["watched"])
            if not new.isdisjoint(entry["state"]["files"]) or not self._states.is_unchanged(entry["state"]):
                return None
            found = Outcome.from_json(entry["outcome"])
            return _seen(found, watched) if _is_sound(found) else None
        except _CORRUPT_ENTRY_ERRORS:
            return None

    def store_outcome(self, asked: str, watched: Iterable[str], outcome: Outcome) -> None:
        """Keep what came of a request, if it does not depend on the moment."""
        if outcome.reads is None or not outcome.lasting or not self._around:
            return
        try:
            state = self._states.take_snapshot(outcome.reads, self._began)
        except (TooNewError, OSError, ValueError):
            return
        entry = {"outcome": asdict(replace(outcome, reads=None)), "watched": sorted(watched), "state": state}
        self._entries.store_entry(self._make_outcome_name("outcome", asked), entry)

    def load_texts(self, variant_key: str) -> list[str] | None:
        """The texts that a recipe gave."""
        entry = self._entries.load_entry(self._make_outcome_name("texts", variant_key))
        return entry if isinstance(entry, list) and all(isinstance(text, str) for text in entry) else None

    def store_texts(self, variant_key: str, texts: Sequence[str]) -> None:
        """Keep what a recipe gave, which must not depend on where the files lie."""
        self._entries.store_entry(self._make_outcome_name("texts", variant_key), list(texts))

    def load_kernels(self) -> str:
        """The kernels that a worker of this interpreter has compiled, packed; the empty text if there are none."""
        entry = self._around and self._entries.load_entry(self._make_outcome_name("kernels", self._place))
        return entry if isinstance(entry, str) else ""

    def store_kernels(self, packed: str) -> None:
        """Keep the kernels that a worker has compiled."""
        if self._around:
            self._entries.store_entry(self._make_outcome_name("kernels", self._place), packed)

    def _make_outcome_name(self, kind: str, asked: str) -> str:
        around = self._around if kind in ("outcome", "kernels") else ""
        digest = hashlib.blake2b(f"{kind}\0{asked}\0{around}".encode("utf-8", "surrogatepass"), digest_size=16)
        digest.update(self._stamp)
        return f"{digest.hexdigest()}.{kind}"


def _is_sound(outcome: Outcome) -> bool:
    """Whether everything in an outcome is of the type and among the words that it is to be of."""
    if not conforms(outcome, Outcome):
        return False
    numbers = (place for seen in (outcome.places, outcome.aside) for found in seen.values() for place in found)
    states = (state for run in outcome.runs for state in run.states.values())
    return all(0 < a <= c and b >= 0 <= d for a, b, c, d in numbers) and all(state in STATES for state in states)


def _seen(outcome: Outcome, watched: Iterable[str]) -> Outcome:
    """An outcome with what was seen in these files, of all that were under watch when it was kept."""
    wanted = frozenset(watched)
    places, aside = (
        {path: found for path, found in seen.items() if path in wanted} for seen in (outcome.places, outcome.aside)
    )
    return replace(outcome, places=places, aside=aside)


def _describe_machine() -> list[Any]:
    """What decides where code runs, and what keeps it in its place, beside the interpreter: the GPUs, the system."""
    nodes = [name for name in _list_folder("/dev") if name.startswith(("nvidia", "kfd", "dri", "dxg"))]
    return [os.uname().release, os.uname().machine, os.geteuid(), nodes]


def _list_folder(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


FileSnapshot = dict[str, Any]
"""The states of what ``FileDependencies`` names, as JSON data."""

_MAX_DEPENDENCIES = 50_000
_LARGEST_DEPENDENCY = 1 << 30


class TooNewError(Exception):
    """A file has changed since what was read of it was read: nobody knows what that was."""


class SnapshotChecker:
    """Looks at files; contents are read once a run, and again when a file has changed meanwhile.

    The state of a file is its size, the time of its last change and a digest of its content. That time (``ctime``)
    cannot be set back, so a file of which both are the same is the same; where only the time differs, the content
    decides. What is no regular file has the state None.
    """

    def __init__(self) -> None:
        """Nothing is known."""
        self._digests: dict[tuple[str, int, int], str] = {}
        self._checked: dict[tuple[str, str], bool] = {}

    def take_snapshot(self, reads: FileDependencies, before: int, *, contents: bool = True) -> FileSnapshot:
        """The states of what was read before the given time (nanoseconds since the epoch).

        Without ``contents`` a file is held to be another one as soon as its time of change is.

        Raises:
            TooNewError: if a file is newer.
            ValueError: if the paths make no sense.
        """
        if len(reads.files) + len(reads.searched) > _MAX_DEPENDENCIES:
            raise ValueError("nothing reads so many files")
        files = {path: self._describe_file(path, before, contents) for path in reads.files}
        return {
            "files": files,
            "folders": {f: [sorted(n), _list_importable_entries(f, n)] for f, n in reads.searched.items()},
        }

    def digest_file(self, path: str) -> str | None:
        """The digest of a regular file; None for what is none, or cannot be read."""
        now = _stat_regular_file(path)
        try:
            return None if now is None else self._digest_file(path, now)
        except (OSError, ValueError):
            return None

    def is_unchanged(self, snapshot: FileSnapshot) -> bool:
        """Whether everything is as it was. KeyError, TypeError or ValueError for what is no snapshot."""
        return all(self._is_entry_unchanged("file", path, old) for path, old in snapshot["files"].items()) and all(
            self._is_entry_unchanged("folder", path, old) for path, old in snapshot["folders"].items()
        )

    def _is_entry_unchanged(self, kind: str, path: str, old: Any) -> bool:
        key = (path, repr(old))
        if key not in self._checked:
            self._checked[key] = (
                self._is_file_unchanged(path, old)
                if kind == "file"
                else bool(_list_importable_entries(path, old[0]) == old[1])
            )
        return self._checked[key]

    def _is_file_unchanged(self, path: str, old: tuple[int, int, str] | None) -> bool:
        now = _stat_regular_file(path)
        if now is None or old is None:
            return now is None and old is None
        size, changed, digest = old
        if now.st_size != size or not (digest or now.st_ctime_ns == changed):
            return False
        try:
            return now.st_ctime_ns == changed or self._digest_file(path, now) == digest
        except (OSError, ValueError):
            return False

    def _describe_file(self, path: str, before: int, contents: bool) -> list[Any] | None:
        now = _stat_regular_file(path)
        if now is None:
            return None
        if now.st_ctime_ns >= before:
            raise TooNewError(path)
        return [now.st_size, now.st_ctime_ns, self._digest_file(path, now) if contents else ""]

    def _digest_file(self, path: str, now: os.stat_result) -> str:
        key = (path, now.st_size, now.st_ctime_ns)
        if key not in self._digests:
            self._digests[key] = _digest_content(path, now.st_size)
        return self._digests[key]


def _digest_content(path: str, size: int) -> str:
    """A digest of a file of so many bytes. OSError or ValueError for what cannot be read in a moment, or has others.

    The code under test chooses which files these are: it may have met a link to what only looks like a file, as in
    /proc, and never ends.
    """
    if size > _LARGEST_DEPENDENCY:
        raise ValueError("is too large to be read for a digest")
    found, left = blake2b(digest_size=16), size + 1
    with open(path, "rb", buffering=0, opener=open_without_waiting) as stream:
        while left and (piece := stream.read(min(left, 1 << 20))):
            found.update(piece)
            left -= len(piece)
        if left != 1 or piece is None:
            raise ValueError("is no file that has the size it says")
    return found.hexdigest()


def _stat_regular_file(path: str) -> os.stat_result | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _list_importable_entries(folder: str, names: Iterable[str]) -> list[str] | None:
    """What a folder holds that an import of one of the names may find, or that adds to the path of an interpreter."""
    wanted = frozenset(names)
    try:
        found = os.listdir(folder)
    except OSError:
        return None
    return sorted(entry for entry in found if entry.partition(".")[0] in wanted or entry.endswith(".pth"))


def conforms(value: object, kind: Any) -> bool:
    """Whether a value is of a type: a class, a dataclass by its fields, a union, ``tuple`` or ``dict`` of such."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(conforms(value, choice) for choice in inner)
    if origin is tuple and isinstance(value, tuple):
        kinds = (inner[0],) * len(value) if inner[-1] is Ellipsis else inner
        return len(kinds) == len(value) and all(map(conforms, value, kinds))
    if origin in (dict, Mapping) and isinstance(value, dict):
        return all(conforms(key, inner[0]) and conforms(item, inner[1]) for key, item in value.items())
    if is_dataclass(kind):
        return type(value) is kind and all(conforms(getattr(value, name), hint) for name, hint in _hints(kind).items())
    if kind is float:
        return type(value) in (float, int)
    return kind is Any or type(value) is kind


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
