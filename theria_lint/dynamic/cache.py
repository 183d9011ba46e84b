"""Results of the dynamic stage, kept by everything that they were made from.

What a target reads is known only once it has run. So an entry is found by what was asked, and holds, beside the
outcome, the state of every file that was read and of every folder in which a module was looked for: it counts as long
as all of them are what they were. Only the linter writes entries; the code under test cannot.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from theria_lint import __file__ as _ours
from theria_lint.cache import Entries, Place, stamp
from theria_lint.dynamic.protocol import Outcome, Reads
from theria_lint.dynamic.shapes import conforms
from theria_lint.dynamic.states import States, TooNewError
from theria_lint.dynamic.worker.sandbox.environment import allowed
from theria_lint.model import STATES
from theria_lint.result import Environment

_BROKEN = (TypeError, KeyError, ValueError, AttributeError, IndexError, RecursionError, OverflowError)
"""What reading an entry raises that is not what was written."""


@dataclass(frozen=True)
class Surroundings:
    """What the worker says of itself: its environment, and what keeps the code under test in its place."""

    environment: Environment
    protections: Mapping[str, str | None]


class OutcomeCache:
    """Entries in a place; what cannot be read, or kept, leaves the run as it would be without a cache."""

    def __init__(self, place: Place, python: str, device: str) -> None:
        """Results of one interpreter on one device."""
        self._entries = Entries(place, "dynamic")
        self._states = States()
        package = os.path.dirname(os.path.abspath(_ours))
        self._stamp = stamp((package, os.path.join(os.path.dirname(package), "theria")), ())
        self._place = json.dumps([os.path.abspath(python), device, _machine(), sorted(allowed(os.environ).items())])
        self._around = ""
        self._began = 0

    def begin(self) -> None:
        """Says that a worker is about to start: files that change from now on are not what it has read."""
        self._began = time.time_ns()

    def surroundings(self) -> Surroundings | None:
        """What a worker would say of itself; to be asked before any outcome."""
        entry = self._entries.load(self._name("surroundings", self._place)) or {}
        try:
            if not self._states.are_still(entry["state"]):
                return None
            found = Surroundings(Environment(**entry["environment"]), dict(entry["protections"]))
            if not conforms(found, Surroundings):
                return None
        except _BROKEN:
            return None
        self._around = json.dumps(entry)
        return found

    def keep_surroundings(self, found: Surroundings, reads: Reads) -> None:
        """Keeps what a worker has said of itself; without it no outcome is kept."""
        try:
            state = self._states.take(reads, self._began, contents=False)
        except (TooNewError, OSError, ValueError):
            self._around = ""
            return
        entry = {"environment": asdict(found.environment), "protections": dict(found.protections), "state": state}
        self._entries.store(self._name("surroundings", self._place), entry)
        self._around = json.dumps(entry)

    def outcome(self, asked: str, watched: Iterable[str]) -> Outcome | None:
        """What came of a request, if it would come of it again."""
        entry = (self._around and self._entries.load(self._name("outcome", asked))) or {}
        try:
            # A file that has come under watch since was not executed if it was not read.
            new = set(watched).difference(entry["watched"])
            if not new.isdisjoint(entry["state"]["files"]) or not self._states.are_still(entry["state"]):
                return None
            found = Outcome.from_json(entry["outcome"])
            return _seen(found, watched) if _is_sound(found) else None
        except _BROKEN:
            return None

    def keep(self, asked: str, watched: Iterable[str], outcome: Outcome) -> None:
        """Keeps what came of a request, if it does not depend on the moment."""
        if outcome.reads is None or not self._around:
            return
        try:
            state = self._states.take(outcome.reads, self._began)
        except (TooNewError, OSError, ValueError):
            return
        entry = {"outcome": asdict(replace(outcome, reads=None)), "watched": sorted(watched), "state": state}
        self._entries.store(self._name("outcome", asked), entry)

    def texts(self, recipe: str) -> list[str] | None:
        """The texts that a recipe gave."""
        entry = self._entries.load(self._name("texts", recipe))
        return entry if isinstance(entry, list) and all(isinstance(text, str) for text in entry) else None

    def keep_texts(self, recipe: str, texts: Sequence[str]) -> None:
        """Keeps what a recipe gave, which must not depend on where the files lie."""
        self._entries.store(self._name("texts", recipe), list(texts))

    def _name(self, kind: str, asked: str) -> str:
        around = self._around if kind == "outcome" else ""
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


def _machine() -> list[Any]:
    """What decides where code runs, and what keeps it in its place, beside the interpreter: the GPUs, the system."""
    nodes = [name for name in _listed("/dev") if name.startswith(("nvidia", "kfd", "dri", "dxg"))]
    return [os.uname().release, os.uname().machine, os.geteuid(), nodes]


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
