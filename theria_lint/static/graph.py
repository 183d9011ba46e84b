"""Which chunks of a module name which, and the ways from attention code to a chunk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from .chunks import IDENTIFIER, Chunk, Chunks
from .meanings import find_word
from .seeds import may_be_seed, may_make_weights, products, renamed_operations, takes_softmax
from .text import end_of_statement
from .words import names_attention

_DEFINED = re.compile(r"(?:def|class)[ \t]+(\w+)")


class Graph:
    """Which chunks name which."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks
        self._seeds: dict[Chunk, bool] = {}
        self._above: dict[Chunk, list[Chunk]] = {}
        self._ways: dict[Chunk, set[Chunk] | None] = {}

    def is_seed(self, chunk: Chunk) -> bool:
        """Whether a chunk may itself be attention code, or run what the module calls an operation by another name."""
        if chunk not in self._seeds:
            self._seeds[chunk] = (
                may_be_seed(chunk)
                or bool(self._operations and not self._operations.isdisjoint(chunk.mentions()))
                or bool(self.makers_of_weights(chunk))
            )
        return self._seeds[chunk]

    def makers_of_weights(self, chunk: Chunk) -> set[Chunk]:
        """The chunks of functions that end in a softmax of a product, where a chunk multiplies what they may return."""
        if chunk.body is not None or not self._makers or not products(chunk.text):
            return set()
        found = self.below(chunk)
        if chunk.statements():
            found.add(chunk)  # one method of a class may multiply what another makes
        return self._makers & found

    @cached_property
    def _makers(self) -> set[Chunk]:
        """The chunks of all functions that may make attention weights."""
        if not takes_softmax(self.chunks.masked):
            return set()
        return set(filter(may_make_weights, self.chunks.all))

    @cached_property
    def _operations(self) -> set[str]:
        """Other names that the module gives to attention operations and multi-head attention."""
        found = renamed_operations(self.chunks.masked)
        if not found:
            return found
        assignments = [chunk for chunk in self.chunks.all if not chunk.named and chunk.names]
        while True:
            more = {name for chunk in assignments if not found.isdisjoint(chunk.mentions()) for name in chunk.names}
            if more <= found:
                return found
            found |= more

    @cached_property
    def _defining(self) -> dict[str, list[Chunk]]:
        """The chunks that define a name, at whatever level."""
        table: dict[str, list[Chunk]] = {}
        for chunk in self.chunks.all:
            for name in dict.fromkeys((*chunk.names, *_DEFINED.findall(chunk.text))):
                table.setdefault(name, []).append(chunk)
        return table

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
        if chunk not in self._ways:
            self._ways[chunk] = self._find_ways(chunk)
        return self._ways[chunk]

    def _find_ways(self, chunk: Chunk) -> set[Chunk] | None:
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
        return {found for name in _given(chunk, offset) for found in self._defining.get(name, ()) if found is not chunk}

    def may_take_attention(self, chunk: Chunk, offset: int) -> bool:
        """Whether the call at a place may be given attention code, by its name or by what the module says of it."""
        if any(map(names_attention, _given(chunk, offset))):
            return True
        defining = (found for name in _given(chunk, offset) for found in self._defining.get(name, ()))
        return any(self.way_to(found) is not None for found in dict.fromkeys(defining))

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


def _given(chunk: Chunk, offset: int) -> list[str]:
    """The names behind a place as far as its statement goes: all that a call there can be given is among them."""
    start = offset - chunk.begin
    return IDENTIFIER.findall(chunk.text, start, end_of_statement(chunk.text, start))


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
