"""Cut a module down to the code that can hold a suspect, so that little has to be parsed.

The result has the same lines as the source: what is left out is blank. Parsing it gives the same suspects as parsing
the whole, because everything is kept that decides about a place with a trigger: the definition around it, those on a
way to it from attention code, what they inherit from, and all code at module level.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cached_property

from theria_lint.rules.loader import RuleSet
from theria_lint.static import attention_names
from theria_lint.static.class_lineage import CALL_ENTRIES, CONTEXT_ENTRY, FUNCTION_ENTRIES
from theria_lint.static.dataflow import METADATA
from theria_lint.static.prefilter.block_graph import Graph
from theria_lint.static.prefilter.entry_points import may_be_seed_by_itself
from theria_lint.static.prefilter.textual_names import find_word, mask
from theria_lint.static.prefilter.top_level_blocks import Chunk, Chunks
from theria_lint.static.prefilter.triggers import INNER_LOOPS, Triggers, find_words, triggers
from theria_lint.static.scopes import NameTable

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


# These look at what the code around a trigger calls, not only at what calls it; they stand in autograd functions.
BACKWARD = attention_names.word_set("backward ctx save_for_backward saved_tensors_hooks once_differentiable")
_FUNCTION = ("def backward", "save_for_backward", "Function", "saved_tensors")
HOOKS = ("register_", "saved_tensors_hooks")
# Words that only count beside another.
_BESIDE = {"requires_grad_": "detach"}
# Methods that run without being named.
_ENTRIES = frozenset({*CALL_ENTRIES, *FUNCTION_ENTRIES, CONTEXT_ENTRY})
_FUNCTION_NAME = re.compile(r"def[ \t]+(\w+)")
_DEFINES = re.compile(r"def[ \t]+$")
_INIT = "__init__"
_NEAR = 120
# The first argument of a call, as long as it holds no call of a call.
_ARGUMENT = re.compile(r"\w+\(((?:[^(),\[\]{}]|\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\])*)[,)]")
_NAME = re.compile(r"(?<![\w.])([^\W\d]\w*)(?:[ \t]*\.[ \t]*(\w+))?")
# Names of no tensor, whatever a function calls its parameters.
_NO_TENSORS = attention_names.word_set("self cls torch math np numpy float int len range list tuple None True False")


class Relevance:
    """Which of a module's triggers count."""

    def __init__(self, graph: Graph, wanted: Triggers) -> None:
        self._graph = graph
        self._chunks = graph.chunks
        self._wanted = wanted
        self._running: dict[tuple[str, str], bool] = {}

    def counts(self, chunk: Chunk, offset: int, word: str) -> bool:
        """Whether the trigger ``word`` at a place of a chunk can be a suspect."""
        if word in BACKWARD and not any(hint in chunk.text for hint in _FUNCTION):
            return False
        if word in self._wanted.converters and not self._may_convert_tensor(offset):
            return False
        if word in _BESIDE and _BESIDE[word] not in chunk.text:
            return False
        if word in self._wanted.always:
            return True
        if self._may_run(offset, word) and self._graph.has_way(chunk):
            return True
        if word in self._wanted.inner:
            return any(_is_inner_loop(name) for name in _FUNCTION_NAME.findall(chunk.text))
        return word in self._wanted.anywhere and self._may_take_attention(chunk, offset)

    def _may_take_attention(self, chunk: Chunk, offset: int) -> bool:
        """Whether the call at a place may be given attention code: a `partial` of it anywhere."""
        start = offset - chunk.begin
        return "partial" in chunk.text[max(0, start - _NEAR) : start] or self._graph.may_take_attention(chunk, offset)

    def _may_convert_tensor(self, offset: int) -> bool:
        """Whether the first argument of the call at a place can be computed from a tensor, and be no size."""
        argument = _ARGUMENT.match(self._chunks.masked, offset)
        if argument is None:
            return True
        named = (name for name, member in _NAME.findall(argument[1]) if member not in METADATA)
        return any(name not in _NO_TENSORS and not attention_names.is_size(name) for name in named)

    def _may_run(self, offset: int, word: str) -> bool:
        """Whether the method around a place can be attention code: it is an entry, or named, or looks like it."""
        method = self._chunks.method_at(offset)
        if method is None or method[0] in _ENTRIES:
            return True
        if method[0] == _INIT:
            return word.startswith(HOOKS) or self._runs_inits
        if method not in self._running:
            self._running[method] = self._is_named(method) or may_be_seed_by_itself(method[1])
        return self._running[method]

    def _is_named(self, method: tuple[str, str]) -> bool:
        """Whether the module says the name of a method, other than to define it and in the method itself."""
        masked = self._chunks.masked
        places = find_word(masked, method[0])
        return any(
            not _DEFINES.search(masked, max(0, place - 20), place) and self._chunks.method_at(place) != method
            for place in places
        )

    @cached_property
    def _runs_inits(self) -> bool:
        """Whether anything but another ``__init__`` may run one, or one may itself be attention code."""
        return any(map(self._may_run_init, find_word(self._chunks.masked, _INIT)))

    def _may_run_init(self, place: int) -> bool:
        method = self._chunks.method_at(place)
        return method is None or method[0] != _INIT or may_be_seed_by_itself(method[1])


def _is_inner_loop(name: str) -> bool:
    """Whether a function of this name may differentiate through its own gradients."""
    lower = name.lower().encode()
    return any(stem in lower for stem in INNER_LOOPS)
