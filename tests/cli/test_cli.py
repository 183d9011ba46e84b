"""The command line: exit codes, what is printed where, and the sentences that users meet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lint_case import CLEAN, UNSAFE, Lint
from theria_lint.static.scan_files import PARSED_WHOLE

FINDING = """\
kernel.py:6:20: THL002 detach: unconfirmed (error)
  {message}
  6 |     return (p @ v).detach()
    |                    ^^^^^^^^
  evidence: not run (--no-confirm)
  help: {remedy}

1 file, 1 suspect: 1 unconfirmed; 1 target, not measured.
"""


def _rule(lint: Lint) -> dict[str, str]:
    """Message and remedy of the one finding in kernel.py, which belong to the rule and not to the format."""
    finding = json.loads(lint("kernel.py", "--output-format", "json").stdout)["findings"][0]
    return {key: finding[key].rstrip(".") for key in ("message", "remedy")}


def test_a_finding_is_shown_with_its_source_and_exits_with_1(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint("kernel.py")
    assert (result.stdout, result.stderr, result.exit_code) == (FINDING.format(**_rule(lint)), "", 1)


def test_clean_code_exits_with_0(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(CLEAN)
    result = lint("kernel.py")
    assert (result.stdout, result.stderr, result.exit_code) == ("1 file, 0 suspects; 1 target, not measured.\n", "", 0)


def test_without_paths_the_working_directory_is_checked(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    assert lint().stdout == lint("kernel.py").stdout


def test_no_python_files_exit_with_0_and_a_note(lint: Lint, folder: Path) -> None:
    (folder / "notes.txt").write_text("no code")
    result = lint(".")
    expected = ("0 files, 0 suspects.\n", "Note: No Python files found\n", 0)
    assert (result.stdout, result.stderr, result.exit_code) == expected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.py"], "missing.py: no such file or directory."),
        (["--select", "THL9", "."], "command line: select: no rule starts with 'THL9' (did you mean"),
        (["--explain", "THL999"], "--explain THL999: no such rule, verdict, disposition or reason code (did you mean"),
        (["--fail-on", "all", "."], "command line: fail-on = ['all']: expected one of confirmed, unconfirmed,"),
        (["--jobs", "-1", "."], "command line: jobs = -1: expected a whole number up to 1024, 0 for one per CPU."),
        (["--timeout", "0", "."], "command line: timeout = 0.0: expected a number of seconds above 0, 604800 at most."),
        (["--stdin-filename", "a.py", "."], "--stdin-filename names what standard input holds; pass - as the path."),
        (["--output-file", "pdf:x", "."], "--output-file pdf:x: expected FORMAT:PATH with a format of text, concise,"),
        (["--output-file", "json", "."], "--output-file json: expected FORMAT:PATH"),
        (["--config", "none.toml", "."], "none.toml: cannot be read: No such file or directory."),
        (["--baseline", "none.json", "."], "none.json: no such baseline; write one with --write-baseline."),
        (["--rule-path", "none", "."], "none: no rule here"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exits_with_2(
    lint: Lint, folder: Path, arguments: list[str], sentence: str
) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint(*arguments)
    assert (result.stdout, result.exit_code) == ("", 2)
    assert result.stderr.startswith("Error: ")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_internal_error_is_one_sentence(lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr("theria_lint.pipeline.discover_files", broken)
    result = lint(".")
    expected = "Error: internal error: ZeroDivisionError: by design; please report it with what --verbose adds.\n"
    assert (result.stdout, result.stderr, result.exit_code) == ("", expected, 2)


def test_an_interrupted_run_has_found_nothing(lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("theria_lint.pipeline.discover_files", interrupted)
    result = lint(".")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "", 130)


def test_an_error_inside_one_file_does_not_stop_the_others(
    lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from theria_lint.static import scan as scan_module

    scan = scan_module.scan_source

    def broken(path: str, *rest: object) -> object:
        if path == "a.py":
            raise ZeroDivisionError("by design")
        return scan(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(scan_module, "scan_source", broken)
    (folder / "a.py").write_text(UNSAFE)
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint("--output-format", "concise")
    message = "could not be checked, an internal error: ZeroDivisionError: by design"
    lines = result.stdout.splitlines()
    assert lines[0].startswith("kernel.py:6:20: THL002 [unconfirmed] ")
    assert lines[1:] == [f"a.py:1:1: error: {message}"]


def test_a_file_that_does_not_parse_is_reported_and_the_others_are_checked(lint: Lint, folder: Path) -> None:
    (folder / "broken.py").write_text("def f(:\n    pass\n")
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint(".")
    assert result.exit_code == 1
    assert "kernel.py:6:20: THL002 detach" in result.stdout
    assert "\nbroken.py:1: error: " in result.stdout
    assert result.stdout.endswith("2 files, 1 suspect: 1 unconfirmed; 1 target, not measured; 1 error.\n")


@pytest.mark.parametrize(
    ("fail_on", "code"),
    [("confirmed", 0), ("unconfirmed", 1), ("error", 1), ("unsafe", 0), ("none", 0), ("confirmed,error", 1)],
)
def test_fail_on_narrows_what_exits_with_1(lint: Lint, folder: Path, fail_on: str, code: int) -> None:
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "kernel.py").write_text(UNSAFE)
    assert lint("--fail-on", fail_on, ".").exit_code == code


def test_standard_input_is_checked_under_the_name_it_is_given(lint: Lint, folder: Path) -> None:
    named = lint("-", "--stdin-filename", "sub/kernel.py", "--output-format", "concise", stdin=UNSAFE)
    assert named.stdout.startswith("sub/kernel.py:6:20: THL002 [unconfirmed] ")
    assert (named.exit_code, named.stdout.count("\n")) == (1, 1)
    assert lint("-", "--output-format", "concise", stdin=UNSAFE).stdout.startswith("<stdin>:6:20: THL002 ")
    assert lint("-", stdin=CLEAN).exit_code == 0


def test_several_outputs_in_one_run(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint("--output-file", "json:out.json", "--output-file", "concise:out.txt")
    assert result.stdout == FINDING.format(**_rule(lint))
    assert json.loads((folder / "out.json").read_text()) == json.loads(lint("--output-format", "json").stdout)
    assert (folder / "out.txt").read_text() == lint("--output-format", "concise").stdout


def test_an_output_that_cannot_be_written_exits_with_2(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(CLEAN)
    result = lint("--output-file", "json:none/out.json")
    assert result.stderr == "Error: none/out.json: cannot be written: No such file or directory.\n"
    assert result.exit_code == 2


def test_quiet_is_one_line_a_finding(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    assert lint("--quiet").stdout == lint("--output-format", "concise").stdout


def test_quiet_leaves_out_the_notes_that_the_concise_format_comes_with(lint: Lint, folder: Path) -> None:
    assert lint("--output-format", "concise").stderr == "Note: No Python files found\n"
    assert lint("--quiet").stderr == ""


def test_statistics_count_by_rule_and_disposition(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE + UNSAFE.replace("import torch\n", "").replace("attention", "attention2"))
    assert lint("--statistics").stdout == "     2  THL002 detach: unconfirmed\n"


def test_colours_are_for_terminals_or_on_demand(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    assert "\033[" not in lint().stdout
    coloured = lint("--color", "always").stdout
    assert "\033[1;33munconfirmed\033[0m" in coloured
    assert "\033[" not in lint("--color", "never").stdout


def test_paths_are_relative_to_the_working_directory(lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "kernel.py").write_text(UNSAFE)
    for given in ("a/kernel.py", str(folder / "a" / "kernel.py"), "./a/../a/kernel.py", "a"):
        assert lint(given, "--output-format", "concise").stdout.startswith("a/kernel.py:6:20: ")
    monkeypatch.chdir(folder / "a" / "b")
    assert lint("..", "--output-format", "concise").stdout.startswith("../kernel.py:6:20: ")


def test_a_file_given_twice_is_checked_once(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    assert lint("kernel.py", ".", "./kernel.py").stdout.endswith(
        "1 file, 1 suspect: 1 unconfirmed; 1 target, not measured.\n"
    )


def test_list_rules_and_explain(lint: Lint) -> None:
    listed = lint("--list-rules")
    assert (listed.exit_code, listed.stderr) == (0, "")
    assert [line.split()[0] for line in listed.stdout.splitlines()][:3] == ["THL001", "THL002", "THL003"]
    explained = lint("--explain", "THL002")
    assert explained.exit_code == 0
    assert "detach" in explained.stdout.splitlines()[0]
    assert lint("--explain", "detach").stdout == explained.stdout


def test_version(lint: Lint) -> None:
    from theria_lint import __version__

    assert lint("--version").stdout == f"theria-lint {__version__}\n"


def _modules(folder: Path, *arguments: str) -> set[str]:
    """What a run of the command line leaves loaded, in a process of its own."""
    code = """
