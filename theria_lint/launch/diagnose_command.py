"""The command line of ``theria-lint diagnose``, and the user's interpreter, which it starts with our packages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import click

from theria_lint.config import Settings, resolve_settings
from theria_lint.confirm.python_interpreter import choose_interpreter
from theria_lint.errors import UserError
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report.sentences import compose_message, describe_user_error

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


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", metavar="MODULE:FUNCTION")
@click.option("--python", metavar="PATH", help="Interpreter that builds and runs the model.")
@click.option("--output-format", type=click.Choice(["text", "json"]), default="text", help="Of the diagnosis.")
@click.option("--seed", type=int, default=0, metavar="N", help="Of the random directions.")
def diagnose_model(name: str, python: str | None, output_format: str, seed: int) -> None:
    """Tell which part of a model is not twice differentiable.

    FUNCTION takes nothing and returns (model, inputs), inputs being a tuple or a dict. It is run with your interpreter,
    outside the sandbox. Exit codes: 0 safe, 1 not, 2 no diagnosis. To lint a folder that is called diagnose, write
    ./diagnose.
    """
    try:
        given = {"python": python} if python else {}
        settings = resolve_settings((".",), given, None, False).settings
        code = run_module(
            find_interpreter(settings),
            "theria.diagnosis",
            [name, "--output-format", output_format, "--seed", str(seed)],
        )
    except UserError as error:
        raise _DiagnosisError(describe_user_error(error)) from None
    sys.exit(code)


class _DiagnosisError(click.ClickException):
    exit_code = 2
