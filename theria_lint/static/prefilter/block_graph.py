"""Which chunks of a module name which, and the ways from attention code to a chunk."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property

from theria_lint.sources.source_text import end_of_statement
from theria_lint.static.attention_names import names_attention
from theria_lint.static.prefilter.entry_points import (
    may_be_seed,
    may_make_weights,
    products,
    renamed_operations,
    takes_softmax,
)
from theria_lint.static.prefilter.textual_names import find_word
from theria_lint.static.prefilter.top_level_blocks import IDENTIFIER, Chunk, Chunks

_DEFINED = re.compile(r"(?:def|class)[ \t]+(\w+)")


# So many names are looked for in the text; then every chunk is asked once for all that it mentions.
_FEW_NAMES = 32

_Step = tuple[Callable[[Chunk], Collection[str]], Callable[[str], Sequence[Chunk]]]


class Closure:
    """All that some chunks lead to, found bit by bit: however often it is asked, a chunk or name is followed once.

    A step goes from a chunk to names and from a name to chunks.
    """

    def __init__(self, *steps: _Step) -> None:
        self.chunks: set[Chunk] = set()
        self._steps = [(names, chunks, set[str]()) for names, chunks in steps]

    def add(self, roots: Iterable[Chunk]) -> list[Chunk]:
        """Add what ``roots`` lead to, themselves included; returns what is new."""
        new: list[Chunk] = []
        self._take(roots, new)
        for chunk in new:  # which grows
            for names, chunks, followed in self._steps:
                for name in names(chunk):
                    if name not in followed:
                        followed.add(name)
                        self._take(chunks(name), new)
        return new

    def _take(self, chunks: Iterable[Chunk], new: list[Chunk]) -> None:
        for chunk in chunks:
            if chunk not in self.chunks:
                self.chunks.add(chunk)
                new.append(chunk)


class Graph:
    """Which chunks name which."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks
        self._seeds: dict[Chunk, bool] = {}
        self._naming: dict[str, list[Chunk]] = {}
        self._above = self._upwards()
        self._led = Closure((lambda chunk: chunk.mentions(), self._defined), (lambda chunk: chunk.names, self._derived))

    def is_seed(self, chunk: Chunk) -> bool:
        """Whether a chunk may itself be attention code, or run what the module calls an operation by another name."""
        if chunk not in self._seeds:
            self._seeds[chunk] = (
                may_be_seed(chunk)
                or bool(self._operations and not self._operations.isdisjoint(chunk.mentions()))
                or self._uses_weights(chunk)
            )
        return self._seeds[chunk]

    def _uses_weights(self, chunk: Chunk) -> bool:
        """Whether a chunk multiplies what a function may return that ends in a softmax of a product."""
        if chunk.body is not None or not self._makers or not products(chunk.text):
            return False
        if chunk.statements() and chunk in self._makers:
            return True  # one method of a class may multiply what another makes
        named = chunk.mentions() & self._leading_to_makers.keys()
        return any(found is not chunk for name in named for found in self._leading_to_makers[name][:2])

    @cached_property
    def _leading_to_makers(self) -> dict[str, list[Chunk]]:
        """The chunks that lead to a maker of weights, itself included, by the names that they define."""
        leading = Closure((lambda chunk: chunk.names, self._mentioning))
        table: dict[str, list[Chunk]] = {}
        for chunk in leading.add(self._makers):
            for name in chunk.names:
                table.setdefault(name, []).append(chunk)
        return table

    def makers_of_weights(self, chunks: Iterable[Chunk]) -> set[Chunk]:
        """The functions that end in a softmax of a product, where some chunks multiply what they may return."""
        if not self._makers:
            return set()
        return self._makers & self.below(chunk for chunk in chunks if chunk.body is None and products(chunk.text))

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

    def _defined(self, name: str) -> Sequence[Chunk]:
        return self.chunks.by_name.get(name, ())

    def _derived(self, name: str) -> Sequence[Chunk]:
        return self._deriving.get(name, ())

    @cached_property
    def _deriving(self) -> dict[str, list[Chunk]]:
        """The classes that inherit from a name."""
        table: dict[str, list[Chunk]] = {}
        for chunk in self.chunks.all:
            for base in chunk.bases:
                table.setdefault(base, []).append(chunk)
        return table

    def _mentioning(self, name: str) -> Sequence[Chunk]:
        """The chunks that name a name. A search of the text is the quicker way for a few names, and only for those."""
        if name not in self._naming:
            if len(self._naming) >= _FEW_NAMES:
                return self._mentions.get(name, ())
            naming = dict.fromkeys(map(self.chunks.at, find_word(self.chunks.masked, name)))
            self._naming[name] = [chunk for chunk in naming if chunk is not None]
        return self._naming[name]

    @cached_property
    def _mentions(self) -> dict[str, list[Chunk]]:
        table: dict[str, list[Chunk]] = {}
        for chunk in self.chunks.all:
            for name in chunk.mentions() & self.chunks.by_name.keys():
                table.setdefault(name, []).append(chunk)
        return table

    def _upwards(self) -> Closure:
        """From a chunk to those that may run it: they name it, or it inherits from them."""
        return Closure((lambda chunk: chunk.names, self._mentioning), (lambda chunk: chunk.bases, self._defined))

    def has_way(self, chunk: Chunk) -> bool:
        """Whether a way leads from attention code to a chunk, or it is attention code itself."""
        self._led.add(upper for upper in self._above.add([chunk]) if self.is_seed(upper))
        return chunk in self._led.chunks

    def on_ways(self, chunks: Iterable[Chunk]) -> set[Chunk]:
        """The chunks on the ways from attention code to some others, themselves included where a way leads there."""
        above = self._upwards().add(filter(self.has_way, chunks))
        return self._led.chunks.intersection(above)

    def below(self, chunks: Iterable[Chunk]) -> set[Chunk]:
        """Some chunks, those that define what they name, and what these name."""
        return set(Closure((lambda chunk: chunk.mentions(), self._defined)).add(chunks))

    def subjects(self, chunk: Chunk, offset: int) -> set[Chunk]:
        """The chunks that define what the call at a place may be given."""
        return {found for name in _given(chunk, offset) for found in self._defining.get(name, ()) if found is not chunk}

    def may_take_attention(self, chunk: Chunk, offset: int) -> bool:
        """Whether the call at a place may be given attention code, by its name or by what the module says of it."""
        if any(map(names_attention, _given(chunk, offset))):
            return True
        defining = (found for name in _given(chunk, offset) for found in self._defining.get(name, ()))
        return any(self.has_way(found) for found in dict.fromkeys(defining))

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
