"""The words that may stand in the place of the first path, and the commands that belong to no other room.

A command is imported when it is named, and no sooner. command_output is how all of them, and the main form, speak to
the terminal; clean_command removes the results that are kept, explain_command explains a rule, a verdict or a code,
and answers the options that ask for that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class NamedCommand(NamedTuple):
    """Where a command is, and what it does in one line."""

    module: str
    function: str
    summary: str


MAIN = NamedCommand("theria_lint.cli", "run_command_line", "Find and confirm what is unsafe; the word can be left out.")

COMMANDS = {
    "check": MAIN,
    "explain": NamedCommand(
        "theria_lint.commands.explain_command", "explain_words", "Explain a rule, a verdict or a reason code."
    ),
    "record": NamedCommand(
        "theria_lint.launch.record_command", "run_record_command", "Keep how your tests call what is linted."
    ),
    "diagnose": NamedCommand(
        "theria_lint.launch.diagnose_command", "diagnose_model", "Tell which part of a model is not safe."
    ),
    "server": NamedCommand(
        "theria_lint.lsp.command", "serve_editor", "Serve an editor by the Language Server Protocol."
    ),
    "clean": NamedCommand("theria_lint.commands.clean_command", "clean_cache", "Remove the results that are kept."),
}
OWN_ENVIRONMENT = ("record", "diagnose")
"""Commands that start the user's code by the user's word: what they start finds modules as it would without us."""


def run_named_command(name: str, arguments: Sequence[str]) -> None:
    """Run a command of ``COMMANDS`` with what stands after it, and exit."""
    command = COMMANDS[name]
    function = getattr(import_module(command.module), command.function)
    function(list(arguments), prog_name=f"theria-lint {name}", complete_var="_THERIA_LINT_COMPLETE")
