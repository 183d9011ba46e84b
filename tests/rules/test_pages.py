"""The committed pages are what the rules say."""

from __future__ import annotations

from pathlib import Path

from theria_lint.rules.pages import explain_rule
from theria_lint.rules.loader import load_rules
from theria_lint.rules.pages import make_pages

DOCS = Path(__file__).resolve().parents[2] / "docs" / "rules"


def test_the_pages_in_docs_are_up_to_date() -> None:
    texts = make_pages(load_rules())
    assert {path.name: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")} == texts, (
        "write them again: python -m theria_lint.rules.pages docs/rules"
    )


def test_an_explanation_has_every_heading_and_the_example_without_its_expectations() -> None:
    text = explain_rule(load_rules()["THL004"])
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## What it does",
        "## Why it is bad",
        "## Example",
        "## Not reported",
        "## Remedy",
        "## References",
    ]
    assert "# expect" not in text
    assert "# verdict" not in text
    assert "# THL004" in text
