"""The command line of ``theria-lint diagnose``."""

from __future__ import annotations

import sys

import click

from theria_lint.config import resolve_settings
from theria_lint.errors import UserError
from theria_lint.launch.user_interpreter import find_interpreter, run_module
from theria_lint.report.notes import describe_user_error


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
