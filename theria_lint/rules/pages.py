"""Render a rule as Markdown, for ``--explain`` and for ``docs/rules/``.

``python -m theria_lint.rules.pages docs/rules`` writes the pages of all rules.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from theria_lint.rules.loader import Rule, RuleSet, load_rules

_EXPECTATION = re.compile(r"\s*#\s*(expect|verdict|near miss):.*$")

_SECTIONS = {"## Example": "confirmed", "## Found, and cleared": "cleared", "## Not reported": None}


def explain_rule(rule: Rule) -> str:
    """The page of a rule: what it does, why it is bad, an example, what is not reported, the remedy, references."""
    found = load_examples(rule)
    parts = [f"# {rule.id} {rule.name}", f"Severity: {rule.severity}. {_describe_ablation(rule)}"]
    parts += ["## What it does", rule.what, "## Why it is bad", rule.why]
    for heading, disposition in _SECTIONS.items():
        shown = next((example for example in found if _find_worst_disposition(rule, example) == disposition), None)
        if shown is not None:
            parts += [heading, _format_listing(rule, shown)]
    parts += ["## Remedy", rule.remedy]
    if rule.remedies:
        parts.append("\n".join(f"- {kind}: {remedy}" for kind, remedy in rule.remedies))
    if rule.references:
        parts += ["## References", "\n".join(f"- <{reference}>" for reference in rule.references)]
    return "\n\n".join(parts) + "\n"


def _describe_ablation(rule: Rule) -> str:
    if any(match.neutraliser for match in rule.matches) or rule.detector == "straight-through":
        return (
            "To confirm or clear it, the tool runs the kernel again with the place rewritten so that it does nothing."
        )
    return "No rewrite makes it do nothing: it is confirmed when its kernel fails with all other suspects rewritten."


def _find_worst_disposition(rule: Rule, example: RuleExample) -> str | None:
    """What becomes of the rule's suspects in an example, the worst first; None when it has none."""
    dispositions = {disposition for _, expected, disposition in example.expected if expected == rule.id}
    return next((disposition for disposition in _SECTIONS.values() if disposition in dispositions), None)


def _format_listing(rule: Rule, example: RuleExample) -> str:
    """The example's code: a hit is marked with the rule's id, a near miss with its reason."""
    marks = {line: rule.id for line, expected, _ in example.expected if expected == rule.id}
    lines = []
    for number, line in enumerate(example.source.rstrip().splitlines(), start=1):
        if number in marks:
            lines.append(_EXPECTATION.sub(f"  # {marks[number]}", line))
        else:
            lines.append(_EXPECTATION.sub(_format_near_miss, line))
    return "\n".join(["```python", *lines, "```"])


def _format_near_miss(match: re.Match[str]) -> str:
    text = match[0].strip()
    return "  # " + text.partition("near miss: ")[2] if "near miss: " in text else ""


def take_first_clause(text: str) -> str:
    """The first sentence, on one line, as far as a colon or semicolon."""
    return re.split(r"[.:;] ", " ".join(text.split()), maxsplit=1)[0].rstrip(".") + "."


_COMMENT = re.compile(r"#\s*(expect|verdict|near miss):\s*(.+?)\s*$")


@dataclass(frozen=True, slots=True)
class RuleExample:
    """An example file and what must be true of it: ``expected`` holds (line, rule, disposition)."""

    path: Path
    source: str
    expected: tuple[tuple[int, str, str], ...]
    verdicts: tuple[tuple[int, str], ...]
    near_misses: tuple[int, ...]


def read_example(path: Path) -> RuleExample:
    """Read an example file."""
    source = path.read_text(encoding="utf-8")
    expected: list[tuple[int, str, str]] = []
    verdicts: list[tuple[int, str]] = []
    near_misses: list[int] = []
    for number, line in enumerate(source.splitlines(), start=1):
        match = _COMMENT.search(line)
        if match is None:
            continue
        kind, text = match.groups()
        if kind == "expect":
            for part in text.split(","):
                rule, disposition = part.split()
                expected.append((number, rule, disposition))
        elif kind == "verdict":
            verdicts.append((number, text))
        else:
            near_misses.append(number)
    return RuleExample(path, source, tuple(expected), tuple(verdicts), tuple(near_misses))


def load_examples(rule: Rule) -> tuple[RuleExample, ...]:
    """The example files of a rule, by name."""
    return tuple(read_example(path) for path in sorted(rule.folder.glob("*.py")))


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
