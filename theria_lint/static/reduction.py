"""Cut a module down to the code that can hold a suspect, so that little has to be parsed.

The result has the same lines as the source: what is left out is blank. Parsing it gives the same suspects as parsing
the whole, because everything is kept that decides about a place with a trigger: the definition around it, those on a
way to it from attention code, what they inherit from, and all code at module level.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from .chunks import (
    Chunk,
    Chunks,
    functions_may_be_seeds,
    may_be_seed,
    may_call_operation,
    products,
    renamed_operations,
    takes_softmax,
)
from .classes import CALL_ENTRIES, FUNCTION_ENTRIES
from .masking import mask
from .meanings import find_word
from .names import NameTable
from .rules import RuleSet
from .triggers import Triggers, triggers
from .words import word_set

# These look at what the code around a trigger calls, not only at what calls it; they stand in autograd functions.
_BACKWARD = word_set("backward ctx save_for_backward saved_tensors_hooks once_differentiable")
_FUNCTION = ("def backward", "save_for_backward", "Function", "saved_tensors")
_HOOKS = "register_"
_CONTINUED = re.compile(r"\\\r?\n(?=\S)")
# Members that a string names, which `mask` blanks.
_SPELT = re.compile(r",\s*[\"'](?:detach_?|data)[\"']\s*\)")
# As much of the text behind `torch.compile` or `checkpoint` as can hold what it is called on.
_CALL = 600
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
# Methods that run without being named.
_ENTRIES = frozenset({*CALL_ENTRIES, *FUNCTION_ENTRIES, "__init__"})
_DEFINES = re.compile(r"def[ \t]+$")


def reduce(source: str, rules: RuleSet) -> str | None:
    """The part of a source that can hold a suspect, None when there is none."""
    wanted = triggers(rules)
    masked = mask(source)
    if _is_odd(masked) or ("getattr" in source and _SPELT.search(source) is not None):
        return source
    found = list(wanted.find(masked))
    if not found:
        return None
    chunks = Chunks(masked)
    found += _aliased(chunks, source, found, wanted)
    needed = _needed(chunks, found, wanted)
    return None if needed is None else _cut(source, chunks, needed)


def _is_odd(masked: str) -> bool:
    """Whether indentation and names, or what calls what, cannot be read off a text as they stand.

    Form feeds before a statement, line ends of old Macs, identifiers that Python normalises, continued lines that
    begin in the first column, ops that are known by a string.
    """
    if not masked.isascii() or "\f" in masked or "register_autograd" in masked or _CONTINUED.search(masked) is not None:
        return True
    return "\r" in masked and masked.count("\r") != masked.count("\r\n")


def _aliased(chunks: Chunks, source: str, found: list[tuple[int, str]], wanted: Triggers) -> list[tuple[int, str]]:
    """The uses of other names that the module gives to a trigger: ``from torch import no_grad as quiet``."""
    known = set(wanted.words)
    loose = {chunk for chunk in (chunks.at(offset) for offset, word in found if word in known) if chunk is not None}
    if all(chunk.named for chunk in loose):
        return []
    try:
        tree = ast.parse(_cut(source, chunks, set()))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # the cut module will not parse either, and then the whole is looked at
    table = NameTable()
    for node in ast.walk(tree):
        table.bind(node)
    extra: dict[str, str] = {}
    for name, meanings in table.bound.items():
        for meaning in sorted(meanings):
            last = meaning.rpartition(".")[2]
            if last in known and name not in known:
                extra[name] = last
    aliases = Triggers((), tuple(sorted(extra)), (), frozenset(), frozenset(), {}, frozenset(), (), (), (), ())
    return [(offset, extra[name]) for offset, name in aliases.find(chunks.masked)]


def _needed(chunks: Chunks, found: Iterable[tuple[int, str]], wanted: Triggers) -> set[Chunk] | None:
    """The definitions to keep, None when no trigger can be a suspect."""
    graph = _Graph(chunks)
    said: dict[Chunk, list[tuple[int, str]]] = {}
    for offset, word in found:
        chunk = chunks.at(offset)
        if chunk is not None and not _is_import(chunk) and _counts(graph, chunk, offset, word, wanted):
            said.setdefault(chunk, []).append((offset, word))
    needed: set[Chunk] = set()
    for chunk, places in said.items():
        needed |= _needed_for(graph, chunk, places, wanted)
    for chunk in list(needed):
        needed |= graph.makers_of_weights(chunk)
    return graph.with_families(needed) if needed else None


def _counts(graph: _Graph, chunk: Chunk, offset: int, word: str, wanted: Triggers) -> bool:
    """Whether a trigger can be a suspect, as far as the method around it tells."""
    if word in _BACKWARD and not any(hint in chunk.text for hint in _FUNCTION):
        return False
    return word in wanted.anywhere or graph.may_run(chunk, offset)


def _needed_for(graph: _Graph, chunk: Chunk, places: list[tuple[int, str]], wanted: Triggers) -> set[Chunk]:
    """The chunks that decide about the triggers of one, itself included; none when no trigger can be a suspect."""
    words = {word for _, word in places}
    if wanted.always.issuperset(words):
        return {chunk}
    way = graph.way_to(chunk)
    if way is None and wanted.anywhere.isdisjoint(words):
        return set()
    below: set[Chunk] = set()
    if not _BACKWARD.isdisjoint(words) or any(word.startswith(_HOOKS) for word in words):
        below = graph.below(chunk)
    for offset, word in places:
        if word in wanted.anywhere and word not in wanted.always:
            below |= graph.subjects(chunk, offset)
    ways = [graph.way_to(lower) or set() for lower in below]
    return {chunk}.union(way or set(), below, *ways)


def _is_import(chunk: Chunk) -> bool:
    return not chunk.named and chunk.text.startswith(("import ", "from "))


class _Graph:
    """Which chunks name which."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks
        self._seeds: dict[Chunk, bool] = {}
        self._running: dict[tuple[str, str], bool] = {}
        self._above: dict[Chunk, list[Chunk]] = {}

    def is_seed(self, chunk: Chunk) -> bool:
        if chunk not in self._seeds:
            self._seeds[chunk] = (
                may_be_seed(chunk)
                or not self._operations.isdisjoint(chunk.mentions())
                or bool(self.makers_of_weights(chunk))
            )
        return self._seeds[chunk]

    def makers_of_weights(self, chunk: Chunk) -> set[Chunk]:
        """The chunks of functions that end in a softmax of a product, where a chunk multiplies what they may return."""
        if chunk.body is not None or not self._makers or not products(chunk.text):
            return set()
        return self._makers & self.below(chunk)

    @cached_property
    def _makers(self) -> set[Chunk]:
        """The chunks of all functions that may make attention weights."""
        if not takes_softmax(self.chunks.masked):
            return set()
        return {chunk for chunk in self.chunks.all if chunk.may_make_weights()}

    @cached_property
    def _operations(self) -> set[str]:
        """Other names that the module gives to attention operations."""
        if not may_call_operation(self.chunks.masked):
            return set()
        found = renamed_operations(self.chunks.masked)
        assignments = [chunk for chunk in self.chunks.all if not chunk.named and chunk.names]
        while True:
            more = {name for chunk in assignments if not found.isdisjoint(chunk.mentions()) for name in chunk.names}
            if more <= found:
                return found
            found |= more

    def may_run(self, chunk: Chunk, offset: int) -> bool:
        """Whether the method around a place can be attention code: it is an entry, or named, or looks like it."""
        method = self.chunks.method_at(chunk, offset)
        if method is None or method[0] in _ENTRIES:
            return True
        if method not in self._running:
            name, text = method
            self._running[method] = self._is_named(name) or functions_may_be_seeds(text, is_method=False)
        return self._running[method]

    def _is_named(self, name: str) -> bool:
        """Whether the module says a name other than to define it."""
        masked = self.chunks.masked
        return any(not _DEFINES.search(masked, max(0, place - 20), place) for place in find_word(masked, name))

    def named(self, chunk: Chunk) -> Iterator[Chunk]:
        """The chunks that define what a chunk names."""
        for name in chunk.mentions() & self.chunks.by_name.keys():
            for found in self.chunks.by_name[name]:
                if found is not chunk:
                    yield found

    def above(self, chunk: Chunk) -> list[Chunk]:
        """The chunks that may run this one: they name it, or it inherits from them."""
        if chunk not in self._above:
            places = (place for name in chunk.names for place in find_word(self.chunks.masked, name))
            naming = dict.fromkeys(map(self.chunks.at, places))
            found = [other for other in naming if other is not None and other is not chunk]
            found += [base for name in chunk.bases for base in self.chunks.by_name.get(name, ()) if base is not chunk]
            self._above[chunk] = found
        return self._above[chunk]

    def way_to(self, chunk: Chunk) -> set[Chunk] | None:
        """The chunks on the ways from attention code to this one, itself included; None when no way leads here."""
        above = _reach([chunk], self.above)
        seeds = [upper for upper in above if self.is_seed(upper)]
        if not seeds:
            return None
        down: dict[Chunk, list[Chunk]] = {}
        for lower in above:
            for upper in self.above(lower):
                down.setdefault(upper, []).append(lower)
        return _reach(seeds, lambda upper: down.get(upper, [])) | {chunk}

    def below(self, chunk: Chunk) -> set[Chunk]:
        """The chunks that define what a chunk names, and what these name."""
        return _reach(self.named(chunk), self.named)

    def subjects(self, chunk: Chunk, offset: int) -> set[Chunk]:
        """The chunks that define what the call at a place may be given."""
        start = offset - chunk.begin
        near = _IDENTIFIER.findall(chunk.text, start, start + _CALL)
        return {found for name in near for found in self.chunks.by_name.get(name, ()) if found is not chunk}

    def with_families(self, needed: set[Chunk]) -> set[Chunk]:
        """Add what the classes inherit from."""
        queue = list(needed)
        while queue:
            for name in queue.pop().bases:
                for base in self.chunks.by_name.get(name, ()):
                    if base not in needed:
                        needed.add(base)
                        queue.append(base)
        return needed


def _reach(roots: Iterable[Chunk], following: Callable[[Chunk], Iterable[Chunk]]) -> set[Chunk]:
    """What ``roots`` lead to, themselves included."""
    reached = set(roots)
    queue = list(reached)
    while queue:
        for chunk in following(queue.pop()):
            if chunk not in reached:
                reached.add(chunk)
                queue.append(chunk)
    return reached


def _cut(source: str, chunks: Chunks, needed: set[Chunk]) -> str:
    """The source with the definitions that are not needed blanked, and with the bodies of kernels."""
    parts: list[str] = []
    position = 0
    for chunk in chunks.all:
        if not chunk.named or (chunk in needed and chunk.body is None):
            continue
        parts.append(source[position : chunk.begin])
        begin = chunk.begin
        if chunk in needed and chunk.body is not None:
            begin = chunk.body
            parts += (source[chunk.begin : begin], " pass")
        parts.append("\n" * source.count("\n", begin, chunk.end))
        position = chunk.end
    parts.append(source[position:])
    return "".join(parts)
