"""What a rule says of itself, as Markdown: for ``--explain`` and for ``docs/rules/``."""

from __future__ import annotations

import re

from .examples import Example, examples
from .rules import Rule

_EXPECTATION = re.compile(r"\s*#\s*(expect|verdict|near miss):.*$")

_SECTIONS = {"## Example": "confirmed", "## Found, and cleared": "cleared", "## Not reported": None}


def explain(rule: Rule) -> str:
    """The page of a rule: what it does, why it is bad, an example, what is not reported, the remedy, references."""
    found = examples(rule)
    parts = [f"# {rule.id} {rule.name}", f"Severity: {rule.severity}. {_neutralisable(rule)}"]
    parts += ["## What it does", rule.what, "## Why it is bad", rule.why]
    for heading, disposition in _SECTIONS.items():
        shown = next((example for example in found if _disposition(rule, example) == disposition), None)
        if shown is not None:
            parts += [heading, _listing(rule, shown)]
    parts += ["## Remedy", rule.remedy]
    if rule.references:
        parts += ["## References", "\n".join(f"- <{reference}>" for reference in rule.references)]
    return "\n\n".join(parts) + "\n"


def _neutralisable(rule: Rule) -> str:
    if any(match.neutraliser for match in rule.matches) or rule.detector == "straight-through":
        return (
            "To confirm or clear it, the tool runs the kernel again with the place rewritten so that it does nothing."
        )
    return "No rewrite makes it do nothing: it is confirmed when its kernel fails with all other suspects rewritten."


def _disposition(rule: Rule, example: Example) -> str | None:
    """What becomes of the rule's suspects in an example, the worst first; None when it has none."""
    dispositions = {disposition for _, expected, disposition in example.expected if expected == rule.id}
    return next((disposition for disposition in _SECTIONS.values() if disposition in dispositions), None)


def _listing(rule: Rule, example: Example) -> str:
    """The example's code: a hit is marked with the rule's id, a near miss with its reason."""
    marks = {line: rule.id for line, expected, _ in example.expected if expected == rule.id}
    lines = []
    for number, line in enumerate(example.source.rstrip().splitlines(), start=1):
        if number in marks:
            lines.append(_EXPECTATION.sub(f"  # {marks[number]}", line))
        else:
            lines.append(_EXPECTATION.sub(_reason, line))
    return "\n".join(["```python", *lines, "```"])


def _reason(match: re.Match[str]) -> str:
    text = match[0].strip()
    return "  # " + text.partition("near miss: ")[2] if "near miss: " in text else ""
