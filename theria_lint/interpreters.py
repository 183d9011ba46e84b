"""Which interpreter runs the code: one that the user has named, installed or trusted, never one that a project brings.

An interpreter runs outside the sandbox, and so does what lies in its environment. None is started to find out what it
has.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
from collections.abc import Iterator
from typing import NamedTuple

from theria_lint import trust
from theria_lint.errors import UserError
from theria_lint.settings import Settings

_PROGRAM = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
_NAMES_OF_ENVIRONMENTS = (".venv", "venv")


class Choice(NamedTuple):
    """The interpreter, what the user should know about the choice, and why nothing is run, if nothing is."""

    python: str
    note: str | None = None
    refusal: str | None = None


def choose(settings: Settings) -> Choice:
    """The interpreter that runs the code: the one that is named, or the first that has torch.

    Those are this one, the active environment's and the project's; the project's only if the user trusts it. Raises
    UserError for one that is not there.
    """
    if settings.python and not settings.python_by_project:
        return Choice(_found(settings.python))
    users = next(_users(), None)
    offered = offer(settings)
    if offered is None and settings.python:
        return Choice(_found(settings.python))
    if offered is None or (users is not None and not settings.python):
        return Choice(users or sys.executable)
    shown = _shown(offered)
    if trust.is_trusted(trust.grant_for(settings.root, offered)):
        return Choice(offered, f"{shown} runs the code: you trust it for this project.")
    how = "say --trust to allow it from now on, or choose another with --python"
    if users is not None:
        return Choice(users, f"{shown} is the project's choice of interpreter and was not used; {how}.")
    return Choice(sys.executable, None, f"nothing was run: {shown} is the project's choice of interpreter; {how}")


def offer(settings: Settings) -> str | None:
    """The interpreter that the project chooses, by its configuration or by its environment; None for the user's own.

    Raises UserError for one that is not there.
    """
    if settings.python and settings.python_by_project:
        python = _found(settings.python)
        return None if _is_users(python) else python
    for name in _NAMES_OF_ENVIRONMENTS:
        python = os.path.join(os.path.abspath(settings.root), name, *_PROGRAM)
        if os.path.isfile(python) and _holds_torch(os.path.join(settings.root, name)) and not _is_users(python):
            return python
    return None


def trust_offered(settings: Settings) -> str:
    """Trust the project's choice from now on; returns a sentence that says what is trusted. Raises UserError."""
    offered = offer(settings)
    if offered is None:
        return "The project chooses no interpreter: there is nothing to trust."
    trust.remember(trust.grant_for(settings.root, offered))
    return f"{_shown(offered)} is trusted to run the code of {os.path.realpath(settings.root)}."


def _users() -> Iterator[str]:
    """The interpreters with torch that the user runs: this one, and the active environment's."""
    from importlib.util import find_spec

    if find_spec("torch") is not None:
        yield sys.executable
    for place in _active():
        python = os.path.join(place, *_PROGRAM)
        if os.path.isfile(python) and _holds_torch(place):
            yield python


def _active() -> list[str]:
    """The environments that the user has activated: variables say so, and a relative one would mean any folder."""
    places = (os.environ.get("VIRTUAL_ENV", ""), os.environ.get("CONDA_PREFIX", ""))
    return [place for place in places if os.path.isabs(place)]


def _is_users(python: str) -> bool:
    """Whether it is an interpreter that the user runs: in the same folder the same file, whatever its name there."""
    running = [sys.executable, *(os.path.join(place, *_PROGRAM) for place in _active())]
    return any(
        os.path.dirname(python) == os.path.dirname(os.path.abspath(own))
        and os.path.realpath(python) == os.path.realpath(own)
        for own in running
    )


def _found(python: str) -> str:
    found = shutil.which(python)
    if found is None:
        raise UserError(f"{python}: no such interpreter; --python takes the path of one that has torch.")
    return os.path.abspath(found)


def _holds_torch(environment: str) -> bool:
    patterns = (("lib", "python*", "site-packages", "torch"), ("Lib", "site-packages", "torch"))
    return any(glob.glob(os.path.join(glob.escape(environment), *pattern)) for pattern in patterns)


def _shown(python: str) -> str:
    return os.path.relpath(python).replace(os.sep, "/")
