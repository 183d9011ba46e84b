"""``python -m theria_lint`` and the ``theria-lint`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or the language server if the first word is ``server``, and exit."""
    if sys.argv[1:2] == ["server"]:
        from theria_lint.lsp.command import command as serve

        serve(sys.argv[2:], prog_name="theria-lint server")
    from theria_lint.cli import command

    command(prog_name="theria-lint")


if __name__ == "__main__":
    main()
