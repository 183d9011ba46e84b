"""What commands have in common: how they print, and how they fail."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import IO, Any, TextIO

import click

from theria_lint.errors import UserError

WRONG_USE = 2
"""The exit code of wrong usage or configuration, and of an internal error."""


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
