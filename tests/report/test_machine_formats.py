"""What other programs read: each format held to its own specification, by a reader that shares no code with it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from tests.support.format_checks import check_junit, sarif_schema
from tests.support.lint_case import UNSAFE, Lint
from tests.support.sample_report import EMPTY, REPORT, told
from theria_lint.model import Finding, Rewrite
from theria_lint.report import ReportView, render
from theria_lint.report.items import list_items
from theria_lint.report.patch import list_edits
from theria_lint.result import LintError, LintReport

ROOT = Path(__file__).parents[2]
EVERYTHING = ReportView(show_cleared=True, verbose=True)
KERNEL_PATH = "kernels/a b.py"


def json_schema() -> Validator:
    schema = json.loads((ROOT / "docs" / "report-1.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def rewritten(new: str, report: LintReport = REPORT, *, old: str | None = None) -> LintReport:
    """The report with a verified rewrite of the first finding's file: from ``old`` (as it is) to ``new``."""
    first = replace(report.findings[0], rewrite=Rewrite("Attention", ((KERNEL_PATH, new),)))
    sources = report.sources if old is None else {**report.sources, (KERNEL_PATH, None): old}
    return report._replace(findings=(first, *report.findings[1:]), sources=sources)


def kernel() -> str:
    return REPORT.sources[KERNEL_PATH, None]


def only(finding: Finding) -> LintReport:
    return REPORT._replace(findings=(finding,), targets=(), errors=(), unused_ignores=())


REPORTS = {
    "one of everything": REPORT,
    "empty": EMPTY,
    "a rewrite": rewritten(kernel().replace(".detach()", "")),
    "an error in a notebook": EMPTY._replace(errors=(LintError("n.ipynb", 2, told("does not parse"), 3),)),
}


@pytest.mark.parametrize("name", REPORTS)
def test_sarif_is_valid_by_the_published_schema(name: str) -> None:
    log = json.loads(render(REPORTS[name], "sarif", EVERYTHING))
    assert [error.message for error in sarif_schema().iter_errors(log)] == []


def test_the_schema_of_sarif_refuses_what_is_none() -> None:
    log = json.loads(render(REPORT, "sarif", EVERYTHING))
    log["runs"][0]["results"][0]["level"] = "fatal"
    assert not sarif_schema().is_valid(log)


@pytest.mark.parametrize("name", REPORTS)
def test_json_is_valid_by_the_schema_in_the_documentation(name: str) -> None:
    document = json.loads(render(REPORTS[name], "json", ReportView()))
    assert [error.message for error in json_schema().iter_errors(document)] == []


def test_the_schema_of_json_knows_every_key() -> None:
    document = json.loads(render(REPORT, "json", ReportView()))
    document["findings"][0]["surprise"] = 1
    assert not json_schema().is_valid(document)


def test_what_a_real_run_prints_is_valid(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "broken.py").write_text("import torch\ndef attention(q, k, v:\n    return q.detach()\n")
    outputs = [f"--output-file={name}:out.{name}" for name in ("json", "sarif", "gitlab", "junit", "github")]
    result = lint("--output-format", "json", *outputs, "kernel.py", "broken.py", confirm=True)
    assert result.exit_code == 1, result.output
    document = json.loads(result.stdout)
    assert document["findings"][0]["disposition"] == "confirmed"
    assert document["targets"][0]["runs"][0]["backend"] == "self"
    assert [error.message for error in json_schema().iter_errors(document)] == []
    assert json.loads((folder / "out.json").read_text()) == document
    log = json.loads((folder / "out.sarif").read_text())
    assert [error.message for error in sarif_schema().iter_errors(log)] == []
    assert [issue["location"]["path"] for issue in json.loads((folder / "out.gitlab").read_text())] == [
        "kernel.py", "broken.py",
    ]  # fmt: skip
    assert (folder / "out.github").read_text().startswith("::error file=kernel.py,line=6,")
    check_junit((folder / "out.junit").read_text(encoding="utf-8"))


