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
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from theria_lint import __file__ as _ours
from theria_lint.cache import Entries, stamp
from theria_lint.dynamic.protocol import Outcome, Reads
from theria_lint.dynamic.states import States, TooNewError
from theria_lint.dynamic.worker.sandbox.environment import allowed
from theria_lint.result import Environment

_BROKEN = (TypeError, KeyError, ValueError, AttributeError, IndexError)
"""What reading an entry raises that is not what was written."""


@dataclass(frozen=True)
class Surroundings:
    """What the worker says of itself: its environment, and what keeps the code under test in its place."""

    environment: Environment
    protections: Mapping[str, str | None]


class OutcomeCache:
    """Entries under ``directory``; what cannot be read, or kept, leaves the run as it would be without a cache."""

    def __init__(self, directory: str, python: str, device: str) -> None:
        """Results of one interpreter on one device."""
        self._entries = Entries(os.path.join(directory, "dynamic"))
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
            return Outcome.from_json(entry["outcome"])
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

    def texts(self, recipe: str) -> dict[str, str] | None:
        """The texts that a recipe gave."""
        entry = self._entries.load(self._name("texts", recipe))
        return entry if isinstance(entry, dict) else None

    def keep_texts(self, recipe: str, texts: Mapping[str, str]) -> None:
        """Keeps what a recipe gave."""
        self._entries.store(self._name("texts", recipe), dict(texts))

    def _name(self, kind: str, asked: str) -> str:
        around = self._around if kind == "outcome" else ""
        digest = hashlib.blake2b(f"{kind}\0{asked}\0{around}".encode("utf-8", "surrogatepass"), digest_size=16)
        digest.update(self._stamp)
        return digest.hexdigest()


def _machine() -> list[Any]:
    """What decides where code runs, and what keeps it in its place, beside the interpreter: the GPUs, the system."""
    nodes = [name for name in _listed("/dev") if name.startswith(("nvidia", "kfd", "dri", "dxg"))]
    return [os.uname().release, os.uname().machine, os.geteuid(), nodes]


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
