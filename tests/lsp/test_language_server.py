"""The server as an editor meets it, while nothing is run: over standard input and output, with a real client."""

from __future__ import annotations

import sys

import pytest
from lsprotocol import types

from tests.support.editor_page import KERNEL
from tests.support.lsp_editor import Diagnostics, Editor

pytestmark = pytest.mark.asyncio

CLEAN = KERNEL.replace(".detach()", "")
UTF8, UTF16, UTF32 = types.PositionEncodingKind.Utf8, types.PositionEncodingKind.Utf16, types.PositionEncodingKind.Utf32


def codes(found: Diagnostics) -> list[object]:
    return [item.code for item in found]


def columns(found: Diagnostics) -> tuple[int, int]:
    (only,) = found
    return only.range.start.character, only.range.end.character


async def test_an_opened_text_is_checked_whatever_is_on_the_disk(editor: Editor) -> None:
    (editor.folder / "kernel.py").write_text(CLEAN)
    await editor.start()
    editor.open("kernel.py", KERNEL)
    (found,) = await editor.until("kernel.py", len)
    assert (found.code, found.source, found.severity) == ("THL002", "theria-lint", types.DiagnosticSeverity.Warning)
    assert found.range == types.Range(types.Position(5, 19), types.Position(5, 27))
    assert found.message.endswith("unconfirmed: not run yet\nhelp: Save the file to have it run")


async def test_diagnostics_follow_what_is_typed(editor: Editor) -> None:
    await editor.start()
    editor.open("kernel.py", CLEAN)
    assert not await editor.until("kernel.py", lambda found: not found)
    editor.type("kernel.py", "# one\n# two\n" + KERNEL)
    assert (await editor.until("kernel.py", len))[0].range.start.line == 7
    editor.type("kernel.py", CLEAN)
    assert not await editor.until("kernel.py", lambda found: not found)


async def test_the_version_of_the_text_that_was_checked_is_told(editor: Editor) -> None:
    versions: list[int | None] = []
    editor.client.protocol.fm.features.pop(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)

    @editor.client.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    def published(parameters: types.PublishDiagnosticsParams) -> None:
        versions.append(parameters.version)
        editor.client.diagnostics[parameters.uri] = parameters.diagnostics

    await editor.start()
    editor.open("kernel.py", CLEAN)
    await editor.until("kernel.py", lambda found: not found)
    for _ in range(5):
        editor.type("kernel.py", CLEAN + "\n")
    editor.type("kernel.py", KERNEL)
    await editor.until("kernel.py", len)
    assert versions == [1, 7]  # what came between was not worth checking


