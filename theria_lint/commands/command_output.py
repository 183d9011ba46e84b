"""What commands have in common: how they print, how they fail, and what a shell is told that completes a word."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, TextIO

import click

from theria_lint.commands import COMMANDS
from theria_lint.errors import UserError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


WRONG_USE = 2
"""The exit code of wrong usage or configuration, and of an internal error."""

_COMPLETION = "_THERIA_LINT_COMPLETE"
"""The variable that says that a shell asks, and which shell."""


class CommandFailure(click.ClickException):
    """One sentence, and the exit code of wrong use."""

    exit_code = WRONG_USE

    def format_message(self) -> str:
        """The sentence, as text that nothing acts on: it may name files of the project."""
        return make_inert(self.message)

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence, where that is possible."""
        say_line(f"Error: {self.format_message()}")


class PlainCommand(click.Command):
    """A command whose failures are one sentence each, whatever is wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        """As click does; what is wrong with the call or the configuration ends the run."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            from theria_lint.report.sentences import describe_user_error

            raise CommandFailure(describe_user_error(error)) from None

    def make_context(self, *arguments: Any, **further: Any) -> click.Context:
        """As click does; what it says of wrong options may name files, by a pattern that the shell has expanded."""
        try:
            return super().make_context(*arguments, **further)
        except click.UsageError as error:
            raise click.UsageError(make_inert(error.format_message()), error.ctx) from None

    def main(self, *arguments: Any, **further: Any) -> Any:
        """As click does; what it prints of itself (help, versions, wrong usage) may meet a full disk."""
        try:
            return super().main(*arguments, **further)
        except OSError as error:
            give_up(sys.stdout)
            say_line(f"Error: {_describe_unwritten(error)}")
            sys.exit(WRONG_USE)


def escape_unprintable_output() -> None:
    """Source text and paths may hold what the terminal cannot show: write escapes instead of ending the run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_text(text: str | bytes, colour: bool = False) -> None:
    """Write to standard output. Raises UserError where that cannot be, as on a full disk."""
    try:
        click.echo(text, nl=False, color=colour)
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up(sys.stdout)
        raise UserError(_describe_unwritten(error)) from None


def say_line(line: str) -> None:
    """Write a line to standard error, where that is possible: there is no other place to say that it is not."""
    try:
        click.echo(line, err=True)
    except OSError:
        give_up(sys.stderr)


def make_inert(text: str) -> str:
    """A sentence that may name anything, as one line that nothing acts on."""
    from theria_lint.report.style import escape_unprintable, inert

    return inert(escape_unprintable(text))


def give_up(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere: Python would try to write it at its end, and fail again."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _describe_unwritten(error: OSError) -> str:
    return f"standard output cannot be written: {error.strerror or error}."


def take_command_out(environment: MutableMapping[str, str]) -> str | None:
    """The command that is being completed, if one is; its word is taken out of what the shell has passed on."""
    words = environment.get("COMP_WORDS", "").split("\n" if "fish" in environment.get(_COMPLETION, "") else None, 2)
    if len(words) < 2 or words[1] not in COMMANDS:
        return None
    place = environment.get("COMP_CWORD", "")
    if place.isdigit() and int(place) < 2:
        return None  # the command itself is being typed
    environment["COMP_WORDS"] = " ".join([words[0], *words[2:]])
    if place.isdigit():
        environment["COMP_CWORD"] = str(int(place) - 1)
    return words[1]


def complete_rules(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The ids and names of rules, behind what is listed already."""
    from theria_lint.rules.loader import load_rules

    before, comma, word = incomplete.rpartition(",")
    known = {rule.id: rule.name for rule in load_rules().rules}
    items = [*known.items()] + [(name, rule) for rule, name in known.items()]
    return _select_items(items, before + comma, word)


def complete_words(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What can be explained: rules, verdicts, dispositions and reason codes."""
    from theria_lint.report.glossary import list_terms

    terms = [(term, "") for term in list_terms()]
    return complete_rules(context, parameter, incomplete) + _select_items(terms, "", incomplete)


def complete_paths(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Commands, where the word may be one, and files."""
    from click.shell_completion import CompletionItem

    is_first = not context.params.get("paths")
    commands = [(name, command.summary) for name, command in COMMANDS.items()] if is_first and incomplete else []
    return [CompletionItem(incomplete, type="file"), *_select_items(commands, "", incomplete)]


def _select_items(items: list[tuple[str, str]], before: str, word: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    fitting = [(value, told) for value, told in items if value.lower().startswith(word.lower())]
    return [CompletionItem(before + value, help=told or None) for value, told in fitting]
