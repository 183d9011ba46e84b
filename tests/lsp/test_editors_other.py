"""The settings of ``docs/editors.md`` for the other editors, and what all of them read."""

from __future__ import annotations

import json
import re
import shlex
import tomllib

from tests.support.editor_page import KERNEL, PAGE, snippet, snippets
from tests.support.editor_project import COMMAND, SERVER, Project, expected, serves


def test_there_is_something_of_every_kind(project: Project) -> None:
    heads = [(place.path, place.line, place.column, place.text.split("]")[0][:40]) for place in expected(project)]
    assert heads == [
        ("kernel.py", 6, 20, "THL002 [confirmed hard_structural, error"),
        ("sub folder/unreached.py", 8, 19, "THL002 [unconfirmed safe"),
        ("broken.py", 3, 1, heads[2][3]),
        ("unused.py", 3, 1, heads[3][3]),
    ]
    assert heads[2][3].startswith("error: does not parse")
    assert heads[3][3].startswith("warning: unused `theria: ignore[THL002")


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


def test_other_clients_start_the_server(project: Project) -> None:
    code = json.loads(snippet(SERVER, "Visual Studio Code"))
    assert serves(project, [code["glspc.server.command"], *code["glspc.server.commandArguments"]])
    helix = tomllib.loads(snippet(SERVER, "Helix"))
    server = helix["language-server"]["theria-lint"]
    assert serves(project, [server["command"], *server["args"]])
    assert "theria-lint" in helix["language"][0]["language-servers"]
    sublime = json.loads(snippet(SERVER, "Sublime Text"))
    assert serves(project, sublime["clients"]["theria-lint"]["command"])


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
