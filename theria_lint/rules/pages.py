"""Write the pages of the rules: ``python -m theria_lint.rules.pages docs/rules``."""

from __future__ import annotations

import sys
from pathlib import Path

from theria_lint.rules.explain import explain_rule, take_first_clause
from theria_lint.rules.loader import RuleSet, load_rules


def make_pages(rules: RuleSet) -> dict[str, str]:
    """The file names and texts of all pages: an index, and one a rule."""
    rows = [
        f"| [{rule.id}]({rule.folder.name}.md) | {rule.name} | {rule.severity} | {take_first_clause(rule.what)} |"
        for rule in rules.rules
    ]
    index = ["# Rules", "", "| id | name | severity | what it finds |", "| --- | --- | --- | --- |", *rows, ""]
    texts = {"README.md": "\n".join(index)}
    texts.update({f"{rule.folder.name}.md": explain_rule(rule) for rule in rules.rules})
    return texts


def write_pages(folder: Path) -> None:
    """Write every page into ``folder``, and remove the page of a rule that is gone."""
    texts = make_pages(load_rules())
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
