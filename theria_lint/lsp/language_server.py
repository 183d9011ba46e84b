"""Register the handlers of the protocol: which request is answered by what."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from lsprotocol import types
from pygls.exceptions import JsonRpcException, PyglsError
from pygls.lsp.server import LanguageServer

from theria_lint import __version__
from theria_lint.errors import UserError
from theria_lint.lsp.client import SECTION, read_options
from theria_lint.lsp.code_actions import iter_quick_fixes, make_text_edits
from theria_lint.lsp.diagnostics import DocumentMark, format_hover
from theria_lint.lsp.documents import CheckText
from theria_lint.lsp.session import Session
from theria_lint.report.command_messages import INTERNAL_ERROR, say_internal_error
from theria_lint.rules.loader import RuleSet

WATCHED_FILES = [
    types.FileSystemWatcher("**/*.py", types.WatchKind.Delete),
    types.FileSystemWatcher("**/pyproject.toml"),
    types.FileSystemWatcher("**/theria-lint.toml"),
]
_LOG = logging.getLogger(__name__)

LoadRules = Callable[[str], RuleSet]
"""The rules that are in force for a file."""


class LintLanguageServer(LanguageServer):
    """A server that tells what goes wrong in the editor's log, and not in the user's face."""

    def __init__(self, check_text: CheckText, load_rules: LoadRules) -> None:
        # The whole text with every change: pygls takes form feeds for line ends when it applies parts of it.
        super().__init__("theria-lint", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Full)
        self.session = Session(self, check_text)
        self.load_rules = load_rules

    def report_server_error(self, error: Exception, source: type[PyglsError] | type[JsonRpcException]) -> None:
        """Log an error that a message of the client has led to."""
        _LOG.error(INTERNAL_ERROR, exc_info=error)
        self.session.write_log(say_internal_error(error), types.MessageType.Error)


def make_server(check_text: CheckText, load_rules: LoadRules) -> LintLanguageServer:
    """Make a server that is ready to be started, of what checks a text and what loads the rules for a path."""
    server = LintLanguageServer(check_text, load_rules)
    _register_document_handlers(server)
    _register_settings_handlers(server)
    _register_request_handlers(server)
    return server


def _register_document_handlers(server: LintLanguageServer) -> None:
    session = server.session

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: types.DidOpenTextDocumentParams) -> None:
        session.open_document(params.text_document)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: types.DidChangeTextDocumentParams) -> None:
        session.update_document(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def saved(params: types.DidSaveTextDocumentParams) -> None:
        session.save_document(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: types.DidCloseTextDocumentParams) -> None:
        session.close_document(params.text_document.uri)

    @server.feature(types.SHUTDOWN)
    def shut_down(_: None) -> None:
        session.close_all_documents()


def _register_settings_handlers(server: LintLanguageServer) -> None:
    session = server.session

    @server.feature(types.INITIALIZE)
    def initialized_with(params: types.InitializeParams) -> None:
        _apply_client_options(session, params.initialization_options)

    @server.feature(types.INITIALIZED)
    async def initialized(_: types.InitializedParams) -> None:
        await _watch_files(server)

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def configured(params: types.DidChangeConfigurationParams) -> None:
        sent = params.settings
        _apply_client_options(
            session, sent.get(SECTION) if isinstance(sent, Mapping) else await _request_client_settings(server)
        )
        session.recheck_documents()

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def files_changed(params: types.DidChangeWatchedFilesParams) -> None:
        for change in params.changes:
            if change.type == types.FileChangeType.Deleted:
                session.withdraw_marks(change.uri)
        if any(change.uri.endswith(".toml") for change in params.changes):
            session.recheck_documents()


def _apply_client_options(session: Session, table: object) -> None:
    """Take over what the client sets, if anything. What is wrong is shown, and nothing is run until it is mended."""
    if table is None:
        return
    try:
        session.options = session.accepted = read_options(table, session.accepted)
    except UserError as error:
        session.options = session.accepted._replace(confirm=False)
        session.show_complaint(error)


async def _request_client_settings(server: LintLanguageServer) -> object:
    """Our settings, from a client that only says that some have changed; None if it cannot be asked."""
    workspace = server.client_capabilities.workspace
    if workspace is None or not workspace.configuration:
        return None
    wanted = types.ConfigurationParams([types.ConfigurationItem(section=SECTION)])
    return next(iter(await server.workspace_configuration_async(wanted)), None)


async def _watch_files(server: LintLanguageServer) -> None:
    workspace = server.client_capabilities.workspace
    watching = workspace.did_change_watched_files if workspace else None
    if watching is not None and watching.dynamic_registration:
        options = types.DidChangeWatchedFilesRegistrationOptions(WATCHED_FILES)
        method = types.WORKSPACE_DID_CHANGE_WATCHED_FILES
        await server.client_register_capability_async(
            types.RegistrationParams([types.Registration("watched-files", method, options)])
        )


def _register_request_handlers(server: LintLanguageServer) -> None:
    session = server.session

    @server.feature(types.TEXT_DOCUMENT_HOVER)
    def hovered(params: types.HoverParams) -> types.Hover | None:
        uri = params.text_document.uri
        marks = session.find_marks_at(uri, types.Range(params.position, params.position))
        text = format_hover(marks, lambda: server.load_rules(session.documents[uri].path))
        return types.Hover(types.MarkupContent(types.MarkupKind.Markdown, text)) if text else None

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix]),
    )
    def acted(params: types.CodeActionParams) -> list[types.CodeAction]:
        uri, wanted = params.text_document.uri, params.context.only
        if wanted is not None and types.CodeActionKind.QuickFix not in wanted:
            return []
        return _make_code_actions(server, uri, session.find_marks_at(uri, params.range))


def _make_code_actions(server: LintLanguageServer, uri: str, marks: list[DocumentMark]) -> list[types.CodeAction]:
    document = server.session.documents.get(uri)
    if document is None:
        return []
    before, newline, encoding = document.text, document.newline, server.session.encoding
    whole = types.OptionalVersionedTextDocumentIdentifier(uri, document.version)
    return [
        types.CodeAction(
            title,
            types.CodeActionKind.QuickFix,
            [diagnostic],
            edit=_make_workspace_edit(server, whole, make_text_edits(before, after, newline, encoding)),
        )
        for title, after, diagnostic in iter_quick_fixes(marks, before, document.last_run)
    ]


def _make_workspace_edit(
    server: LintLanguageServer, document: types.OptionalVersionedTextDocumentIdentifier, edits: list[types.TextEdit]
) -> types.WorkspaceEdit:
    """Edits for the very version that was checked, where the client can take care of that."""
    workspace = server.client_capabilities.workspace
    knows = workspace.workspace_edit if workspace else None
    if knows is not None and knows.document_changes:
        return types.WorkspaceEdit(document_changes=[types.TextDocumentEdit(document, edits)])
    return types.WorkspaceEdit(changes={document.uri: edits})
