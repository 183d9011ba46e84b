"""The settings of ``docs/editors.md`` for Vim, Neovim and efm, in these editors, on what the linter really prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.editor_page import KERNEL, snippet
from tests.support.editor_project import COMMAND, SERVER, Place, Project, expected


def matched_in_vim(project: Project, commands: list[str], tmp_path: Path, editor: str = "vim") -> list[Place]:
    """The quickfix list after some commands."""
    compilers = tmp_path / "vim" / "compiler"
    compilers.mkdir(parents=True)
    (compilers / "theria-lint.vim").write_text(snippet(COMMAND, "Vim"))
    out = tmp_path / "quickfix.json"
    listed = "map(getqflist(), {_, item -> extend(item, {'bufname': bufname(item.bufnr)})})"
    commands = [f"set runtimepath+={compilers.parent}", *commands, f"call writefile([json_encode({listed})], '{out}')"]
    arguments = [part for command in commands for part in ("-c", command)]
    project.run(editor, "-Nu", "NONE", "-i", "NONE", "-n", "-es", *arguments, "-c", "qa!")
    items = json.loads(out.read_text(encoding="utf-8"))
    return [Place(item["bufname"], item["lnum"], item["col"], item["type"], item["text"]) for item in items]


def test_vims_errorformat_reads_every_line(project: Project, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("\n".join(project.lines) + "\n", encoding="utf-8")
    found = matched_in_vim(project, ["compiler theria-lint", f"cgetfile {lines}"], tmp_path)
    places = expected(project)
    assert [place[:3] for place in found] == [place[:3] for place in places]
    assert [place.kind for place in found] == ["", "", "e", "w"]
    assert [place.text for place in found[:2]] == [place.text for place in places[:2]]


def test_vims_make_checks_the_file_that_is_edited(project: Project, tmp_path: Path) -> None:
    found = matched_in_vim(
        project, ["edit sub\\ folder/unreached.py", "compiler theria-lint", "silent make!"], tmp_path
    )
    assert [place[:3] for place in found if place.line] == [("sub folder/unreached.py", 8, 19)]


NEOVIM = """
if not vim.lsp.start then  -- before 0.8
  function vim.lsp.start(config) vim.lsp.buf_attach_client(0, vim.lsp.start_client(config)) end
end
dofile(vim.env.SNIPPET)
vim.cmd("edit kernel.py")
vim.bo.filetype = "python"
local function shown()
  return vim.tbl_map(function(it) return { it.lnum + 1, it.col + 1, it.severity, it.code } end, vim.diagnostic.get(0))
end
vim.wait(100000, function() return #shown() == 1 end)
local typed = shown()
vim.cmd("write")
vim.wait(100000, function() return #shown() == 2 end)
io.write(vim.fn.json_encode({ typed, shown() }))
vim.cmd("qa!")
"""


def neovim(project: Project, code: str, tmp_path: Path, text: str) -> Any:
    """What Neovim writes as JSON."""
    script, setting = tmp_path / "script.lua", tmp_path / "snippet.lua"
    script.write_text(code)
    setting.write_text(text)
    assert project.run("nvim", "--version").returncode == 0
    arguments = ("nvim", "--headless", "-n", "-i", "NONE", "-u", str(script))
    return json.loads(project.run("env", f"SNIPPET={setting}", *arguments).stdout)


def test_neovims_client_shows_suspects_and_then_dispositions(project: Project, tmp_path: Path) -> None:
    error, warning = 1, 2
    typed, written = neovim(project, NEOVIM, tmp_path, snippet(SERVER, "Neovim"))
    assert typed == [[6, 20, warning, "THL002"]]
    assert written == [[6, 20, error, "THL002"], [4, 5, error, "unsafe-target"]]


NVIM_LINT = """
local lint = { linters = {} }
package.preload["lint"] = function() return lint end
package.preload["lint.parser"] = function()
  return { from_errorformat = function(format, more) return { format = format, more = more } end }
end
dofile(vim.env.SNIPPET)
vim.cmd("edit kernel.py")
local linter = lint.linters[lint.linters_by_ft.python[1]]
local command = { linter.cmd }
for _, it in ipairs(linter.args) do table.insert(command, type(it) == "function" and it() or it) end
local printed = vim.fn.systemlist(command, "\\n" .. table.concat(vim.fn.readfile("kernel.py"), "\\n") .. "\\n")
local items = vim.fn.getqflist({ lines = printed, efm = linter.parser.format }).items
io.write(vim.fn.json_encode(vim.tbl_map(function(it) return { it.lnum, it.col, it.text } end, items)))
vim.cmd("qa!")
"""


def test_nvim_lint_checks_what_is_not_saved(project: Project, tmp_path: Path) -> None:
    ((line, column, text),) = neovim(project, NVIM_LINT, tmp_path, snippet(COMMAND, "Neovim with nvim-lint"))
    assert (line, column, text[:20]) == (7, 20, "THL002 [unconfirmed]")


def test_efm_checks_what_is_not_saved(project: Project, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    (tool,) = yaml.safe_load(snippet(COMMAND, "efm-langserver"))["languages"]["python"]
    command = tool["lint-command"].replace("${INPUT}", str(project.folder / "kernel.py"))
    printed = project.run("sh", "-c", command, stdin="\n" + KERNEL).stdout.splitlines()
    (format_,) = tool["lint-formats"]
    set_list = f"call setqflist([], ' ', {{'lines': {json.dumps(printed)}, 'efm': '{format_}'}})"
    (found,) = matched_in_vim(project, [set_list], tmp_path)
    assert (found[:3], found.text[:20]) == (("kernel.py", 7, 20), "THL002 [unconfirmed]")
