"""What happens when a file is saved: it is run beside the editor, and what was found replaces what was suspected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from lsprotocol import types

from tests.support.editor_page import KERNEL
from tests.support.lsp_editor import PATIENCE, Diagnostics, Editor

pytestmark = pytest.mark.asyncio
needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="what runs is read from /proc")

CLEARED = """\
import torch


def attention(q, k, v):
    scores = q @ k.transpose(-1, -2)
    scores = scores - scores.amax(-1, keepdim=True).detach()
    return torch.softmax(scores, -1) @ v
"""
STUCK = "import time\n\ntime.sleep(600)\n" + KERNEL
Severity = types.DiagnosticSeverity


def severities(found: Diagnostics) -> list[tuple[object, object, int]]:
    return [(item.code, item.severity, item.range.start.line) for item in found]


def runs_in(place: Path) -> set[str]:
    """The numbers of the processes that lint a saved file in a folder, less those that are ending."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"theria_lint.lsp.check_document" in arguments and str(place).encode() in arguments:
            found.add(process.name)
    return found


async def until_runs(place: Path, holds: Callable[[set[str]], bool]) -> set[str]:
    async with asyncio.timeout(PATIENCE):
        while not holds(found := runs_in(place)):
            await asyncio.sleep(0.05)
    return found


async def start_stuck(editor: Editor) -> set[str]:
    """Save a file whose run outlasts every test."""
    (editor.folder / "theria-lint.toml").write_text("timeout = 600\n")
    editor.open("kernel.py", STUCK)
    editor.save("kernel.py")
    return await until_runs(editor.folder, lambda found: len(found) == 1)


async def test_saving_confirms_and_a_verified_rewrite_mends(editor: Editor) -> None:
    await editor.start()
    editor.open("kernel.py", KERNEL)
    editor.save("kernel.py")
    found = await editor.until("kernel.py", lambda found: len(found) == 2)
    assert severities(found) == [("THL002", Severity.Error, 5), ("unsafe-target", Severity.Error, 3)]
    assert "\nconfirmed, hard_structural: with it attention is hard_structural" in found[0].message
    assert found[1].message.startswith("attention is hard_structural: the output is outside the graph")
    assert found[1].range == types.Range(types.Position(3, 4), types.Position(3, 13))
    (cause,) = found[1].related_information or ()
    assert cause.location == types.Location(editor.uri("kernel.py"), found[0].range)
    assert "Evidence: with it attention is hard\\_structural" in str(await editor.hover("kernel.py", 5, 20))
    assert "**attention: hard\\_structural**" in str(await editor.hover("kernel.py", 3, 5))
    actions = await editor.actions("kernel.py", 5, 20)
    assert list(actions) == ["Rewrite THL002 away: attention was measured safe like this", "Ignore THL002 here"]

    editor.type("kernel.py", "\n" + KERNEL)
    found = await editor.until("kernel.py", lambda found: found[0].range.start.line == 6)
    assert severities(found) == [("THL002", Severity.Error, 6)]
    assert "\nconfirmed, hard_structural: as last saved: with it" in found[0].message
    assert list(await editor.actions("kernel.py", 6, 20)) == ["Ignore THL002 here"], "this text was not verified"

    editor.type("kernel.py", KERNEL)
    await editor.until("kernel.py", lambda found: len(found) == 2)
    (rewrite, _) = (await editor.actions("kernel.py", 5, 20)).values()
    assert editor.apply("kernel.py", rewrite) == KERNEL.replace(".detach()", "")
    editor.save("kernel.py")
    assert not await editor.until("kernel.py", lambda found: not found)


