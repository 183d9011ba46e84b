"""Which interpreter runs the code: one that the user has named, installed or trusted, never one that a project brings.

An interpreter runs outside the sandbox, and so does what lies in its environment. None is started to find out what it
has.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import sys
from collections.abc import Iterator
from typing import NamedTuple

from theria_lint.config import Settings
from theria_lint.errors import ReadError, UserError
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.sources.atomic_write import write_atomically
from theria_lint.sources.owned_folder import get_configuration_folder
from theria_lint.sources.source_text import read_up_to

_PROGRAM = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
_NAMES_OF_ENVIRONMENTS = (".venv", "venv")


class InterpreterChoice(NamedTuple):
    """The interpreter, what the user should know about the choice, and why nothing is run, if nothing is.

    ``looked_at`` says of every interpreter that was passed over why it was.
    """

    python: str
    note: Reason | None = None
    refusal: Reason | None = None
    looked_at: tuple[Reason, ...] = ()


def choose_interpreter(settings: Settings) -> InterpreterChoice:
    """The interpreter that runs the code: the one that is named, or the first that has torch.

    Those are this one, the active environment's and the project's; the project's only if the user trusts it. Raises
    UserError for one that is not there.
    """
    if settings.python and not settings.python_by_project:
        return InterpreterChoice(_find_executable(settings.python))
    users, lacking = _look_at_user_interpreters()
    offered = find_offered_interpreter(settings)
    if offered is None and settings.python:
        return InterpreterChoice(_find_executable(settings.python))
    if users is not None and (offered is None or not settings.python):
        return InterpreterChoice(users)
    if offered is None:
        return InterpreterChoice(sys.executable, refusal=Reason(ReasonCode.NO_TORCH), looked_at=lacking)
    told = {"interpreter": _format_path(offered)}
    if is_trusted(make_grant(settings.root, offered)):
        return InterpreterChoice(offered, Reason(ReasonCode.INTERPRETER_TRUSTED, told))
    untrusted = Reason(ReasonCode.INTERPRETER_UNTRUSTED, told)
    if users is not None:
        return InterpreterChoice(users, untrusted)
    return InterpreterChoice(sys.executable, refusal=untrusted, looked_at=lacking)


def find_offered_interpreter(settings: Settings) -> str | None:
    """The interpreter that the project chooses, by its configuration or by its environment; None for the user's own.

    Raises UserError for one that is not there.
    """
    if settings.python and settings.python_by_project:
        python = _find_executable(settings.python)
        return None if _is_run_by_user(python) else python
    for name in _NAMES_OF_ENVIRONMENTS:
        python = os.path.join(os.path.abspath(settings.root), name, *_PROGRAM)
        if os.path.isfile(python) and _holds_torch(os.path.join(settings.root, name)) and not _is_run_by_user(python):
            return python
    return None


def trust_offered_interpreter(settings: Settings) -> Reason:
    """Trust the project's choice from now on; returns what is trusted. Raises UserError."""
    offered = find_offered_interpreter(settings)
    if offered is None:
        return Reason(ReasonCode.NOTHING_TO_TRUST)
    store_grant(make_grant(settings.root, offered))
    told = {"interpreter": _format_path(offered), "root": os.path.realpath(settings.root)}
    return Reason(ReasonCode.TRUST_GIVEN, told)


def _look_at_user_interpreters() -> tuple[str | None, tuple[Reason, ...]]:
    """The first interpreter with torch that the user runs, and those before it that lack it.

    These are this one, and the active environment's.
    """
    lacking: list[Reason] = []
    for python, has_torch in _iter_user_interpreters():
        if has_torch:
            return python, tuple(lacking)
        lacking.append(Reason(ReasonCode.INTERPRETER_WITHOUT_TORCH, {"interpreter": python}))
    return None, tuple(lacking)


def _iter_user_interpreters() -> Iterator[tuple[str, bool]]:
    """The interpreters that the user runs, with whether they have torch."""
    from importlib.util import find_spec

    yield sys.executable, find_spec("torch") is not None
    for place in _list_active_environments():
        python = os.path.join(place, *_PROGRAM)
        if os.path.isfile(python) and python != sys.executable:
            yield python, _holds_torch(place)


def _list_active_environments() -> list[str]:
    """The environments that the user has activated: variables say so, and a relative one would mean any folder."""
    places = (os.environ.get("VIRTUAL_ENV", ""), os.environ.get("CONDA_PREFIX", ""))
    return [place for place in places if os.path.isabs(place)]


def _is_run_by_user(python: str) -> bool:
    """Whether it is an interpreter that the user runs: in the same folder the same file, whatever its name there."""
    running = [sys.executable, *(os.path.join(place, *_PROGRAM) for place in _list_active_environments())]
    return any(
        os.path.dirname(python) == os.path.dirname(os.path.abspath(own))
        and os.path.realpath(python) == os.path.realpath(own)
        for own in running
    )


def _find_executable(python: str) -> str:
    found = shutil.which(python)
    if found is None:
        raise UserError(f"{python}: no such interpreter; --python takes the path of one that has torch.")
    return os.path.abspath(found)


def _holds_torch(environment: str) -> bool:
    patterns = (("lib", "python*", "site-packages", "torch"), ("Lib", "site-packages", "torch"))
    return any(glob.glob(os.path.join(glob.escape(environment), *pattern)) for pattern in patterns)


def _format_path(python: str) -> str:
    return os.path.relpath(python).replace(os.sep, "/")


_LARGEST = 1024 * 1024
_FILE = "trusted.json"


class Grant(NamedTuple):
    """A project's root, the interpreter that it may choose, and the file behind that: a change of one asks anew."""

    root: str
    python: str
    program: str


def make_grant(root: str, python: str) -> Grant:
    """What there is to trust about an interpreter."""
    return Grant(os.path.realpath(root), os.path.abspath(python), os.path.realpath(python))


def is_trusted(grant: Grant) -> bool:
    """Whether the user has trusted exactly this. A project that holds the user's configuration trusts itself: never."""
    path = os.path.join(get_configuration_folder(), _FILE)
    inside = os.path.realpath(path).startswith(os.path.join(grant.root, ""))
    return not inside and grant in _read_grants(path)


def store_grant(grant: Grant) -> None:
    """Trust it from now on. Raises UserError."""
    path = os.path.join(get_configuration_folder(), _FILE)
    if os.path.realpath(path).startswith(os.path.join(grant.root, "")):
        raise UserError(f"{grant.root}: holds your configuration folder and cannot be trusted; use --python instead.")
    grants = sorted({*_read_grants(path), grant})
    document = {"trusted": [found._asdict() for found in grants]}
    try:
        os.makedirs(get_configuration_folder(), 0o700, exist_ok=True)
        write_atomically(path, json.dumps(document, indent=2).encode("utf-8", "surrogatepass") + b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; use --python instead.") from None


def _read_grants(path: str) -> set[Grant]:
    """The grants in a file; what is no grant is none."""
    try:
        document = json.loads(read_up_to(_LARGEST, path))
        found = {Grant(item["root"], item["python"], item["program"]) for item in document["trusted"]}
        return {grant for grant in found if all(isinstance(part, str) for part in grant)}
    except (ReadError, ValueError, TypeError, KeyError, RecursionError):
        return set()
