"""Split a module into top-level blocks (functions, classes, the rest) by indentation alone, and classes into pieces.

A class is not run as a whole because one of its methods is: a block is what can be blanked, a piece what can be run.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

# A line that begins in the first column with anything but what can close a bracket begins a top-level statement.
_TOP = re.compile(r"\n(?=[^\s)\]}\\])")
_DEFINITION = re.compile(r"(?:async[ \t]+def|def|class)[ \t]+(\w+)")
_FUNCTION = re.compile(r"(?:async[ \t]+)?def[ \t]+(\w+)")
_DECORATED = re.compile(r"\n[ \t]*(?=@|def\b|async\b|class\b)")
# What a text defines, at whatever depth. The literal comes first: the engine then skips to it.
DEFINED = re.compile(r"(?:def(?<!\wdef)|class(?<!\wclass))[ \t]+(\w+)")
DEFINED_CLASS = re.compile(r"class(?<!\wclass)[ \t]+(\w+)")
INNER = re.compile(r"def[ \t]+(\w+)\s*(?:\[[^\]]*\]\s*)?\(")
_CLASS_HEADER = re.compile(r"(?:^|\n)class[ \t]")
_METHOD = re.compile(r"\n([ \t]+)(?:async[ \t]+)?def[ \t]")
IDENTIFIER = re.compile(r"[^\W\d]\w*")
_ASSIGNED = re.compile(r"(?:^|\n)[ \t]*(\w+)[ \t]*(?::[^=\n]*)?=(?!=)")
_ASSIGNED_ANYWHERE = re.compile(r"(\w+)[ \t]*(?::[^=\n]*)?=(?!=)")
# Spelt out: what autograd and the detectors never see inside of, whatever the file imports.
_KERNEL = re.compile(r"^@triton\.(?:jit|autotune|heuristics)\b", re.MULTILINE)
_HEADER_END = re.compile(r"\)\s*(?:->[^:\n]+)?:(?=[ \t]*\r?\n)")


@dataclass(eq=False, slots=True)
class TopLevelBlock:
    """A top-level statement: where it stands in the masked text, and the names that it defines.

    A definition (``named``) can be left out; any other statement is always kept. ``body`` is where the body of a
    device kernel begins, which can be left out alone.
    """

    begin: int
    end: int
    text: str
    names: frozenset[str]
    named: bool
    bases: frozenset[str] = frozenset()
    body: int | None = None
    _mentioned: frozenset[str] | None = None
    _statements: list[int] | None = None
    _pieces: list[CodePiece] | None = None
    _piece_starts: list[int] | None = None

    def get_mentions(self) -> frozenset[str]:
        """Every identifier in the block."""
        if self._mentioned is None:
            self._mentioned = frozenset(IDENTIFIER.findall(self.text))
        return self._mentioned

    def get_statement_starts(self) -> list[int]:
        """Where the statements of a class's body begin in the text; none for anything but a class with methods."""
        if self._statements is None:
            method = _METHOD.search(self.text) if _CLASS_HEADER.search(self.text) is not None else None
            found = _compile_indentation(method[1]).finditer(self.text) if method is not None else ()
            self._statements = [match.end() for match in found]
        return self._statements

    def is_class(self) -> bool:
        """Whether the block is a class."""
        return self.named and (bool(self.bases) or bool(self.get_statement_starts()) or self.text.startswith("class"))

    def get_pieces(self) -> list[CodePiece]:
        """The header of a class with methods and each statement of its body; of any other block the whole."""
        if self._pieces is None:
            starts = self._piece_starts = self._list_piece_starts()
            bounds = pairwise([0, *starts, len(self.text)])
            self._pieces = [CodePiece(self, self.text[a:b], is_statement=bool(starts)) for a, b in bounds]
        return self._pieces

    def find_piece(self, offset: int) -> CodePiece:
        """The piece that holds a place in the module."""
        pieces = self.get_pieces()
        return pieces[bisect_right(self._piece_starts or (), offset - self.begin)]

    def _list_piece_starts(self) -> list[int]:
        """Where the pieces of a class begin, but for the first: a decorator belongs to what it decorates."""
        starts = self.get_statement_starts()
        return [start for before, start in pairwise([-1, *starts]) if before < 0 or self.text[before] != "@"]


