"""A source with its strings and comments blanked, character for character: what is left is code."""

from __future__ import annotations

import re

_TEXT = re.compile(
    r"#[^\n]*"
    r'|"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"""'
    r"|'''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'''"
    r'|"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
    r"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'",
    re.DOTALL,
)


def mask(source: str) -> str:
    """Blank the strings and comments of a source; every other character keeps its offset."""
    return _TEXT.sub(_blank, source)


def _blank(match: re.Match[str]) -> str:
    text = match[0]
    if "\n" in text:
        return "\n".join([" " * len(line) for line in text.split("\n")])
    return " " * len(text)