import sys
from theria_lint.cli import run_command_line
try:
    run_command_line(sys.argv[1:])
finally:
    print(*sys.modules, file=sys.stderr)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    call = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(call, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode in (0, 1), result.stderr
    return set(result.stderr.split())


def test_the_static_stage_loads_no_torch(folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    loaded = _modules(folder, "--no-confirm", "--no-cache", "kernel.py")
    assert {"theria_lint.model", "theria_lint.rules.loader"} <= loaded
    assert loaded.isdisjoint({"torch", "triton", "numpy"})


@pytest.mark.parametrize("options", [[], ["-q"]], ids=" ".join)
def test_a_clean_file_loads_next_to_nothing(folder: Path, options: list[str]) -> None:
    (folder / "clean.py").write_text("import os\n")
    loaded = _modules(folder, *options, "clean.py")
    assert "theria_lint.pipeline" in loaded
    heavy = {"torch", "triton", "libcst", "multiprocessing", "json", "tomllib", "pathlib", "hashlib", "tempfile"}
    ours = {"theria_lint.model", "theria_lint.rules.loader", "theria_lint.confirm", "theria_lint.report.sentences"}
    assert loaded.isdisjoint(heavy | ours | {"dataclasses", "signal"})


def test_importing_the_package_loads_no_torch() -> None:
    code = "import theria_lint, sys; assert not {'torch', 'triton', 'libcst', 'click'} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_the_module_can_be_run(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    (folder / "clean.py").write_text("import os\n")
    result = subprocess.run(
        [sys.executable, "-m", "theria_lint", "clean.py"], capture_output=True, text=True, env=environment, check=False
    )
    assert (result.stdout, result.stderr, result.returncode) == ("1 file, 0 suspects.\n", "", 0)


def test_what_a_terminal_cannot_show_is_escaped(folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE.replace("(p @ v)", '("漢" and p @ v)'), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "theria_lint", "--no-confirm", "--no-cache", "kernel.py"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (result.returncode, result.stderr) == (1, "")
    assert '("\\u6f22" and p @ v).detach()' in result.stdout


@pytest.mark.parametrize(
    ("word", "head"),
    [
        ("thl002", "# THL002 detach"),
        ("DETACH", "# THL002 detach"),
        ("Silent_Collapse", "# silent_collapse"),
        ("silent-collapse", "# silent_collapse"),
        ("cleared", "# cleared"),
        ("NOT_REACHED", "# not_reached"),
    ],
)
def test_every_word_of_a_report_is_explained_in_any_case(lint: Lint, word: str, head: str) -> None:
    result = lint("--explain", word)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, head)
    assert len(result.stdout.splitlines()) > 2


def test_verdicts_dispositions_and_codes_all_have_an_explanation(lint: Lint) -> None:
    from theria_lint.model import Disposition, Verdict
    from theria_lint.reasons import FIELDS
    from theria_lint.report.glossary import explain_term

    for word in (*Verdict, *Disposition, *FIELDS):
        assert explain_term(str(word)), word


def test_what_is_nearly_a_word_is_asked_about(lint: Lint) -> None:
    assert 'did you mean "silent_collapse"?' in lint("--explain", "silent_colapse").stderr
    assert 'did you mean "THL0' in lint("--explain", "THLOO2").stderr
    assert "did you mean" not in lint("--explain", "xyzzy").stderr


@pytest.mark.parametrize("code", ["THL002", "thl002", "thl", "detach", "Detach"])
def test_a_rule_is_named_by_its_id_or_name_in_any_case(lint: Lint, folder: Path, code: str) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    assert "THL002" in lint("--select", code, "kernel.py").stdout
    assert lint("--ignore", code, "kernel.py").stdout == "1 file, 0 suspects; 1 target, not measured.\n"


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"CLICOLOR_FORCE": "1"}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_the_usual_variables_say_whether_there_are_colours(
    lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (folder / "kernel.py").write_text(UNSAFE)
    assert ("\033[" in lint("kernel.py").stdout) == coloured


@pytest.mark.parametrize(
    ("options", "lost"),
    [
        (("--statistics", "--output-format", "json"), "--statistics"),
        (("--statistics", "--diff"), "--statistics"),
        (("--write-baseline", "b.json", "--output-file", "json:r.json"), "--output-file"),
        (("--add-ignores", "--diff"), "--diff"),
    ],
)
def test_an_option_that_would_be_lost_is_refused(lint: Lint, folder: Path, options: tuple[str, ...], lost: str) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint(*options, "kernel.py")
    assert (result.exit_code, lost in result.stderr) == (2, True)
    assert (folder / "kernel.py").read_text() == UNSAFE


def test_what_is_not_counted_is_not_passed_over(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(CLEAN)
    assert "1 target, not measured." in lint("--no-confirm", ".").stdout
    (folder / "table.py").write_text("TABLE = (\n" + "    0.125,\n" * (PARSED_WHOLE // 11 + 1) + ")\n")
    assert lint("--no-confirm", ".").stdout.endswith("2 files, 0 suspects; targets were not counted.\n")
