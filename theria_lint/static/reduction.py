"""Cut a module down to the code that can hold a suspect, so that little has to be parsed.

The result has the same lines as the source: what is left out is blank. Parsing it gives the same suspects as parsing
the whole, because everything is kept that decides about a place with a trigger: the definition around it, those on a
way to it from attention code, what they inherit from, and all code at module level.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence

from .chunks import Chunk, Chunks, may_be_seed
from .masking import mask
from .names import NameTable
from .rules import RuleSet
from .triggers import Triggers, triggers
from .words import word_set

# These look at what the code around a trigger calls, not only at what calls it.
_DOWNWARD = word_set("backward compile optimize ctx save_for_backward saved_tensors_hooks checkpoint")
_HOOKS = "register_"


def reduce(source: str, rules: RuleSet) -> str | None:
    """The part of a source that can hold a suspect, None when there is none."""
    wanted = triggers(rules)
    masked = mask(source)
    found = list(wanted.find(masked))
    if not found:
        return None
    chunks = Chunks(masked)
    found += _aliased(chunks, source, found, wanted)
    needed = _needed(chunks, found, wanted)
    return None if needed is None else _cut(source, chunks, needed)


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
    aliases = Triggers(None, tuple(sorted(extra)), (), frozenset(), frozenset(), {}, (), ())
    return [(offset, extra[name]) for offset, name in aliases.find(chunks.masked)]


def _needed(chunks: Chunks, found: Iterable[tuple[int, str]], wanted: Triggers) -> set[Chunk] | None:
    """The definitions to keep, None when no trigger can be a suspect."""
    graph = _Graph(chunks)
    by_chunk: dict[Chunk, set[str]] = {}
    for offset, word in found:
        chunk = chunks.at(offset)
        if chunk is not None:
            by_chunk.setdefault(chunk, set()).add(word)
    needed: set[Chunk] = set()
    for chunk, said in by_chunk.items():
        if _is_import(chunk):
            continue
        if wanted.always.issuperset(said):
            needed.add(chunk)
            continue
        way = graph.way_to(chunk)
        if way is None and wanted.anywhere.isdisjoint(said):
            continue
        needed.add(chunk)
        needed |= way or set()
        if not _DOWNWARD.isdisjoint(said) or any(word.startswith(_HOOKS) for word in said):
            for below in graph.below([chunk]):
                needed.add(below)
                needed |= graph.way_to(below) or set()
    return graph.with_families(needed) if needed else None


def _is_import(chunk: Chunk) -> bool:
    return not chunk.named and chunk.text.startswith(("import ", "from "))


class _Graph:
    """Which chunks name which."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks
        self._seeds: dict[Chunk, bool] = {}
        self._above: dict[Chunk, list[Chunk]] | None = None

    def is_seed(self, chunk: Chunk) -> bool:
        if chunk not in self._seeds:
            self._seeds[chunk] = may_be_seed(chunk)
        return self._seeds[chunk]

    def named(self, chunk: Chunk) -> Iterator[Chunk]:
        """The chunks that define what a chunk names."""
        for name in chunk.mentions() & self.chunks.by_name.keys():
            for found in self.chunks.by_name[name]:
                if found is not chunk:
                    yield found

    def above(self) -> dict[Chunk, list[Chunk]]:
        """For each chunk those that may run it: they name it, or it inherits from them."""
        if self._above is None:
            self._above = {}
            for chunk in self.chunks.all:
                for named in self.named(chunk):
                    self._above.setdefault(named, []).append(chunk)
                    if not chunk.bases.isdisjoint(named.names):
                        self._above.setdefault(chunk, []).append(named)
        return self._above

    def way_to(self, chunk: Chunk) -> set[Chunk] | None:
        """The chunks on the ways from attention code to this one, itself included; None when no way leads here."""
        edges = self.above()
        above = _reach([chunk], edges)
        seeds = [upper for upper in above if self.is_seed(upper)]
        if not seeds:
            return None
        down: dict[Chunk, list[Chunk]] = {}
        for lower in above:
            for upper in edges.get(lower, ()):
                down.setdefault(upper, []).append(lower)
        return _reach(seeds, down) | {chunk}

    def below(self, roots: Iterable[Chunk]) -> set[Chunk]:
        """The chunks that define what ``roots`` name, and what these name."""
        reached: set[Chunk] = set()
        queue = list(roots)
        while queue:
            for named in self.named(queue.pop()):
                if named not in reached:
                    reached.add(named)
                    queue.append(named)
        return reached

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


def _reach(roots: Iterable[Chunk], edges: Mapping[Chunk, Sequence[Chunk]]) -> set[Chunk]:
    """What ``roots`` lead to, themselves included."""
    reached = set(roots)
    queue = list(reached)
    while queue:
        for following in edges.get(queue.pop(), ()):
            if following not in reached:
                reached.add(following)
                queue.append(following)
    return reached


def _cut(source: str, chunks: Chunks, needed: set[Chunk]) -> str:
    """The source with the definitions that are not needed blanked."""
    parts: list[str] = []
    position = 0
    for chunk in chunks.all:
        if chunk.named and chunk not in needed:
            parts += (source[position : chunk.begin], "\n" * source.count("\n", chunk.begin, chunk.end))
            position = chunk.end
    parts.append(source[position:])
    return "".join(parts)