@pytest.mark.parametrize(
    ("offered", "expected"),
    [(None, UTF16), ([UTF8, UTF16], UTF8), ([UTF16], UTF16), ([UTF32], UTF32), (["utf-7"], UTF16)],
)
async def test_columns_count_in_the_units_that_were_agreed_on(
    editor: Editor, offered: list[str] | None, expected: types.PositionEncodingKind
) -> None:
    general = types.GeneralClientCapabilities(position_encodings=offered)
    result = await editor.start(capabilities=types.ClientCapabilities(general=general))
    assert result.capabilities.position_encoding == expected
    before = '    "🦜🧠é漢"; return '
    editor.open("kernel.py", KERNEL.replace("    return ", before))
    length = {UTF8: len(before.encode()), UTF16: len(before.encode("utf-16-le")) // 2, UTF32: len(before)}[expected]
    assert columns(await editor.until("kernel.py", len)) == (length + 8, length + 16)
    assert await editor.hover("kernel.py", 5, length + 9)
    assert await editor.hover("kernel.py", 5, length + 5) is None


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
async def test_other_line_ends_and_form_feeds_move_nothing(editor: Editor, newline: str) -> None:
    capabilities = (await editor.start()).capabilities
    assert isinstance(capabilities.text_document_sync, types.TextDocumentSyncOptions)
    assert capabilities.text_document_sync.change == types.TextDocumentSyncKind.Full
    text = KERNEL.replace("\n\n", "\n\x0c\n").replace("\n", newline)
    editor.open("kernel.py", text)
    assert (await editor.until("kernel.py", len))[0].range.start == types.Position(5, 19)
    fixed = editor.apply("kernel.py", (await editor.actions("kernel.py", 5, 20))["Ignore THL002 here"])
    assert fixed == text.replace(".detach()", ".detach()  # theria: ignore[THL002]")


async def test_a_coding_comment_does_not_change_how_a_buffer_is_read(editor: Editor) -> None:
    await editor.start()
    editor.open("kernel.py", "# coding: latin-1\n" + KERNEL.replace("    return", '    "éé"; return'))
    assert columns(await editor.until("kernel.py", len)) == (25, 33)


async def test_a_file_that_does_not_parse_is_marked_at_the_place(editor: Editor) -> None:
    await editor.start()
    editor.open("kernel.py", KERNEL + "\n\n  def broken(:\n")
    (found,) = await editor.until("kernel.py", len)
    assert (found.code, found.severity) == ("not-checked", types.DiagnosticSeverity.Error)
    assert found.range == types.Range(types.Position(8, 2), types.Position(8, 14))
    assert "does not parse" in found.message


async def test_closing_and_deleting_withdraw_what_was_said(editor: Editor) -> None:
    await editor.start()
    for name in ("one.py", "two.py"):
        editor.open(name, KERNEL)
        await editor.until(name, len)
    editor.close("one.py")
    deleted = types.FileEvent(editor.uri("two.py"), types.FileChangeType.Deleted)
    editor.client.workspace_did_change_watched_files(types.DidChangeWatchedFilesParams([deleted]))
    assert not await editor.until("one.py", lambda found: not found)
    assert not await editor.until("two.py", lambda found: not found)
    editor.type("two.py", "\n" + KERNEL)
    assert await editor.until("two.py", len), "a buffer lives on without its file"


async def test_the_nearest_configuration_is_read_anew(editor: Editor) -> None:
    await editor.start()
    editor.open("kernel.py", KERNEL)
    await editor.until("kernel.py", len)
    configuration = editor.folder / "theria-lint.toml"
    configuration.write_text('ignore = ["THL002"]\n')
    changed = types.FileEvent(configuration.as_uri(), types.FileChangeType.Created)
    editor.client.workspace_did_change_watched_files(types.DidChangeWatchedFilesParams([changed]))
    assert not await editor.until("kernel.py", lambda found: not found)
    configuration.write_text('exclude = ["kernel.py"]\n')
    editor.type("kernel.py", KERNEL + "\n")
    assert await editor.hover("kernel.py", 5, 20) is None


async def test_a_wrong_configuration_is_told_once(editor: Editor) -> None:
    (editor.folder / "theria-lint.toml").write_text('ignore = ["THL9"]\n')
    await editor.start()
    editor.open("one.py", KERNEL)
    assert not await editor.until("one.py", lambda found: not found)
    editor.open("two.py", KERNEL)
    assert not await editor.until("two.py", lambda found: not found)
    (message,) = editor.client.messages
    assert "no rule starts with 'THL9'" in message.message
    (editor.folder / "theria-lint.toml").unlink()
    editor.type("one.py", "\n" + KERNEL)
    assert await editor.until("one.py", len)


async def test_the_client_may_switch_confirming_off_and_on(editor: Editor) -> None:
    await editor.start(options={"confirm": False})
    editor.open("kernel.py", KERNEL)
    await editor.until("kernel.py", lambda found: found and "confirming is switched off" in found[0].message)
    for others in ({}, {"python": {"confirm": True}}):
        editor.client.workspace_did_change_configuration(types.DidChangeConfigurationParams(others))
    on = types.DidChangeConfigurationParams({"theria-lint": {"confirm": True}})
    editor.client.workspace_did_change_configuration(on)
    await editor.until("kernel.py", lambda found: found and "not run yet" in found[0].message)
    assert editor.client.messages == []


async def test_nothing_is_run_while_a_setting_is_wrong(editor: Editor) -> None:
    await editor.start(options={"confirm": "no"})
    assert editor.client.messages[-1].message == "The client sets confirm to 'no'; expected true or false."
    editor.client.workspace_did_change_configuration(types.DidChangeConfigurationParams({}))
    editor.open("kernel.py", KERNEL)
    await editor.until("kernel.py", lambda found: found and "confirming is switched off" in found[0].message)
    right = types.DidChangeConfigurationParams({"theria-lint": {"showCleared": True}})
    editor.client.workspace_did_change_configuration(right)
    await editor.until("kernel.py", lambda found: found and "not run yet" in found[0].message)


async def test_settings_are_asked_for_where_the_client_does_not_send_them(editor: Editor) -> None:
    workspace = types.WorkspaceClientCapabilities(configuration=True)
    await editor.start(capabilities=types.ClientCapabilities(workspace=workspace))
    editor.open("kernel.py", KERNEL)
    await editor.until("kernel.py", len)
    editor.client.set_configuration({"theria-lint": {"confirm": False}})
    editor.client.workspace_did_change_configuration(types.DidChangeConfigurationParams(None))
    await editor.until("kernel.py", lambda found: found and "confirming is switched off" in found[0].message)


async def test_files_outside_the_workspace_are_only_read(editor: Editor) -> None:
    await editor.start()
    (editor.folder.parent / "elsewhere").mkdir()
    editor.open("../elsewhere/kernel.py", KERNEL)
    (found,) = await editor.until("../elsewhere/kernel.py", len)
    assert found.message.endswith("not run: the file is outside the workspace")


@pytest.mark.parametrize(("name", "language"), [("notes.txt", "plaintext"), ("book.ipynb", "python")])
async def test_what_is_no_python_file_is_left_alone(editor: Editor, name: str, language: str) -> None:
    await editor.start()
    editor.open(name, KERNEL, language)
    editor.open("kernel.py", KERNEL)
    await editor.until("kernel.py", len)
    assert list(editor.client.diagnostics) == [editor.uri("kernel.py")]


async def test_an_ignore_comment_is_a_quick_fix(editor: Editor) -> None:
    await editor.start()
    editor.open("kernel.py", KERNEL)
    (found,) = await editor.until("kernel.py", len)
    actions = await editor.actions("kernel.py", 5, 20)
    assert list(actions) == ["Ignore THL002 here"]
    assert actions["Ignore THL002 here"].kind == types.CodeActionKind.QuickFix
    assert actions["Ignore THL002 here"].diagnostics == (found,)
    assert await editor.actions("kernel.py", 1, 0) == {}
    assert await editor.actions("kernel.py", 5, 20, only=[types.CodeActionKind.SourceOrganizeImports]) == {}
    assert await editor.actions("kernel.py", 5, 20, only=[types.CodeActionKind.QuickFix]) == actions
    assert editor.apply("kernel.py", actions["Ignore THL002 here"]) == KERNEL.replace(
        ".detach()", ".detach()  # theria: ignore[THL002]"
    )
    assert not await editor.until("kernel.py", lambda found: not found)
    editor.type("kernel.py", editor.texts["kernel.py"].replace(".detach()", ""))
    (unused,) = await editor.until("kernel.py", len)
    assert (unused.code, unused.tags) == ("unused-ignore", (types.DiagnosticTag.Unnecessary,))
    assert columns([unused]) == (20, 44)


async def test_an_edit_names_the_version_where_the_client_can_tell(editor: Editor) -> None:
    changes = types.WorkspaceEditClientCapabilities(document_changes=True)
    workspace = types.WorkspaceClientCapabilities(workspace_edit=changes)
    await editor.start(capabilities=types.ClientCapabilities(workspace=workspace))
    editor.open("kernel.py", "\n")
    editor.type("kernel.py", KERNEL)
    await editor.until("kernel.py", len)
    edit = (await editor.actions("kernel.py", 5, 20))["Ignore THL002 here"].edit
    assert edit is not None
    assert edit.document_changes is not None
    (change,) = edit.document_changes
    assert isinstance(change, types.TextDocumentEdit)
    assert (change.text_document.uri, change.text_document.version) == (editor.uri("kernel.py"), 2)


async def test_hovering_tells_what_the_rule_is_about(editor: Editor) -> None:
    await editor.start()
    editor.open("kernel.py", KERNEL)
    await editor.until("kernel.py", len)
    text = await editor.hover("kernel.py", 5, 20)
    assert text is not None
    assert text.startswith("**THL002 detach: unconfirmed**\n\n`.detach()` in `attention` cuts the graph")
    assert "Evidence: not run yet" in text
    assert "**THL002 detach.** Finds tensors taken off the graph" in text
    assert await editor.hover("kernel.py", 0, 0) is None
    assert await editor.hover("missing.py", 0, 0) is None


FAULTY = """
import theria_lint.lsp.check_document as check_document
import theria_lint.lsp.language_server as server

check = check_document.check_text

def faulty(path, text, *rest):
    if "boom" in text:
        raise RuntimeError("in a task")
    return check(path, text, *rest)

def faulty_fixes(*_):
    raise RuntimeError("in a request")

server.iter_quick_fixes = faulty_fixes
server.make_server(faulty, check_document.load_document_rules).start_io()
"""


async def test_a_crash_is_logged_and_the_server_lives(editor: Editor) -> None:
    await editor.start((sys.executable, "-c", FAULTY))
    editor.open("kernel.py", KERNEL)
    await editor.until("kernel.py", len)
    with pytest.raises(Exception, match="in a request"):
        await editor.actions("kernel.py", 5, 20)
    editor.type("kernel.py", KERNEL + "# boom\n")
    while len(editor.client.log_messages) < 2:
        await editor.client.wait_for_notification(types.WINDOW_LOG_MESSAGE)
    assert ["in a request" in message.message for message in editor.client.log_messages] == [True, False]
    assert "RuntimeError: in a task; please report it." in editor.client.log_messages[1].message
    editor.type("kernel.py", "\n" + KERNEL)
    assert await editor.until("kernel.py", lambda found: found and found[0].range.start.line == 6)
