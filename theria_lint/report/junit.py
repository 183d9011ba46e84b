"""``--output-format junit``: one test case a target and a finding, for CI services that show test results."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from theria.verdicts import Verdict
from theria_lint.model import TargetResult
from theria_lint.report import ReportView
from theria_lint.report.items import ERROR, UNSAFE, UNUSED, ReportItem, list_items
from theria_lint.report.sentences import compose_message
from theria_lint.report.style import COMMAND, ESCAPES
from theria_lint.report.summary import is_accepted
from theria_lint.result import LintReport

# Characters that XML 1.0 cannot hold at all.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What it can hold, but what would act on a terminal that shows it.
_REFERENCES = {code: f"&#{code};" for code in ESCAPES if code > 0x20}


def render(report: LintReport, view: ReportView) -> str:
    """A suite; a run with nothing to show holds one test case that passes, as an empty suite reads as a failure."""
    suite = Element("testsuite", name="theria-lint")
    for item in list_items(report, view):
        if item.rule not in (UNSAFE, UNUSED):
            _add_item_case(suite, item)
    for result in report.targets:
        _add_target_case(suite, result, result.verdict.unsafe and not is_accepted(report, result))
    if not len(suite):
        SubElement(suite, "testcase", classname="theria-lint", name=f"{report.files} files")
    _set_counts(suite)
    root = Element("testsuites", name="theria-lint")
    root.append(suite)
    indent(root)
    text = COMMAND.sub("#&#35;", tostring(root, encoding="unicode").translate(_REFERENCES))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_item_case(suite: Element, item: ReportItem) -> None:
    cell = f"cell {item.cell}:" if item.cell is not None else ""
    name = f"{item.title} at {cell}{item.line}:{item.column}"
    case = _add_case(suite, item.path, name, item.line)
    if item.rule == ERROR:
        SubElement(case, "error", message=_replace_forbidden(item.text))
    elif item.level != "note":
        SubElement(
            case, "failure", message=_replace_forbidden(item.text), type=_replace_forbidden(item.rule)
        ).text = _replace_forbidden("\n".join(item.lines[1:]))


def _add_target_case(suite: Element, result: TargetResult, unsafe: bool) -> None:
    target = result.target
    case = _add_case(suite, target.path, f"target {result.name}", target.line)
    if not unsafe and result.verdict is not Verdict.INCONCLUSIVE:
        return
    told = compose_message(result.reason)
    found = SubElement(case, "failure" if unsafe else "skipped", message=_replace_forbidden(told.head))
    if unsafe:
        found.set("type", result.verdict.value)
    below = [*(f"note: {note}" for note in told.notes), *(f"help: {help_}" for help_ in told.helps)]
    found.text = _replace_forbidden("\n".join(below)) or None


def _add_case(suite: Element, path: str, name: str, line: int) -> Element:
    """``file`` and ``line`` are what services link to; the others ignore attributes that they do not know."""
    place = _replace_forbidden(path)
    return SubElement(suite, "testcase", classname=place, name=_replace_forbidden(name), file=place, line=str(line))


def _set_counts(suite: Element) -> None:
    suite.set("tests", str(len(suite)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))


def _replace_forbidden(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