class CodePiece:
    """A statement in a class's body, or all of a block that is no class with methods."""

    def __init__(self, block: TopLevelBlock, text: str, *, is_statement: bool) -> None:
        self.block = block
        self.text = text
        self._is_statement = is_statement

    @cached_property
    def method(self) -> str | None:
        """The method that it defines, if that is what it is."""
        return self._definition[1] if self._definition is not None else None

    @cached_property
    def names(self) -> frozenset[str]:
        """The names that it defines, in whatever depth."""
        if not self._is_statement:
            return self.block.names | frozenset(DEFINED.findall(self.text))
        if self._definition is None:
            return frozenset([*DEFINED.findall(self.text), *_ASSIGNED_ANYWHERE.findall(self.text)])
        is_alone = self.text.find("def ", self._definition.end()) < 0 and "class" not in self.text
        return frozenset([self._definition[1]] if is_alone else DEFINED.findall(self.text))

    @cached_property
    def _definition(self) -> re.Match[str] | None:
        if not self._is_statement:
            return None
        start = 0
        while self.text.startswith("@", start):
            found = _DECORATED.search(self.text, start)
            if found is None:
                break
            start = found.end()
        return _FUNCTION.match(self.text, start)


class ModuleBlocks:
    """A masked module in blocks, in source order."""

    def __init__(self, masked: str) -> None:
        self.masked = masked
        self.all: list[TopLevelBlock] = []
        self._split_module()
        self._starts = [block.begin for block in self.all]
        self.by_name: dict[str, list[TopLevelBlock]] = {}
        for block in self.all:
            for name in block.names:
                self.by_name.setdefault(name, []).append(block)

    def _split_module(self) -> None:
        masked = self.masked
        starts = [match.end() for match in _TOP.finditer(masked)]
        if masked and not masked[0].isspace():
            starts.insert(0, 0)
        decorated: int | None = None
        for start, end in pairwise([*starts, len(masked)]):
            if masked[start] == "@":
                decorated = start if decorated is None else decorated
                continue
            begin = start if decorated is None else decorated
            decorated = None
            self.all.append(self._make_block(begin, start, end))

    def _make_block(self, begin: int, start: int, end: int) -> TopLevelBlock:
        text = self.masked[begin:end]
        match = _DEFINITION.match(self.masked, start) if self.masked[start] in "dac" else None
        if match is None:
            assigned = _ASSIGNED.findall(text) if "=" in text else []
            return TopLevelBlock(begin, end, text, frozenset([*assigned, *_DEFINITION.findall(text)]), named=False)
        name = match[1]
        bases: frozenset[str] = frozenset()
        if self.masked.startswith("class", start):
            header = self.masked[start:end].partition(":")[0]
            bases = frozenset(IDENTIFIER.findall(header)) - {name, "class"}
        body = _find_kernel_body(text, begin, start) if begin < start else None
        return TopLevelBlock(begin, end, text, frozenset([name]), named=True, bases=bases, body=body)

    def find_piece_at(self, offset: int) -> CodePiece | None:
        """The piece that holds a place in the text; None before the first block."""
        block = self.find_block_at(offset)
        return block.find_piece(offset) if block is not None else None

    def find_block_at(self, offset: int) -> TopLevelBlock | None:
        """The block that holds a place in the text; None before the first."""
        position = bisect_right(self._starts, offset) - 1
        return self.all[position] if position >= 0 else None


@lru_cache(maxsize=32)
def _compile_indentation(indent: str) -> re.Pattern[str]:
    """The beginnings of the statements at an indentation."""
    return re.compile(rf"\n{indent}(?=[^\s)\]}}\\])")


def _find_kernel_body(text: str, begin: int, start: int) -> int | None:
    """Where the body of a kernel begins in the module, None for what is no kernel, or has functions inside."""
    if _KERNEL.search(text) is None:
        return None
    header = _HEADER_END.search(text, start - begin)
    if header is None or INNER.search(text, header.end()) is not None:
        return None
    return begin + header.end()