@pytest.mark.parametrize("shown", [False, True])
async def test_what_is_cleared_vanishes_or_is_a_hint(editor: Editor, shown: bool) -> None:
    await editor.start(options={"showCleared": shown})
    editor.open("kernel.py", CLEARED)
    assert severities(await editor.until("kernel.py", len)) == [("THL002", Severity.Information, 5)]
    editor.save("kernel.py")
    expected = [("THL002", Severity.Hint, 5)] if shown else []
    await editor.until("kernel.py", lambda found: severities(found) == expected)
    editor.type("kernel.py", CLEARED + "\n\n# typing does not bring it back\n")
    await editor.client.wait_for_notification(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    assert severities(await editor.until("kernel.py", lambda found: True)) == expected


@needs_proc
async def test_a_run_does_not_hold_up_typing_and_a_newer_save_ends_it(editor: Editor) -> None:
    await editor.start()
    first = await start_stuck(editor)
    editor.type("kernel.py", "\n\n" + STUCK)
    await editor.until("kernel.py", lambda found: found and found[0].range.start.line == 10)
    assert runs_in(editor.folder) == first
    editor.save("kernel.py")
    await until_runs(editor.folder, lambda found: len(found) == 1 and found != first)
    editor.type("kernel.py", CLEARED)
    editor.save("kernel.py")
    assert not await editor.until("kernel.py", lambda found: not found)
    assert runs_in(editor.folder) == set()


@needs_proc
@pytest.mark.parametrize("how", ["close", "quit", "hang up", "kill"])
async def test_nothing_runs_on_when_the_editor_has_gone(editor: Editor, how: str) -> None:
    await editor.start()
    await start_stuck(editor)
    if how == "close":
        editor.close("kernel.py")
    elif how == "quit":
        await editor.quit()
    else:
        server = editor.client._server
        assert server is not None
        assert server.stdin is not None
        server.stdin.close() if how == "hang up" else server.kill()
        await server.wait()
        await editor.client.stop()
    await until_runs(editor.folder, lambda found: not found)


@needs_proc
async def test_opening_a_folder_runs_nothing(editor: Editor) -> None:
    trace = editor.folder.parent / "trace"
    (editor.folder / "evil").write_text(f"#!/bin/sh\ntouch {trace}\n")
    (editor.folder / "evil").chmod(0o755)
    (editor.folder / "theria-lint.toml").write_text('python = "./evil"\n')
    await editor.start()
    editor.open("kernel.py", STUCK)
    await editor.until("kernel.py", len)
    assert runs_in(editor.folder) == set()
    assert not trace.exists()


@needs_proc
async def test_nothing_runs_where_confirming_is_off(editor: Editor) -> None:
    await editor.start(options={"confirm": False})
    editor.open("kernel.py", STUCK)
    editor.save("kernel.py")
    (found,) = await editor.until("kernel.py", len)
    assert "confirming is switched off" in found.message
    (editor.folder / "theria-lint.toml").write_text("confirm = false\n")
    on = types.DidChangeConfigurationParams({"theria-lint": {"confirm": True}})
    editor.client.workspace_did_change_configuration(on)
    editor.save("kernel.py")
    await editor.until("kernel.py", lambda found: found and "confirming is switched off" in found[0].message)
    assert runs_in(editor.folder) == set()


async def test_a_file_without_a_workspace_is_run_and_nothing_beside_it_taken_for_ours(editor: Editor) -> None:
    for name in ("click.py", "json.py", "pickle.py", "theria_lint.py"):
        (editor.folder / name).write_text(f"open({str(editor.folder / 'imported')!r}, 'w')\n")
    window = types.WindowClientCapabilities(work_done_progress=True)
    await editor.start(in_folder=False, capabilities=types.ClientCapabilities(window=window))
    editor.open("kernel é.py", CLEARED)
    await editor.until("kernel é.py", len)
    editor.save("kernel é.py")
    assert not await editor.until("kernel é.py", lambda found: not found)
    assert not (editor.folder / "imported").exists()
    ((begin, end),) = editor.client.progress_reports.values()
    assert begin.title == "theria-lint runs kernel é.py"
    assert isinstance(end, types.WorkDoneProgressEnd)
