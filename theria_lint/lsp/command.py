"""The command line of ``theria-lint server``, and its message where the extra is not installed."""

from __future__ import annotations

import click

MISSING_EXTRA = (
    "theria-lint server needs pygls 2 and lsprotocol ({reason}); install them with: pip install 'pygls>=2' lsprotocol."
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--stdio", is_flag=True, help="Speak over standard input and output, which it always does.")
def serve_editor(stdio: bool) -> None:
    """Serve an editor by the Language Server Protocol, over standard input and output.

    Documents are checked as they are typed, and run when they are saved. To lint a file or directory that is called
    server, write ./server.
    """
    try:
        from theria_lint.lsp import check_document
        from theria_lint.lsp.language_server import make_server
    except ImportError as error:
        raise _MissingExtra(MISSING_EXTRA.format(reason=error)) from None
    make_server(check_document.check_text, check_document.load_document_rules).start_io()


class _MissingExtra(click.ClickException):
    exit_code = 2
