"""The settings that ``docs/editors.md`` gives, in the editors that they are for, on what the linter really prints."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from editor_page import KERNEL, PAGE, environment, snippet, snippets

Run = Callable[..., subprocess.CompletedProcess[str]]
SERVER, COMMAND = "The language server", "The command line"
UNREACHED = """\
import torch


class Attention(torch.nn.Module):
    def forward(self, q, k, v, fast=False):
        é = torch.softmax(q @ k.transpose(-1, -2), -1)
        if fast:
            é = é.detach()
        return é @ v
"""


class Place(NamedTuple):
    """What an editor made of a line: columns from 1, ``kind`` in its own words."""

    path: str
    line: int
    column: int
    kind: str
    text: str


class Project(NamedTuple):
    """A folder with something of every kind to report, what is printed about it, and how to run a program in it."""

    folder: Path
    lines: list[str]
    run: Run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    home = tmp_path_factory.mktemp("home")
    folder = home / "project"
    folder.mkdir()
    variables = environment(home)
    files = {
        "kernel.py": KERNEL,
        "sub folder/unreached.py": UNREACHED,
        "broken.py": "import torch\n\ndef (:\n",
        "unused.py": "import torch\n\nx = 1  # theria: ignore[THL002]\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")

    def run(*command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        if shutil.which(command[0], path=variables["PATH"]) is None:
            pytest.skip(f"{command[0]} is not installed")
        return subprocess.run(
            command, cwd=folder, env=variables, input=stdin, capture_output=True, text=True, check=False, timeout=300
        )

    done = run("theria-lint", "--output-format", "concise", ".")
    assert done.returncode == 1, done.stderr
    return Project(folder, done.stdout.splitlines(), run)


def expected(project: Project) -> list[Place]:
    """Path, line and column of each line that was printed, read in the plainest way there is."""
    places = []
    for row in project.lines:
        path, line, column, text = row.split(":", 3)
        kind = "warning" if "[unconfirmed" in text or text.startswith(" warning") else "error"
        places.append(Place(path, int(line), int(column), kind, text.strip()))
    return places


def test_there_is_something_of_every_kind(project: Project) -> None:
    heads = [(place.path, place.line, place.column, place.text.split("]")[0][:40]) for place in expected(project)]
    assert heads == [
        ("kernel.py", 6, 20, "THL002 [confirmed hard_structural"),
        ("sub folder/unreached.py", 8, 19, "THL002 [unconfirmed safe"),
        ("broken.py", 3, 1, heads[2][3]),
        ("unused.py", 3, 1, heads[3][3]),
    ]
    assert heads[2][3].startswith("error: does not parse")
    assert heads[3][3].startswith("warning: unused `theria: ignore[THL002")


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


PROBLEMS = """
const { matchers, lines } = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(lines.map((line) => matchers.flatMap(({ severity, pattern }) => {
  const found = new RegExp(pattern.regexp).exec(line);
  const { file, line: row, column, message } = pattern;
  return found ? [[found[file], +found[row], +found[column], severity, found[message]]] : [];
}))));
"""


def test_vs_codes_problem_matchers_read_every_line_once(project: Project) -> None:
    (task,) = json.loads(snippets(COMMAND, "Visual Studio Code")[0])["tasks"]
    matchers = task["problemMatcher"]
    done = project.run("node", "-e", PROBLEMS, stdin=json.dumps({"matchers": matchers, "lines": project.lines}))
    assert json.loads(done.stdout) == [[list(place)] for place in expected(project)]
    assert project.run(task["command"], *task["args"]).stdout.splitlines() == project.lines
    assert {matcher["fileLocation"][0] for matcher in matchers} == {"relative"}


COMPILE = """
(setq compilation-error-regexp-alist nil)
(require 'compile)
(setq compilation-error-regexp-alist nil)
(load (getenv "SNIPPET"))
(with-temp-buffer
  (insert-file-contents (getenv "LINES"))
  (compilation-mode)
  (compilation--ensure-parse (point-max))
  (let (found)
    (while (not (eobp))
      (let* ((message (get-text-property (point) 'compilation-message))
             (place (and message (compilation--message->loc message))))
        (when place
          (push (vector (caar (compilation--loc->file-struct place)) (compilation--loc->line place)
                        (compilation--loc->col place) (compilation--message->type message))
                found)))
      (forward-line))
    (princ (json-encode (vconcat (nreverse found))))))
"""


def emacs(project: Project, code: str, tmp_path: Path, **variables: str) -> Any:
    """What Emacs prints as JSON."""
    script = tmp_path / "script.el"
    script.write_text("(require 'json)\n" + code, encoding="utf-8")
    given = [f"{name}={value}" for name, value in variables.items()]
    assert project.run("emacs", "--version").returncode == 0
    done = project.run("env", *given, "emacs", "-Q", "--batch", "--load", str(script))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def saved(tmp_path: Path, text: str) -> str:
    path = tmp_path / "snippet.el"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_emacs_compile_reads_every_line(project: Project, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("\n".join(project.lines) + "\n", encoding="utf-8")
    found = emacs(project, COMPILE, tmp_path, SNIPPET=saved(tmp_path, snippets(COMMAND, "Emacs")[0]), LINES=str(lines))
    kinds = {"warning": 1, "error": 2}
    places = expected(project)
    assert [tuple(item) for item in found] == [(*place[:3], kinds[place.kind]) for place in places]


FLYMAKE = """
(require 'flymake)
(load (getenv "SNIPPET"))
(find-file "kernel.py")
(goto-char (point-max))
(insert "\\n\\ndef more(q, k, v):\\n    return torch.softmax(q @ k.T, -1) @ v.detach()\\n")
(setq answers nil)
(funcall (car (memq 'theria-lint-flymake flymake-diagnostic-functions))
         (lambda (found &rest _) (setq answers (list found))))
(with-timeout (100) (while (null answers) (accept-process-output nil 0.1)))
(princ (json-encode (vconcat (mapcar
  (lambda (it) (vector (line-number-at-pos (flymake-diagnostic-beg it)) (flymake-diagnostic-text it)))
  (car answers)))))
"""


def test_emacs_flymake_checks_what_is_not_saved(project: Project, tmp_path: Path) -> None:
    found = emacs(project, FLYMAKE, tmp_path, SNIPPET=saved(tmp_path, snippets(COMMAND, "Emacs")[1]))
    assert [(line, text[:20]) for line, text in found] == [
        (6, "THL002 [unconfirmed]"),
        (10, "THL002 [unconfirmed]"),
    ]


EGLOT = """
(unless (require 'eglot nil t) (defvar eglot-server-programs nil) (provide 'eglot))
(load (getenv "SNIPPET"))
(princ (json-encode (vconcat (cdr (assq 'python-mode eglot-server-programs)))))
"""


def test_emacs_eglot_learns_of_the_server(project: Project, tmp_path: Path) -> None:
    program = emacs(project, EGLOT, tmp_path, SNIPPET=saved(tmp_path, snippet(SERVER, "Emacs")))
    assert serves(project, program)


def serves(project: Project, command: list[str]) -> bool:
    """Whether a command is our server: it answers a request to initialise."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"capabilities": {}}})
    done = project.run(*command, stdin=f"Content-Length: {len(body)}\r\n\r\n{body}")
    return '"name": "theria-lint"' in done.stdout


def test_other_clients_start_the_server(project: Project) -> None:
    code = json.loads(snippet(SERVER, "Visual Studio Code"))
    assert serves(project, [code["glspc.server.command"], *code["glspc.server.commandArguments"]])
    helix = tomllib.loads(snippet(SERVER, "Helix"))
    server = helix["language-server"]["theria-lint"]
    assert serves(project, [server["command"], *server["args"]])
    assert "theria-lint" in helix["language"][0]["language-servers"]
    sublime = json.loads(snippet(SERVER, "Sublime Text"))
    assert serves(project, sublime["clients"]["theria-lint"]["command"])


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


def test_pycharm_links_whole_paths(project: Project) -> None:
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {COMMAND}\n")[1].split("### PyCharm\n")[1]
    rows = re.findall(r"^\| ([\w ]+) \| `(.*)` \|$", section, re.MULTILINE)
    fields = {name: value.replace("\\|", "|") for name, value in rows}
    path = project.folder / "sub folder" / "unreached.py"
    arguments = fields["Arguments"].replace("$FilePath$", str(path)).replace("$ProjectFileDir$", str(project.folder))
    assert fields["Working directory"] == "$ProjectFileDir$"
    (printed,) = project.run(fields["Program"], *shlex.split(arguments)).stdout.splitlines()
    # What PyCharm puts in the place of its macros.
    macros = {"$FILE_PATH$": r"((?:\w:)?[0-9 a-zA-Z_\-\\./]+)", "$LINE$": r"(\d+)", "$COLUMN$": r"(\d+)"}
    pattern = fields["Output filters"]
    for macro, meaning in macros.items():
        pattern = pattern.replace(macro, meaning)
    found = re.fullmatch(pattern, printed)
    assert found is not None
    assert found.groups() == (str(path), "8", "19")


def test_standard_input_goes_by_the_name_it_is_given(project: Project) -> None:
    (command,) = re.findall(r"^\$ (theria-lint .* - < kernel\.py)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert project.run("sh", "-c", command).stdout.startswith("kernel.py:6:20: THL002 [unconfirmed] ")
    configuration = project.folder / "sub folder" / "theria-lint.toml"
    stdin = ("theria-lint", "--output-format", "concise", "--stdin-filename", "sub folder/new.py", "-")
    assert project.run(*stdin, stdin=KERNEL).stdout.startswith("sub folder/new.py:6:20: THL002 ")
    for setting in ('exclude = ["new.py"]', 'ignore = ["THL002"]'):
        configuration.write_text(setting + "\n")
        done = project.run(*stdin, stdin=KERNEL)
        assert (done.returncode, done.stdout) == (0, ""), setting
    configuration.unlink()
