"""The configuration: which file applies, what it may say, and how it is told that it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lint_case import UNSAFE, Lint
from theria_lint.config import KEYS, Settings, resolve_settings


def _resolve(text: str, folder: Path, **options: object) -> Settings:
    (folder / "theria-lint.toml").write_text(text)
    return resolve_settings([], options, None, False).settings


def test_every_key_has_a_setting() -> None:
    assert {key.replace("-", "_") for key in KEYS} == set(Settings._fields) - {"root", "python_by_project", "linted"}


def test_the_nearest_file_wins_whole(lint: Lint, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "kernel.py").write_text(UNSAFE)
    (folder / "pyproject.toml").write_text('[tool.theria-lint]\nignore = ["THL002"]\n')
    assert lint("sub").exit_code == 0
    (folder / "sub" / "pyproject.toml").write_text("[tool.other]\n")
    assert lint("sub").exit_code == 0
    (folder / "sub" / "theria-lint.toml").write_text("")
    assert lint("sub").exit_code == 1
    assert lint("sub", "--config", "pyproject.toml").exit_code == 0
    assert lint(".").exit_code == 0
    assert lint(".", "--isolated").exit_code == 1


def test_the_command_line_overrides_the_file(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "theria-lint.toml").write_text('select = ["THL001"]\noutput-format = "concise"\n')
    assert lint().stdout == ""
    assert lint("--select", "THL002").stdout.startswith("kernel.py:6:20: THL002 ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "selct = []",
            "theria-lint.toml: unknown key 'selct' (did you mean \"select\"?); the keys are select, ignore,",
        ),
        ('device = "gpu"', "theria-lint.toml: device = 'gpu': expected one of auto, cpu, cuda, cuda:N."),
        ("select = 'THL001'", "theria-lint.toml: select = 'THL001': expected a list."),
        ("select = [1]", "theria-lint.toml: select = [1]: expected a non-empty string."),
        ('select = ["XYZ"]', "theria-lint.toml: select: no rule starts with 'XYZ'; the rules are THL001,"),
        ('per-file-ignores = {"*" = ["X"]}', "theria-lint.toml: per-file-ignores: no rule starts with 'X'; the rules"),
        ('per-file-ignores = ["a"]', "per-file-ignores = ['a']: expected a table from a file pattern to a list of"),
        ("confirm = 1", "theria-lint.toml: confirm = 1: expected true or false."),
        ("timeout = true", "theria-lint.toml: timeout = True: expected a number of seconds above 0, 604800 at most."),
        ("jobs = 1.5", "theria-lint.toml: jobs = 1.5: expected a whole number up to 1024, 0 for one per CPU."),
        ('fail-on = ["never"]', "expected one of confirmed, unconfirmed, unsafe, error, unused-ignore, none."),
        ("= 1", "theria-lint.toml: is not valid TOML: "),
        ("targets = [{}]", 'a target needs target = "package.module:symbol".'),
        ('targets = [{target = "a:"}]', "target = 'a:': expected package.module:symbol, path/to/file.py:symbol or"),
        (
            'targets = [{target = "a:f", layot = "BTD"}]',
            "unknown key 'layot' (did you mean \"layout\"?); a target knows target, layout, kwargs,",
        ),
        ('targets = [{target = "a:f", layout = "X"}]', "layout = 'X': expected one of BHTD, BTHD, BTD, TD, THD, "),
        ('targets = [{target = "a:f", kwargs = 1}]', "kwargs = 1: expected a table of keyword arguments."),
    ],
)
def test_what_is_wrong_is_one_sentence(lint: Lint, folder: Path, text: str, sentence: str) -> None:
    (folder / "theria-lint.toml").write_text(text)
    result = lint()
    assert sentence in result.stderr
    assert (result.stdout, result.exit_code, result.stderr.count("\n")) == ("", 2, 1)


def test_a_table_that_is_none(lint: Lint, folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool]\ntheria-lint = "strict"\n')
    assert lint().stderr == "Error: pyproject.toml: [tool.theria-lint] must be a table.\n"


def test_paths_count_from_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "deep").mkdir()
    (folder / "theria-lint.toml").write_text('rule-paths = ["r"]\npython = "env/bin/python"\nbaseline = "b.json"\n')
    monkeypatch.chdir(folder / "deep")
    settings = resolve_settings([], {}, None, False).settings
    assert settings.rule_paths == (str(folder / "r"),)
    assert settings.python == str(folder / "env" / "bin" / "python")
    assert resolve_settings([], {"baseline": "c.json"}, None, False).settings.baseline == str(
        folder / "deep" / "c.json"
    )
    assert resolve_settings([], {"python": "python3"}, None, False).settings.python == "python3"


def test_targets_are_handed_over_with_module_names(folder: Path) -> None:
    text = '[[targets]]\ntarget = "kernels/flash.py:Flash.forward"\nlayout = "BTHD"\nkwargs = {causal = true}\n'
    table = {"target": "kernels.flash:Flash.forward", "layout": "BTHD", "kwargs": {"causal": True}}
    assert _resolve(text, folder).targets == (table,)
    assert _resolve('targets = [{target = "f", skip = true}]', folder).targets == ({"target": "f", "skip": True},)


def test_show_settings_names_the_source_of_each(lint: Lint, folder: Path) -> None:
    (folder / "theria-lint.toml").write_text('select = ["THL001"]\n[per-file-ignores]\n"tests/" = ["THL"]\n')
    result = lint("--show-settings", "--device", "cpu")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert 'select = ["THL001"]  # theria-lint.toml' in lines
    assert 'per-file-ignores = {"tests/" = ["THL"]}  # theria-lint.toml' in lines
    assert 'device = "cpu"  # command line' in lines
    assert "timeout = 30.0  # default" in lines
    assert "# python is not set  # default" in lines
    assert [line.removeprefix("# ").split()[0] for line in lines] == [*KEYS, "results", "never"]


def test_shown_settings_are_a_configuration(lint: Lint, folder: Path) -> None:
    table = '{target = "a:f", kwargs = {name = "x\\"y\\n", scale = 0.5, on = true}}'
    (folder / "theria-lint.toml").write_text(f'exclude = ["a\\\\b"]\ntargets = [{table}]\n')
    shown = lint("--show-settings", confirm=True).stdout
    before = resolve_settings([], {}, None, False).settings
    (folder / "theria-lint.toml").write_text(shown)
    assert resolve_settings([], {}, None, False).settings == before
    assert before.targets[0]["kwargs"] == {"name": 'x"y\n', "scale": 0.5, "on": True}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", True),
        ('ignore = ["THL002"]', False),
        ('ignore = ["THL"]', False),
        ('select = ["THL001"]', False),
        ('select = ["THL002"]\nignore = ["THL"]', True),
        ('select = ["THL"]\nignore = ["THL002"]', False),
        ('per-file-ignores = {"kernel.py" = ["THL002"]}', False),
        ('per-file-ignores = {"other/" = ["THL002"]}', True),
        ('exclude = ["kernel.*"]', False),
    ],
)
def test_select_and_ignore_the_more_exact_prefix_wins(lint: Lint, folder: Path, text: str, shown: bool) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "theria-lint.toml").write_text(text)
    result = lint()
    assert ("THL002" in result.stdout, result.exit_code) == (shown, int(shown))


def test_a_name_that_cuts_the_graph_can_be_configured(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(
        UNSAFE.replace("torch\n", "torch, mypkg\n", 1).replace("(p @ v).detach()", "mypkg.stop(p @ v)")
    )
    assert lint().exit_code == 0
    (folder / "theria-lint.toml").write_text('detach-names = ["mypkg.stop"]\n')
    assert "kernel.py:6:12: THL002" in lint().stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = " + "[" * 20_000, "is not valid TOML"),
        ("x = " + "9" * 5_000, "is not valid TOML"),
        ("#" * 1_100_000, "is 1 MB, more than the 1 MB that are read."),
        ("timeout = nan", "expected a number of seconds"),
        ("timeout = inf", "expected a number of seconds"),
        ("jobs = 100000", "expected a whole number up to"),
        ('rule-paths = ["a\\u0000b"]', "expected a non-empty string"),
        ("tool = 1", "unknown key 'tool'"),
    ],
)
def test_hostile_configuration_is_one_sentence_too(lint: Lint, folder: Path, text: str, message: str) -> None:
    (folder / "theria-lint.toml").write_text(text)
    result = lint()
    assert result.stderr.startswith("Error: theria-lint.toml: ")
    assert message in result.stderr
    assert (result.stderr.count("\n"), result.exit_code) == (1, 2)


def test_a_pyproject_whose_tool_is_no_table_is_nobodys_configuration(lint: Lint, folder: Path) -> None:
    (folder / "pyproject.toml").write_text('tool = "theria-lint"\n')
    assert lint().exit_code == 0


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema": 1, "findings": [], "targets": {"a": 1}}', "[]", "1e999"])
def test_a_baseline_that_is_none_is_one_sentence(lint: Lint, folder: Path, text: str) -> None:
    (folder / "base.json").write_text(text)
    (folder / "kernel.py").write_text("import torch\n\n\ndef attention(q, k, v):\n    return q.detach()\n")
    result = lint("--baseline", "base.json")
    assert result.stderr.endswith("base.json: is not a baseline; write one with --write-baseline.\n")
    assert result.exit_code == 2


@pytest.mark.parametrize("name", ["theria-lint.toml", "pyproject.toml"])
def test_a_configuration_that_is_a_link_out_of_its_folder_is_not_shown(lint: Lint, folder: Path, name: str) -> None:
    (folder.parent / "secret.toml").write_text("[tool.theria-lint]\npassword = 'x'\n")
    (folder / name).symlink_to("../secret.toml")
    result = lint()
    sentence = f"Error: {name}: is a link out of its folder; name the file with --config, or use --isolated.\n"
    assert (result.stderr, result.exit_code) == (sentence, 2)
    assert lint("--isolated").exit_code == 0


def test_a_file_extends_another_of_the_project(lint: Lint, folder: Path) -> None:
    (folder / "shared").mkdir()
    (folder / "shared" / "base.toml").write_text('timeout = 7\nselect = ["THL001"]\nadapters = ["a.py"]\n')
    (folder / "theria-lint.toml").write_text('extend = "shared/base.toml"\nselect = ["THL002"]\n')
    resolved = resolve_settings((".",), {}, None, False)
    assert (resolved.settings.timeout, resolved.settings.select) == (7.0, ("THL002",))
    assert resolved.settings.adapters == (str(folder / "shared" / "a.py"),)
    assert (resolved.sources["timeout"], resolved.sources["select"]) == ("shared/base.toml", "theria-lint.toml")


def test_a_python_that_is_extended_is_still_the_projects(folder: Path) -> None:
    (folder / "base.toml").write_text('python = "bin/python"\n')
    (folder / "theria-lint.toml").write_text('extend = "base.toml"\n')
    assert resolve_settings((".",), {}, None, False).settings.python_by_project


@pytest.mark.parametrize(
    ("extend", "sentence"),
    [
        ('"../base.toml"', "theria-lint.toml: extend leads out of the project, to "),
        ('"linked.toml"', "theria-lint.toml: extend leads out of the project, to "),
        ('"none.toml"', "none.toml: cannot be read: No such file or directory."),
        ('"theria-lint.toml"', "theria-lint.toml: extend leads to theria-lint.toml, again; end the chain before."),
        ("1", "theria-lint.toml: extend = 1: expected a non-empty string."),
        ('"a.toml"', "a.toml: unknown key 'tiemout' (did you mean \"timeout\"?); the keys are"),
    ],
)
def test_what_cannot_be_extended_is_one_sentence(lint: Lint, folder: Path, extend: str, sentence: str) -> None:
    (folder.parent / "base.toml").write_text("secret = 1\n")
    (folder / "linked.toml").symlink_to("../base.toml")
    (folder / "a.toml").write_text("tiemout = 1\n")
    (folder / "theria-lint.toml").write_text(f"extend = {extend}\n")
    result = lint(".")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert sentence in result.stderr
    assert "secret" not in result.stderr


def test_variables_of_the_environment_are_settings(lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "theria-lint.toml").write_text('output-format = "json"\n')
    monkeypatch.setenv("THERIA_LINT_OUTPUT_FORMAT", "concise")
    monkeypatch.setenv("THERIA_LINT_SELECT", "thl001, detach")
    monkeypatch.setenv("THERIA_LINT_JOBS", "")
    assert lint("kernel.py").stdout.startswith("kernel.py:6:20: THL002 ")
    assert lint("kernel.py", "--select", "THL001").stdout == ""
    shown = lint("--show-settings").stdout
    assert 'output-format = "concise"  # THERIA_LINT_OUTPUT_FORMAT' in shown
    assert 'select = ["thl001", "detach"]  # THERIA_LINT_SELECT' in shown
    assert "jobs = 0  # default" in shown


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("TIMEOUT", "soon", "THERIA_LINT_TIMEOUT: timeout = 'soon': expected a number of seconds above 0"),
        ("CONFIRM", "maybe", "THERIA_LINT_CONFIRM: confirm = 'maybe': expected true or false."),
        ("SELECT", "XYZ", "THERIA_LINT_SELECT: select: no rule starts with 'XYZ'"),
        ("CONFIG", "none.toml", "none.toml: cannot be read: No such file or directory."),
        ("SELCT", "THL001", 'THERIA_LINT_SELCT: no such variable (did you mean "THERIA_LINT_SELECT"?)'),
        ("TARGETS", "a:b", "THERIA_LINT_TARGETS: no variable holds a table; write targets into a configuration file."),
        ("FAIL_ON", ",", "THERIA_LINT_FAIL_ON: fail-on = ',': expected a list."),
    ],
)
def test_a_variable_that_is_wrong_is_one_sentence(
    lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, sentence: str
) -> None:
    monkeypatch.setenv(f"THERIA_LINT_{name}", text)
    result = lint(".")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert sentence in result.stderr


@pytest.mark.parametrize("words", [("--isolated",), ("--config", "own.toml")])
def test_an_option_stands_in_for_the_variable_of_a_file(
    lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    (folder / "own.toml").write_text("jobs = 0\n")
    (folder / "theirs.toml").write_text("jobs = 3\n")
    monkeypatch.setenv("THERIA_LINT_CONFIG", "theirs.toml")
    assert "jobs = 3" in lint("--show-settings").stdout
    assert "jobs = 0" in lint("--show-settings", *words).stdout


@pytest.mark.parametrize("name", ["VERSION", "RECORD", "FOO"])
def test_a_variable_of_somebody_else_is_none_of_ours(
    lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A prefix in common makes no two names alike: CI scripts keep versions in such variables."""
    monkeypatch.setenv(f"THERIA_LINT_{name}", "1.2")
    (folder / "kernel.py").write_text(UNSAFE)
    assert lint("kernel.py").exit_code == 1


def test_what_makes_a_run_fail_is_never_nothing_by_mistake(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint("kernel.py", "--fail-on", "")
    assert (result.exit_code, result.stdout) == (2, "")
    assert lint("kernel.py", "--fail-on", "none").exit_code == 0


def test_settings_show_where_results_are_kept_and_what_is_never_walked(lint: Lint, folder: Path) -> None:
    shown = lint("--show-settings", "--cache-dir", "kept").stdout
    assert f"# results are kept in {folder / 'kept' / 'theria-lint-1'}" in shown
    assert "node_modules" in shown.splitlines()[-1]
    assert "# no results are kept" in lint("--show-settings", "--no-cache").stdout
