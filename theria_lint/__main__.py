"""``python -m theria_lint`` and the ``theria-lint`` command."""

from __future__ import annotations

from theria_lint.cli import command


def main() -> None:
    """Run the command line and exit."""
    command(prog_name="theria-lint")


if __name__ == "__main__":
    main()
