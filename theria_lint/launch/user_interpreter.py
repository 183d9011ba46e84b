"""Start the user's interpreter so that it finds our packages, and nothing else of this environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from theria_lint.config import Settings
from theria_lint.confirm.python_interpreter import choose_interpreter
from theria_lint.errors import UserError
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report.sentences import compose_message

_BOOTSTRAP = """
import os, sys
from importlib.machinery import PathFinder
sys.path.insert(0, os.getcwd())
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [ROOT]) if name in ("theria", "theria_lint") else None
ROOT = sys.argv.pop(1)
sys.meta_path.insert(0, Finder)
import runpy
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The folder that holds our packages."""


def find_interpreter(settings: Settings) -> str:
    """The interpreter that runs the user's code, as the confirmation chooses it. Raises UserError."""
    choice = choose_interpreter(settings)
    if choice.refusal:
        told = {"reason": choice.refusal, "looked_at": list(choice.looked_at)}
        message = compose_message(Reason(ReasonCode.NO_WORKER, told))
        raise UserError("; ".join((message.line, *message.helps)) + ".")
    return choice.python


def run_module(python: str, module: str, arguments: Sequence[str]) -> int:
    """Run a module of ours in an interpreter, in the working directory; returns its exit code. Raises UserError."""
    command = [python, "-c", _BOOTSTRAP, ROOT, module, *arguments]
    try:
        return subprocess.run(command, check=False).returncode
    except OSError as error:
        raise UserError(f"{python}: cannot be started ({error.strerror}); name an interpreter with --python.") from None
