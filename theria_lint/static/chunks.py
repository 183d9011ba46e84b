"""The pieces of a module, told apart by indentation alone: its top-level functions and classes, and the rest."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from . import words
from .computing import OPERATION, PRODUCTS

# A line that begins in the first column with anything but what can close a bracket begins a top-level statement.
_TOP = re.compile(r"\n(?=[^\s)\]}\\])")
_DEFINITION = re.compile(r"(?:async[ \t]+def|def|class)[ \t]+(\w+)")
_INNER = re.compile(r"def[ \t]+(\w+)\s*(?:\[[^\]]*\]\s*)?\(")
_CLASS_HEADER = re.compile(r"(?:^|\n)class[ \t]")
_METHOD = re.compile(r"\n([ \t]+)(?:async[ \t]+)?def[ \t]")
_CLASS = re.compile(r"class[ \t]+(\w+)")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_SIGNATURE = re.compile(r"[^()]*(?:\((?:[^()]|\([^()]*\))*\)[^()]*)*\)")
_ASSIGNED = re.compile(r"(?:^|\n)[ \t]*(\w+)[ \t]*(?::[^=\n]*)?=(?!=)")
# The literal comes first: the engine then skips to it instead of trying every place.
_PRODUCTS = tuple((word, re.compile(rf"{word}(?<!\w{word})(?!\w)")) for word in PRODUCTS)
# Spelt out: what autograd and the detectors never see inside of, whatever the file imports.
_KERNEL = re.compile(r"^@triton\.(?:jit|autotune|heuristics)\b", re.MULTILINE)
_HEADER_END = re.compile(r"\)\s*(?:->[^:\n]+)?:(?=[ \t]*\r?\n)")
_NAMED_LAMBDA = re.compile(r"(\w+)[ \t]*(?::[^=\n]*)?=[ \t]*\(?\s*lambda\b([^:]*):")
_MULTIHEAD = "MultiheadAttention"
_ENTRY = re.compile(r"(?:forward|__call__)\s*[\[(=]")
_QKV = frozenset({"q", "k", "v"})
# Names that can be for q, k or v.
_VARIABLE = re.compile(r"(?<![\w.])_*(?:[xX]_*)?[qkvQKV]\w*")
_ARGUMENT = re.compile(rf"{_VARIABLE.pattern}(?=[\s\\]*[,)])")
_METHOD_BEGINS = ("", "async ")
_DECORATOR = re.compile(r"\n[ \t]*@[^\n]*(?=\n[ \t]*(?:@|def|class|async))")
# A part of every name that `_OPERATION` finds: a text without any is not searched.
_HINTS = (
    *("scaled_dot_product_", "multi_head_attention_forward", "flex_attention", "memory_efficient_attention"),
    *("flash_att", "sageattn", "xformers_attention"),
)
_OPERATION = re.compile(rf"(?<!\w){OPERATION}(?!\w)")
_NAMES_OPERATION = re.compile(rf"(?<!\w){OPERATION}")
_RENAMED = re.compile(r"[\s\\]+as[\s\\]+(\w+)")
_ASSIGNED_TO = re.compile(r"[ \t]*(\w+)[^=]*=[^=]*")


@dataclass(eq=False, slots=True)
class Chunk:
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
    _makes_weights: bool | None = None

    def mentions(self) -> frozenset[str]:
        """Every identifier in the chunk."""
        if self._mentioned is None:
            self._mentioned = frozenset(_IDENTIFIER.findall(self.text))
        return self._mentioned

    def statements(self) -> list[int]:
        """Where the statements of a class's body begin in the text; none for anything but a class with methods."""
        if self._statements is None:
            method = _METHOD.search(self.text) if _CLASS_HEADER.search(self.text) is not None else None
            found = _at_indentation(method[1]).finditer(self.text) if method is not None else ()
            self._statements = [match.end() for match in found]
        return self._statements

    def pieces(self) -> list[str]:
        """The text in pieces of which each holds the functions that it holds in whole: a class's methods apart."""
        starts = self.statements()
        if not starts:
            return [self.text]
        return [self.text[start:end] for start, end in pairwise([0, *starts, len(self.text)])]

    def may_make_weights(self) -> bool:
        """Whether one function of the chunk may take a softmax of a product."""
        if self._makes_weights is None:
            pieces = self.pieces() if takes_softmax(self.text) and products(self.text) else []
            self._makes_weights = any(takes_softmax(piece) and products(piece) for piece in pieces)
        return self._makes_weights


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
        for start, end in pairwise([*starts, len(masked)]):
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
        body = _kernel_body(text, begin, start) if begin < start else None
        return Chunk(begin, end, text, frozenset([name]), named=True, bases=bases, body=body)

    def method_at(self, chunk: Chunk, offset: int) -> tuple[str, str] | None:
        """The name and text of the method of a top-level class that holds a place, its decorators included.

        None for a place that no method holds.
        """
        text = chunk.text
        starts = chunk.statements()
        position = bisect_right(starts, offset - chunk.begin) - 1
        while 0 <= position < len(starts) and text[starts[position]] == "@":
            position += 1  # a decorator belongs to the definition that follows it
        if not 0 <= position < len(starts):
            return None
        definition = _DEFINITION.match(text, starts[position])
        end = starts[position + 1] if position + 1 < len(starts) else len(text)
        return (definition[1], text[starts[position] : end]) if definition is not None else None

    def at(self, offset: int) -> Chunk | None:
        """The chunk that holds a place in the text; None before the first."""
        position = bisect_right(self._starts, offset) - 1
        return self.all[position] if position >= 0 else None


