"""Every output format, compared with a snapshot in ``tests/data/reports``, and its own rules.

``THERIA_UPDATE_SNAPSHOTS=1 python -m pytest tests/report/test_reports.py`` writes the snapshots; read the difference.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.sample_report import EMPTY, REPORT, told
from theria_lint.config import FORMATS
from theria_lint.report import ReportView, render
from theria_lint.report.style import TerminalStyle, frame_source

SNAPSHOTS = Path(__file__).parents[1] / "data" / "reports"
VIEWS = {
    "text": ("text", ReportView()),
    "text-ascii": ("text", ReportView(unicode=False)),
    "text-colour": ("text", ReportView(colour=True)),
    "text-verbose": ("text", ReportView(verbose=True)),
    "text-cleared": ("text", ReportView(show_cleared=True)),
    "concise-cleared": ("concise", ReportView(show_cleared=True)),
    "text-statistics": ("text", ReportView(statistics=True)),
    "concise": ("concise", ReportView()),
    "json": ("json", ReportView()),
    "github": ("github", ReportView()),
    "gitlab": ("gitlab", ReportView()),
    "sarif": ("sarif", ReportView()),
    "sarif-cleared": ("sarif", ReportView(show_cleared=True)),
    "junit": ("junit", ReportView()),
}


def _without_rule_pages(text: str) -> str:
    """A rule's page has its own tests: a word changed in it is no change of the report."""
    return re.sub(r'("markdown"|"fullDescription": \{\s+"text"): ".*"', r'\1: "…"', text)


@pytest.mark.parametrize("name", VIEWS)
def test_the_report_is_what_it_was(name: str) -> None:
    text = _without_rule_pages(render(REPORT, *VIEWS[name]))
    snapshot = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("THERIA_UPDATE_SNAPSHOTS"):
        snapshot.write_text(text, encoding="utf-8")
    assert text == snapshot.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_can_say_nothing(name: str) -> None:
    text = render(EMPTY, name, ReportView())
    assert text == "" or text.endswith("\n")
    if name in ("json", "gitlab", "sarif"):
        json.loads(text)


def test_json_is_strict_and_has_the_keys_of_the_schema() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    document = json.loads(render(REPORT, "json", ReportView()), parse_constant=refuse)
    assert list(document) == ["schema", "version", "environment", "summary", "findings", "targets", "errors"]
    assert document["summary"] == {
        "files": 5, "suspects": 4, "confirmed": 2, "cleared": 1, "unconfirmed": 1, "targets": 4, "measured": 3,
        "errors": 2,
    }  # fmt: skip
    assert list(document["environment"]) == ["python", "torch", "triton", "device"]
    place = ["path", "line", "column", "end_line", "end_column"]
    reason = ["reason", "reason_notes", "help", "reason_code", "data"]
    names = ["rule", "name", "severity", *place, "message", "symbol", "disposition", "verdict", *reason, "remedy"]
    assert list(document["findings"][0]) == [*names, "rewrite"]
    assert document["findings"][3]["cell"] == 4
    assert list(document["targets"][0]) == [
        "path",
        "line",
        "symbol",
        "kind",
        "verdict",
        *reason,
        "runs",
        "configurations",
    ]
    run = ["backend", "device", "dtype", "oracle", "status", "verdict", *reason, "error", "gradients", "blocks"]
    assert list(document["targets"][0]["runs"][0]) == [*run, "states", "maml", "notes"]
    assert list(document["errors"][0]) == ["path", "line", "message", *reason]
    assert document["targets"][0]["runs"][0]["blocks"]["v,q"] == {"norm": 4.0, "oracle_norm": 4.0, "error": None}


def test_sarif_holds_together() -> None:
    log = json.loads(render(REPORT, "sarif", ReportView(show_cleared=True)))
    (run,) = log["runs"]
    assert (log["version"], log["$schema"].endswith("sarif-2.1.0.json")) == ("2.1.0", True)
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    fingerprints = [result["partialFingerprints"]["theriaLint/v1"] for result in run["results"]]
    assert len(set(fingerprints)) == len(fingerprints) == 6
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error")
        (location,) = result["locations"]
        region = location["physicalLocation"]["region"]
        assert all(isinstance(value, int) and value >= 1 for value in region.values())
        assert (region["startLine"], region["startColumn"]) <= (
            region.get("endLine", region["startLine"]), region.get("endColumn", region["startColumn"]),
        )  # fmt: skip
        assert " " not in location["physicalLocation"]["artifactLocation"]["uri"]
    assert len(run["invocations"][0]["toolExecutionNotifications"]) == 3


def test_fingerprints_stay_when_lines_move() -> None:
    from dataclasses import replace

    from theria_lint.report.items import list_items

    def moved(line: int) -> list[str]:
        findings = []
        for finding in REPORT.findings:
            span = replace(finding.suspect.span, line=finding.suspect.span.line + line)
            findings.append(replace(finding, suspect=replace(finding.suspect, span=span)))
        sources = {key: "\n" * line + text for key, text in REPORT.sources.items()}
        report = REPORT._replace(findings=tuple(findings), sources=sources)
        return [item.fingerprint for item in list_items(report, ReportView())]

    assert moved(0) == moved(7)


def test_junit_is_xml_whose_counts_are_right() -> None:

    control = REPORT._replace(errors=(*REPORT.errors, REPORT.errors[0]._replace(reason=told("a \x1b[31m character"))))
    suite = ElementTree.fromstring(render(control, "junit", ReportView())).find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(cases)
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[attribute]) == len([case for case in cases if case.find(tag) is not None])
    assert suite.attrib["errors"] == "3"


def test_github_commands_are_one_line_each_and_escaped() -> None:
    from dataclasses import replace

    finding = REPORT.findings[0]
    tricky = replace(finding, suspect=replace(finding.suspect, path="a,b:c.py", message="one\ntwo 100%"))
    text = render(REPORT._replace(findings=(tricky,), targets=(), errors=(), unused_ignores=()), "github", ReportView())
    assert text.count("\n") == 1
    assert text.startswith("::error file=a%2Cb%3Ac.py,line=5,col=7,endLine=6,title=")
    assert "::one%0Atwo 100%25 (" in text


def test_a_map_reads_without_colour_and_without_unicode() -> None:
    text = render(REPORT, "text", ReportView(unicode=False))
    assert "x missing" in text
    assert text[: text.index("n.ipynb")].replace("漢", "").isascii()


def test_a_frame_cuts_what_is_long() -> None:
    from theria_lint.model import Span

    source = "\n".join(["x = (" + "1 + " * 100] + ["    2 +"] * 20 + ["0)"])
    rows = frame_source(source, Span(1, 5, 22, 2), TerminalStyle(False))
    assert len(rows) == 8
    assert rows[0].endswith("...")
    assert rows[-1] == "  | (16 more lines)"
    assert frame_source("", Span(1, 1, 1, 2), TerminalStyle(False)) == []
    assert frame_source("x\n", Span(9, 1, 9, 2), TerminalStyle(False)) == []
