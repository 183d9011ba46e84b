"""``python -m theria_lint`` and the ``theria-lint`` command."""

# No `from __future__ import annotations`: it would import the working directory's own __future__.py.
import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # With -m the working directory comes first on the path: a theria.py or click.py there would be run in place of
    # ours. Where this very package was found there, the folder is ours.
    _FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if os.path.abspath(sys.path[0]) != _FOLDER:
        del sys.path[0]


def main() -> None:
    """Run the command line, or the command that the first word names, and exit."""
    from theria_lint.commands import COMMANDS, OWN_ENVIRONMENT, run_named_command

    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if "_THERIA_LINT_COMPLETE" in os.environ:
        from theria_lint.commands.command_output import take_command_out

        word = take_command_out(os.environ) or ""
    if word not in OWN_ENVIRONMENT:
        os.environ["PYTHONSAFEPATH"] = "1"  # for the processes of the static stage, wherever they are not forked
    if word in COMMANDS:
        run_named_command(word, sys.argv[2:])
    from theria_lint.cli import run_command_line

    run_command_line(prog_name="theria-lint")


if __name__ == "__main__":
    main()