@lru_cache(maxsize=32)
def _at_indentation(indent: str) -> re.Pattern[str]:
    """The beginnings of the statements at an indentation."""
    return re.compile(rf"\n{indent}(?=[^\s)\]}}\\])")


def _kernel_body(text: str, begin: int, start: int) -> int | None:
    """Where the body of a kernel begins in the module, None for what is no kernel, or has functions inside."""
    if _KERNEL.search(text) is None:
        return None
    header = _HEADER_END.search(text, start - begin)
    if header is None or _INNER.search(text, header.end()) is not None:
        return None
    return begin + header.end()


def may_be_seed(chunk: Chunk) -> bool:
    """Whether a chunk may itself be attention code: never False where the analysis of its tree says that it is."""
    if chunk.body is not None:
        return False
    if any(words.class_is_attention(name) for name in _CLASS.findall(chunk.text)):
        return True
    # The name of a method alone says nothing: of a class's pieces, those behind its header.
    is_method = bool(chunk.statements())
    return _MULTIHEAD in chunk.text or any(functions_may_be_seeds(piece, is_method) for piece in chunk.pieces())


def functions_may_be_seeds(text: str, is_method: bool) -> bool:
    """Whether a function in a text may be attention code by what it takes and computes, or by its name.

    Of a method the name alone says nothing.
    """
    has_lambda = "lambda" in text
    if "def" not in text and not has_lambda:
        return False
    if products(text) >= 2 and (takes_softmax(text) or _may_make_qkv(text)):
        return True
    if may_call_operation(text) or (_ENTRY.search(text) and _may_pass_on(text)):
        return True
    if has_lambda and any(_may_name_attention(match) for match in _NAMED_LAMBDA.finditer(text)):
        return True
    return any(_may_be_attention(text, match, is_method) for match in _INNER.finditer(text))


def may_call_operation(text: str) -> bool:
    """Whether a text names an attention operation."""
    return any(hint in text for hint in _HINTS) and _OPERATION.search(text) is not None


def renamed_operations(text: str) -> set[str]:
    """The names that a text gives to attention operations, by an import or an assignment."""
    found: set[str] = set()
    for match in _NAMES_OPERATION.finditer(text):
        renamed = _RENAMED.match(text, match.end())
        assigned = _ASSIGNED_TO.fullmatch(text, text.rfind("\n", 0, match.start()) + 1, match.start())
        found.update(told[1] for told in (renamed, assigned) if told is not None)
    return found


def takes_softmax(text: str) -> bool:
    """Whether a text may take a softmax."""
    return "softmax" in text or "Softmax" in text or "SOFTMAX" in text


def products(text: str) -> int:
    """How many matrix products a text may hold."""
    operators = text.count("@") - len(_DECORATOR.findall(f"\n{text}")) if "@" in text else 0
    return operators + sum(len(found.findall(text)) for word, found in _PRODUCTS if word in text)


def _may_make_qkv(text: str) -> bool:
    """Whether a text says names for q, k and v that are no attributes."""
    return words.roles(_VARIABLE.findall(text)) >= _QKV


def _may_pass_on(text: str) -> bool:
    """Whether names for q, k and v may be arguments."""
    return words.roles(_ARGUMENT.findall(text)) >= _QKV


def _may_name_attention(match: re.Match[str]) -> bool:
    """Whether a named lambda may be attention by its name or by its parameters."""
    return words.function_is_attention(match[1]) or words.roles(_IDENTIFIER.findall(match[2])) >= _QKV


def _may_be_attention(text: str, match: re.Match[str], is_method: bool) -> bool:
    """Whether the definition that begins at ``match`` is attention by its name or by its parameters."""
    if not (is_method and text[: match.start()] in _METHOD_BEGINS) and words.function_is_attention(match[1]):
        return True
    signature = _SIGNATURE.match(text, match.end())
    # A signature that is nested too deeply for the pattern: whatever follows may be a parameter.
    identifiers = _IDENTIFIER.findall(signature[0] if signature else text)
    if not words.FUNCTION_PARAMETERS.isdisjoint(identifiers) and ("lambda" in text or words.names_attention(match[1])):
        return True
    found = words.roles(identifiers)
    if {"q", "k"} <= found and takes_softmax(text) and products(text):
        return True
    return {"q", "k", "v"} <= found or "qkv" in found or {"q", "kv"} <= found
