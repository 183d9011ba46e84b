"""The blocks of a module and which of them name which; the ways from attention code to a block."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from itertools import chain

from theria_lint.sources.source_text import find_statement_end
from theria_lint.static.attention_names import names_attention
from theria_lint.static.prefilter.entry_points import (
    count_products,
    find_attending_aliases,
    find_attending_mentions,
    find_renamed_operations,
    may_be_entry_point,
    may_make_weights,
    takes_softmax,
)
from theria_lint.static.prefilter.textual_names import find_word
from theria_lint.static.prefilter.top_level_blocks import DEFINED, IDENTIFIER, ModuleBlocks, TopLevelBlock

# So many names are looked for in the text; then every block is asked once for all that it mentions.
_FEW_NAMES = 32

_Step = tuple[Callable[[TopLevelBlock], Collection[str]], Callable[[str], Sequence[TopLevelBlock]]]


class Closure:
    """All that some blocks lead to, found bit by bit: however often it is asked, a block or name is followed once.

    A step goes from a block to names and from a name to blocks.
    """

    def __init__(self, *steps: _Step) -> None:
        self.blocks: set[TopLevelBlock] = set()
        self._steps = [(names, blocks, set[str]()) for names, blocks in steps]

    def add(self, roots: Iterable[TopLevelBlock]) -> list[TopLevelBlock]:
        """Add what ``roots`` lead to, themselves included; returns what is new."""
        new: list[TopLevelBlock] = []
        self._take(roots, new)
        for block in new:  # which grows
            for names, blocks, followed in self._steps:
                for name in names(block):
                    if name not in followed:
                        followed.add(name)
                        self._take(blocks(name), new)
        return new

    def _take(self, blocks: Iterable[TopLevelBlock], new: list[TopLevelBlock]) -> None:
        for block in blocks:
            if block not in self.blocks:
                self.blocks.add(block)
                new.append(block)


class BlockGraph:
    """Which blocks name which."""

    def __init__(self, blocks: ModuleBlocks) -> None:
        self.blocks = blocks
        self._entry_points: dict[TopLevelBlock, bool] = {}
        self._naming: dict[str, list[TopLevelBlock]] = {}
        self._named: dict[str, bool] = {}
        self._lines: dict[TopLevelBlock, list[TopLevelBlock]] = {}
        self._above = self._make_upward_closure()
        self._led = Closure(
            (lambda block: block.get_mentions(), self._get_defining_blocks),
            (lambda block: block.names, self._get_heirs),
        )

    def is_entry_point(self, block: TopLevelBlock) -> bool:
        """Whether a block may itself be attention code, or run what the module calls an operation by another name."""
        if block not in self._entry_points:
            self._entry_points[block] = (
                may_be_entry_point(block)
                or bool(self._operations and not self._operations.isdisjoint(block.get_mentions()))
                or self._uses_weights(block)
            )
        return self._entry_points[block]

    def may_use_operation(self, text: str) -> bool:
        """Whether a part of a block may attend by what the module makes elsewhere: renamed operations, or weights."""
        if self._operations and not self._operations.isdisjoint(IDENTIFIER.findall(text)):
            return True
        return bool(self._weight_makers) and count_products(text) > 0

    def may_run_attention(self, block: TopLevelBlock) -> bool:
        """Whether a block may be attention code, or run some of this file or another."""
        return block in self._leading

    @cached_property
    def _leading(self) -> set[TopLevelBlock]:
        """The blocks from which a way leads to one that may be attention code, or that may run some of another file."""
        leading = self._make_upward_closure()
        leading.add(filter(self.begins_attention, self.blocks.all))
        return leading.blocks

    def begins_attention(self, block: TopLevelBlock) -> bool:
        """Whether a block may be attention code by itself, or run some of another file."""
        return block in self._running_foreign or self.is_entry_point(block)

    @cached_property
    def _running_foreign(self) -> set[TopLevelBlock]:
        """The definitions that may run attention of another file, or make a module of it, by the names they say."""
        masked = self.blocks.masked
        aliases = (find_word(masked, alias) for alias in find_attending_aliases(masked))
        saying = set(map(self.blocks.find_block_at, chain(find_attending_mentions(masked), *aliases)))
        return {block for block in saying if block is not None and block.named and block.body is None}

    def collect_all_ways(self, blocks: Iterable[TopLevelBlock]) -> set[TopLevelBlock]:
        """The blocks on the ways from attention code to some others, and from there to what makes it attention code."""
        found = self.collect_blocks_on_ways(blocks)
        return found | (self.collect_callees(found) & self._leading) if found else found

    def _uses_weights(self, block: TopLevelBlock) -> bool:
        """Whether a block multiplies what a function may return that ends in a softmax of a product."""
        if block.body is not None or not self._weight_makers or not count_products(block.text):
            return False
        if block.get_statement_starts() and block in self._weight_makers:
            return True  # one method of a class may multiply what another makes
        named = block.get_mentions() & self._blocks_leading_to_makers.keys()
        return any(found is not block for name in named for found in self._blocks_leading_to_makers[name][:2])

    @cached_property
    def _blocks_leading_to_makers(self) -> dict[str, list[TopLevelBlock]]:
        """The blocks that lead to a maker of weights, itself included, by the names that they define."""
        leading = Closure((lambda block: block.names, self._find_mentioning_blocks))
        table: dict[str, list[TopLevelBlock]] = {}
        for block in leading.add(self._weight_makers):
            for name in block.names:
                table.setdefault(name, []).append(block)
        return table

    def find_weight_makers(self, blocks: Iterable[TopLevelBlock]) -> set[TopLevelBlock]:
        """The functions that end in a softmax of a product, where some blocks multiply what they may return."""
        if not self._weight_makers:
            return set()
        return self._weight_makers & self.collect_callees(
            block for block in blocks if block.body is None and count_products(block.text)
        )

    @cached_property
    def _weight_makers(self) -> set[TopLevelBlock]:
        """The blocks of all functions that may make attention weights."""
        if not takes_softmax(self.blocks.masked):
            return set()
        return set(filter(may_make_weights, self.blocks.all))

    @cached_property
    def _operations(self) -> set[str]:
        """Other names that the module gives to attention operations and multi-head attention."""
        found = find_renamed_operations(self.blocks.masked)
        if not found:
            return found
        assignments = [block for block in self.blocks.all if not block.named and block.names]
        mentioning: dict[str, list[TopLevelBlock]] = {}
        for block in assignments:
            for name in block.get_mentions():
                mentioning.setdefault(name, []).append(block)
        renaming = Closure((lambda block: block.names, lambda name: mentioning.get(name, ())))
        return found.union(*(block.names for block in renaming.add(chain(*(mentioning.get(n, ()) for n in found)))))

    @cached_property
    def _defining(self) -> dict[str, list[TopLevelBlock]]:
        """The blocks that define a name, at whatever level."""
        table: dict[str, list[TopLevelBlock]] = {}
        for block in self.blocks.all:
            for name in dict.fromkeys((*block.names, *DEFINED.findall(block.text))):
                table.setdefault(name, []).append(block)
        return table

    def _get_defining_blocks(self, name: str) -> Sequence[TopLevelBlock]:
        return self.blocks.by_name.get(name, ())

    def _get_heirs(self, name: str) -> Sequence[TopLevelBlock]:
        return self._deriving.get(name, ())

    @cached_property
    def _deriving(self) -> dict[str, list[TopLevelBlock]]:
        """The classes that inherit from a name."""
        table: dict[str, list[TopLevelBlock]] = {}
        for block in self.blocks.all:
            for base in block.bases:
                table.setdefault(base, []).append(block)
        return table

    def _find_mentioning_blocks(self, name: str) -> Sequence[TopLevelBlock]:
        """The blocks that name a name. A search of the text is the quicker way for a few names, and only for those."""
        if name not in self._naming:
            if len(self._naming) >= _FEW_NAMES:
                return self._mentions.get(name, ())
            naming = dict.fromkeys(map(self.blocks.find_block_at, find_word(self.blocks.masked, name)))
            self._naming[name] = [block for block in naming if block is not None]
        return self._naming[name]

    @cached_property
    def _mentions(self) -> dict[str, list[TopLevelBlock]]:
        table: dict[str, list[TopLevelBlock]] = {}
        for block in self.blocks.all:
            for name in block.get_mentions() & self.blocks.by_name.keys():
                table.setdefault(name, []).append(block)
        return table

    def _make_upward_closure(self) -> Closure:
        """From a block to those that may run it: they name it, or it inherits from them."""
        return Closure(
            (lambda block: block.names, self._find_mentioning_blocks),
            (lambda block: block.bases, self._get_defining_blocks),
        )

    def has_way(self, block: TopLevelBlock) -> bool:
        """Whether a way leads from attention code to a block, or it is attention code itself."""
        self._led.add(upper for upper in self._above.add([block]) if self.may_run_attention(upper))
        return block in self._led.blocks

    def collect_blocks_on_ways(self, blocks: Iterable[TopLevelBlock]) -> set[TopLevelBlock]:
        """The blocks on the ways from attention code to some others, themselves included where a way leads there."""
        above = self._make_upward_closure().add(filter(self.has_way, blocks))
        return self._led.blocks.intersection(above)

    def collect_callees(self, blocks: Iterable[TopLevelBlock]) -> set[TopLevelBlock]:
        """Some blocks, those that define what they name, and what these name."""
        return set(Closure((lambda block: block.get_mentions(), self._get_defining_blocks)).add(blocks))

    def defines(self, name: str) -> bool:
        """Whether the module defines a name, at whatever level."""
        return name in self._defining

    def find_definitions(self, names: Iterable[str]) -> set[TopLevelBlock]:
        """The blocks that define some names, at whatever level."""
        return {found for name in names for found in self._defining.get(name, ())}

    def may_take_attention(self, block: TopLevelBlock, offset: int) -> bool:
        """Whether the call at a place may be given attention code, by its name or by what the module says of it."""
        given = list_given_names(block, offset)
        return any(map(names_attention, given)) or any(map(self._may_name_attention, given))

    def _may_name_attention(self, name: str) -> bool:
        """Whether a way leads to a block that defines a name."""
        if name not in self._named:
            self._named[name] = any(map(self.has_way, self._defining.get(name, ())))
        return self._named[name]

    def collect_line(self, block: TopLevelBlock) -> list[TopLevelBlock]:
        """A class and what it inherits from, as far as the module defines it."""
        if block not in self._lines:
            self._lines[block] = list(self.add_base_classes({block}))
        return self._lines[block]

    def collect_heirs(self, block: TopLevelBlock) -> list[TopLevelBlock]:
        """A class and those that inherit from it."""
        return Closure((lambda one: one.names, self._get_heirs)).add([block])

    def add_base_classes(self, needed: set[TopLevelBlock]) -> set[TopLevelBlock]:
        """Add what the classes inherit from."""
        queue = list(needed)
        while queue:
            for name in queue.pop().bases:
                for base in self.blocks.by_name.get(name, ()):
                    if base not in needed:
                        needed.add(base)
                        queue.append(base)
        return needed


def list_given_names(block: TopLevelBlock, offset: int) -> list[str]:
    """The names behind a place as far as its statement goes: all that a call there can be given is among them."""
    start = offset - block.begin
    return IDENTIFIER.findall(block.text, start, find_statement_end(block.text, start))
