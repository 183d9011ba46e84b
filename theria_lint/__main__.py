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
    if sys.argv[1:2] == ["diagnose"]:
        from theria_lint.launch.diagnose_command import diagnose_model as diagnose

        diagnose(sys.argv[2:], prog_name="theria-lint diagnose")
    if sys.argv[1:2] == ["record"]:
        from theria_lint.launch.record_command import run_record_command

        run_record_command(sys.argv[2:])
    os.environ["PYTHONSAFEPATH"] = "1"  # for the processes of the static stage, wherever they are not forked
    if sys.argv[1:2] == ["server"]:
        from theria_lint.lsp.command import serve_editor as serve

        serve(sys.argv[2:], prog_name="theria-lint server")
    from theria_lint.cli import run_command_line

    run_command_line(prog_name="theria-lint")


if __name__ == "__main__":
    main()
