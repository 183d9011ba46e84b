"""The pieces of a module, told apart by indentation alone: its top-level functions and classes, and the rest."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

from . import words

# A line that begins in the first column with anything but what can close a bracket begins a top-level statement.
_TOP = re.compile(r"\n(?=[^\s)\]}\\])")
_DEFINITION = re.compile(r"(?:async[ \t]+def|def|class)[ \t]+(\w+)")
_INNER = re.compile(r"def[ \t]+(\w+)\s*(?:\[[^\]]*\]\s*)?\(")
_CLASS = re.compile(r"class[ \t]+(\w+)")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_SIGNATURE = re.compile(r"[^()]*(?:\((?:[^()]|\([^()]*\))*\)[^()]*)*\)")
_ASSIGNED = re.compile(r"(?:^|\n)[ \t]*(\w+)[ \t]*(?::[^=\n]*)?=(?!=)")
_OPERATIONS = (
    "scaled_dot_product",
    "multi_head_attention_forward",
    "flex_attention",
    "memory_efficient_attention",
    "flash_attn",
    "flash_attention",
    "sageattn",
    "xformers_attention",
)


@dataclass(eq=False, slots=True)
class Chunk:
    """A top-level statement: where it stands in the masked text, and the names that it defines.

    A definition (``named``) can be left out; any other statement is always kept.
    """

    begin: int
    end: int
    text: str
    names: frozenset[str]
    named: bool
    bases: frozenset[str] = frozenset()
    mentioned: frozenset[str] | None = None

    def mentions(self) -> frozenset[str]:
        """Every identifier in the chunk."""
        if self.mentioned is None:
            self.mentioned = frozenset(_IDENTIFIER.findall(self.text))
        return self.mentioned


class Chunks:
    """A masked module in chunks, in source order."""

    def __init__(self, masked: str) -> None:
        self.masked = masked
        self.all: list[Chunk] = []
        self._split()
        self._starts = [chunk.begin for chunk in self.all]
        self.by_name: dict[str, list[Chunk]] = {}
        for chunk in self.all:
            for name in chunk.names:
                self.by_name.setdefault(name, []).append(chunk)

    def _split(self) -> None:
        masked = self.masked
        starts = [match.end() for match in _TOP.finditer(masked)]
        if masked and not masked[0].isspace():
            starts.insert(0, 0)
        decorated: int | None = None
        for start, end in zip(starts, [*starts[1:], len(masked)], strict=True):
            if masked[start] == "@":
                decorated = start if decorated is None else decorated
                continue
            begin = start if decorated is None else decorated
            decorated = None
            self.all.append(self._chunk(begin, start, end))

    def _chunk(self, begin: int, start: int, end: int) -> Chunk:
        text = self.masked[begin:end]
        match = _DEFINITION.match(self.masked, start) if self.masked[start] in "dac" else None
        if match is None:
            assigned = _ASSIGNED.findall(text) if "=" in text else []
            return Chunk(begin, end, text, frozenset([*assigned, *_DEFINITION.findall(text)]), named=False)
        name = match[1]
        bases: frozenset[str] = frozenset()
        if self.masked.startswith("class", start):
            header = self.masked[start:end].partition(":")[0]
            bases = frozenset(_IDENTIFIER.findall(header)) - {name, "class"}
        return Chunk(begin, end, text, frozenset([name]), named=True, bases=bases)

    def at(self, offset: int) -> Chunk | None:
        """The chunk that holds a place in the text; None before the first."""
        position = bisect_right(self._starts, offset) - 1
        return self.all[position] if position >= 0 else None


def may_be_seed(chunk: Chunk) -> bool:
    """Whether a chunk may itself be attention code: never False where the analysis of its tree says that it is."""
    text = chunk.text
    if "def" not in text:
        return False
    if "softmax" in text or "Softmax" in text or "SOFTMAX" in text:
        return True
    if any(operation in text for operation in _OPERATIONS):
        return True
    if any(words.class_is_attention(name) for name in _CLASS.findall(text)):
        return True
    return any(_may_be_attention(text, match) for match in _INNER.finditer(text))


def _may_be_attention(text: str, match: re.Match[str]) -> bool:
    """Whether the definition that begins at ``match`` is attention by its name or by its parameters."""
    if words.function_is_attention(match[1]):
        return True
    signature = _SIGNATURE.match(text, match.end())
    # A signature that is nested too deeply for the pattern: whatever follows may be a parameter.
    identifiers = _IDENTIFIER.findall(signature[0] if signature else text)
    if not words.FUNCTION_PARAMETERS.isdisjoint(identifiers):
        return True
    found = words.roles(identifiers)
    return {"q", "k", "v"} <= found or "qkv" in found or {"q", "kv"} <= found
