"""Cut a module down to the code that can hold a suspect, so that little has to be parsed.

The result has the same lines as the source: what is left out is blank. Parsing it gives the same suspects as parsing
the whole, because everything is kept that decides about a place with a trigger: the definition around it, those on a
way to it from attention code, what they inherit from, and all code at module level.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from .chunks import Chunk, Chunks
from .graph import Graph
from .masking import mask
from .names import NameTable
from .relevance import BACKWARD, HOOKS, Relevance
from .rules import RuleSet
from .triggers import Triggers, find_words, triggers

_CONTINUED = re.compile(r"\\\r?\n(?=\S)")
# Members that a string names, which `mask` blanks.
_SPELT = re.compile(r",\s*[\"'](?:detach_?|data)[\"']\s*\)")


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
    return [(offset, extra[name]) for offset, name in find_words(chunks.masked, tuple(sorted(extra)))]


def _needed(chunks: Chunks, found: Iterable[tuple[int, str]], wanted: Triggers) -> set[Chunk] | None:
    """The definitions to keep, None when no trigger can be a suspect."""
    graph = Graph(chunks)
    relevance = Relevance(graph, wanted)
    said: dict[Chunk, list[tuple[int, str]]] = {}
    for offset, word in found:
        chunk = chunks.at(offset)
        if chunk is not None and not _is_import(chunk) and relevance.counts(chunk, offset, word):
            said.setdefault(chunk, []).append((offset, word))
    needed, roots = set(said), set[Chunk]()
    ways: list[Chunk] = []
    for chunk, places in said.items():
        words = {word for _, word in places}
        if wanted.always.issuperset(words):
            continue
        ways.append(chunk)
        if not BACKWARD.isdisjoint(words) or any(word.startswith(HOOKS) for word in words):
            roots.add(chunk)
        for offset, word in places:
            if word in wanted.anywhere and word not in wanted.always:
                ways += graph.subjects(chunk, offset)
    ways += graph.below(roots)
    needed.update(ways, graph.on_ways(ways))
    needed |= graph.makers_of_weights(needed)
    return graph.with_families(needed) if needed else None


def _is_import(chunk: Chunk) -> bool:
    return not chunk.named and chunk.text.startswith(("import ", "from "))


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