def applied(source: str, replacements: list[dict[str, Any]]) -> str:
    """A file after the replacements of a SARIF fix; columns count characters."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for item in reversed(replacements):
        region = item["deletedRegion"]
        first = starts[region["startLine"] - 1] + region["startColumn"] - 1
        last = starts[region["endLine"] - 1] + region["endColumn"] - 1
        source = source[:first] + item["insertedContent"]["text"] + source[last:]
    return source


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a\nb\nc\n", "a\nB\nc\n"),
        ("a\nb\nc", "a\nb\nC"),
        ("a\nb\nc\n", "a\nc\n"),
        ("a\nc\n", "a\nb1\nb2\nc\n"),
        ("漢\nb\nc\nd\ne\n", "字\nb\nc\nD\nE"),
        ("a\nb\n", "a\n"),
    ],
)
def test_a_fix_turns_the_file_into_the_one_that_was_run(old: str, new: str) -> None:
    log = json.loads(render(rewritten(new, old=old), "sarif", ReportView()))
    assert [error.message for error in sarif_schema().iter_errors(log)] == []
    (fix,) = log["runs"][0]["results"][0]["fixes"]
    (change,) = fix["artifactChanges"]
    assert change["artifactLocation"] == {"uri": "kernels/a%20b.py"}
    assert applied(old, change["replacements"]) == new
    assert all("fixes" not in result for result in log["runs"][0]["results"][1:])


def test_json_names_the_lines_that_a_rewrite_changes() -> None:
    report = rewritten(kernel().replace(".detach()", ""))
    document = json.loads(render(report, "json", ReportView()))
    rewrite = document["findings"][0]["rewrite"]
    assert rewrite["symbol"] == "Attention"
    lines = kernel().splitlines(keepends=True)
    for edit in reversed(rewrite["edits"]):
        lines[edit["line"] - 1 : edit["end_line"] - 1] = edit["lines"]
    assert "".join(lines) == kernel().replace(".detach()", "")
    assert len(rewrite["edits"]) == len(list_edits(report.findings[0].rewrite, report.sources))
    assert document["findings"][1]["rewrite"] is None


def test_sarif_says_what_a_rule_is_about() -> None:
    (run,) = json.loads(render(REPORT, "sarif", EVERYTHING))["runs"]
    rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    assert rules["THL002"]["fullDescription"]["text"].startswith("Finds tensors taken off the graph")
    assert rules["THL002"]["help"]["markdown"].startswith("# THL002 detach\n")
    assert rules["THL001"]["defaultConfiguration"] == {"level": "error"}
    assert rules["unsafe-target"]["shortDescription"]["text"]
    assert run["columnKind"] == "unicodeCodePoints"


def test_sarif_describes_a_rule_that_a_user_added() -> None:
    suspect = replace(REPORT.findings[0].suspect, rule="MINE001", name="stop-grad")
    log = json.loads(render(only(replace(REPORT.findings[0], suspect=suspect)), "sarif", ReportView()))
    (rule,) = log["runs"][0]["tool"]["driver"]["rules"]
    assert (rule["id"], rule["name"], rule["help"]["text"]) == ("MINE001", "StopGrad", suspect.remedy.rstrip("."))
    assert sarif_schema().is_valid(log)


def test_sarif_tells_what_the_run_noted_and_could_not_check() -> None:
    (run,) = json.loads(render(REPORT, "sarif", ReportView()))["runs"]
    (invocation,) = run["invocations"]
    notified = [(item["level"], item["message"]["text"]) for item in invocation["toolExecutionNotifications"]]
    assert notified == [
        ("error", "broken.py: does not parse: invalid syntax"),
        ("error", "secret.py: cannot be read: Permission denied"),
        ("note", "a note"),
    ]


@pytest.mark.parametrize("interrupted", [False, True])
def test_sarif_says_whether_the_run_came_to_its_end(interrupted: bool) -> None:
    (run,) = json.loads(render(REPORT._replace(interrupted=interrupted), "sarif", ReportView()))["runs"]
    assert run["invocations"][0]["executionSuccessful"] is not interrupted


def test_a_path_outside_the_working_directory_is_a_uri() -> None:
    suspect = replace(REPORT.findings[0].suspect, path="/opt/a b/c:d#e.py")
    log = json.loads(render(only(replace(REPORT.findings[0], suspect=suspect)), "sarif", ReportView()))
    location = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location == {"uri": "file:///opt/a%20b/c%3Ad%23e.py"}


def test_gitlab_issues_have_what_code_quality_requires() -> None:
    issues = json.loads(render(REPORT, "gitlab", EVERYTHING))
    assert len({issue["fingerprint"] for issue in issues}) == len(issues) == len(list_items(REPORT, EVERYTHING))
    for issue in issues:
        assert issue["description"]
        assert issue["check_name"]
        assert issue["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert isinstance(issue["location"]["lines"]["begin"], int)
        assert not issue["location"]["path"].startswith(("/", "./"))


COMMAND = re.compile(r"::(error|warning|notice) ([^\n]*?)::([^\n]*)\n")


def read_command(line: str) -> tuple[str, dict[str, str], str]:
    """A workflow command, read as GitHub's runner reads it: ``%25`` is undone last."""
    match = COMMAND.fullmatch(line)
    assert match, line

    def undone(text: str, more: tuple[tuple[str, str], ...] = ()) -> str:
        for code, character in (("%0D", "\r"), ("%0A", "\n"), *more, ("%25", "%")):
            text = text.replace(code, character)
        return text

    pairs = (pair.partition("=") for pair in match[2].split(","))
    properties = {key: undone(value, (("%3A", ":"), ("%2C", ","))) for key, _, value in pairs}
    return match[1], properties, undone(match[3])


QUIET = st.text(st.characters(exclude_categories=("Cc", "Cf", "Zl", "Zp"), include_characters="\n\r\t"))


@given(QUIET.filter(bool), QUIET)
def test_a_github_command_survives_any_path_and_message(path: str, message: str) -> None:
    assume("##" not in path + message)
    suspect = replace(REPORT.findings[1].suspect, path=path, message=message, remedy="")
    line = render(only(replace(REPORT.findings[1], suspect=suspect)), "github", ReportView())
    level, properties, text = read_command(line)
    assert level == "warning"
    assert properties == {
        "file": path, "line": "7", "col": "31", "endLine": "7", "endColumn": "39",
        "title": "THL002 detach: confirmed silent_collapse",
    }  # fmt: skip
    assert text == f"{message} (confirmed silent_collapse: alone it is enough)"


def test_junit_has_the_elements_and_attributes_that_services_read() -> None:
    check_junit(render(REPORT, "junit", EVERYTHING))
    suite = ElementTree.fromstring(render(EMPTY, "junit", ReportView()).encode()).find("testsuite")
    assert suite is not None
    assert [case.attrib["name"] for case in suite] == ["0 files"]


@given(st.text())
def test_junit_is_xml_whatever_the_message(message: str) -> None:
    control = EMPTY._replace(errors=(LintError("a.py", 1, told(message)),))
    check_junit(render(control, "junit", ReportView()))
