"""Blank the code of a module that cannot hold a suspect, so that little has to be parsed.

The result has the lines of the source, and gives the same suspects as parsing the whole: everything is kept that
decides about a trigger, which is the definition around it, the definitions on a way to it from attention code, what
these inherit from, and all code at module level.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cached_property

from theria_lint.rules.loader import RuleSet
from theria_lint.static import attention_names
from theria_lint.static.class_lineage import UNNAMED_ENTRIES
from theria_lint.static.dataflow import METADATA
from theria_lint.static.gradient_calls import GRADIENT_NAMES
from theria_lint.static.prefilter.block_graph import BlockGraph, list_given_names
from theria_lint.static.prefilter.entry_points import may_method_be_entry_point
from theria_lint.static.prefilter.reached_code import INIT, ReachedCode
from theria_lint.static.prefilter.textual_names import NEAR, find_word, mask_source
from theria_lint.static.prefilter.top_level_blocks import CodePiece, ModuleBlocks, TopLevelBlock
from theria_lint.static.prefilter.triggers import INNER_LOOPS, Triggers, find_words, get_triggers
from theria_lint.static.scopes import NameTable

_CONTINUED = re.compile(r"\\\r?\n(?=\S)")
_RENAMED = tuple(f"{name} as " for name in sorted(GRADIENT_NAMES))
_RENAMED_GRADIENT = re.compile(rf"(?<!\w)(?:{'|'.join(sorted(GRADIENT_NAMES))}) as \w")
# Members that a string names, which `mask_source` blanks.
_SPELT = re.compile(r",\s*[\"'](?:detach_?|data)[\"']\s*\)")


def blank_irrelevant_code(source: str, rules: RuleSet) -> str | None:
    """The part of a source that can hold a suspect, None when there is none."""
    wanted = get_triggers(rules)
    masked = mask_source(source)
    if _is_unreadable_as_text(masked) or ("getattr" in source and _SPELT.search(source) is not None):
        return source
    found = list(wanted.find_triggers(masked))
    if not found:
        return None
    blocks = ModuleBlocks(masked)
    found += _find_aliased_uses(blocks, source, found, wanted)
    needed = _select_needed(blocks, found, wanted)
    return None if needed is None else _blank_unneeded(source, blocks, needed)


def _is_unreadable_as_text(masked: str) -> bool:
    """Whether indentation and names, or what calls what, cannot be read off a text as they stand.

    Form feeds before a statement, line ends of old Macs, identifiers that Python normalises, continued lines that
    begin in the first column, ops that are known by a string, other names for what takes gradients.
    """
    if any(name in masked for name in _RENAMED) and _RENAMED_GRADIENT.search(masked) is not None:
        return True
    if not masked.isascii() or "\f" in masked or "register_autograd" in masked or _CONTINUED.search(masked) is not None:
        return True
    return "\r" in masked and masked.count("\r") != masked.count("\r\n")


def _find_aliased_uses(
    blocks: ModuleBlocks, source: str, found: list[tuple[int, str]], wanted: Triggers
) -> list[tuple[int, str]]:
    """The uses of other names that the module gives to a trigger: ``from torch import no_grad as quiet``."""
    known = set(wanted.words)
    loose = {
        block
        for block in (blocks.find_block_at(offset) for offset, word in found if word in known)
        if block is not None
    }
    if all(block.named for block in loose):
        return []
    try:
        tree = ast.parse(_blank_unneeded(source, blocks, set()))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # the cut module will not parse either, and then the whole is looked at
    table = NameTable()
    for node in ast.walk(tree):
        table.bind_names(node)
    extra: dict[str, str] = {}
    for name, meanings in table.bound.items():
        for meaning in sorted(meanings):
            last = meaning.rpartition(".")[2]
            if last in known and name not in known:
                extra[name] = last
    return [(offset, extra[name]) for offset, name in find_words(blocks.masked, tuple(sorted(extra)))]


def _select_needed(
    blocks: ModuleBlocks, found: Iterable[tuple[int, str]], wanted: Triggers
) -> set[TopLevelBlock] | None:
    """The definitions to keep, None when no trigger can be a suspect."""
    graph = BlockGraph(blocks)
    relevance = TriggerFilter(graph, wanted)
    said: dict[TopLevelBlock, list[tuple[int, str]]] = {}
    running: list[CodePiece] = []
    for offset, word in found:
        block = blocks.find_block_at(offset)
        if block is None or _is_import_block(block) or not relevance.may_be_suspect(block, offset, word):
            continue
        pieces = relevance.find_running(block, offset, word)
        if pieces or relevance.counts_anywhere(block, offset, word):
            said.setdefault(block, []).append((offset, word))
            running += pieces
    needed, roots = set(said), set[TopLevelBlock]()
    ways: list[TopLevelBlock] = []
    given: set[str] = set()
    for block, places in said.items():
        words = {word for _, word in places}
        if wanted.always.issuperset(words):
            continue
        if not wanted.anywhere.isdisjoint(words):
            ways.append(block)
        if not BACKWARD.isdisjoint(words) or any(word.startswith(HOOKS) for word in words):
            roots.add(block)
        for offset, word in places:
            if word in wanted.anywhere and word not in wanted.always:
                given.update(list_given_names(block, offset))
    ways += graph.find_definitions(given)
    ways += graph.collect_callees(roots)
    needed.update(ways, graph.collect_all_ways(ways))
    if running:
        needed |= relevance.reached.collect_ways(running)
    needed |= graph.find_weight_makers(needed)
    return graph.add_base_classes(needed) if needed else None


def _is_import_block(block: TopLevelBlock) -> bool:
    return not block.named and block.text.startswith(("import ", "from "))


def _blank_unneeded(source: str, blocks: ModuleBlocks, needed: set[TopLevelBlock]) -> str:
    """The source with the definitions that are not needed blanked, and with the bodies of kernels."""
    parts: list[str] = []
    position = 0
    for block in blocks.all:
        if not block.named or (block in needed and block.body is None):
            continue
        parts.append(source[position : block.begin])
        begin = block.begin
        if block in needed and block.body is not None:
            begin = block.body
            parts += (source[block.begin : begin], " pass")
        parts.append("\n" * source.count("\n", begin, block.end))
        position = block.end
    parts.append(source[position:])
    return "".join(parts)


# These look at what the code around a trigger calls, not only at what calls it; they stand in autograd functions.
BACKWARD = attention_names.make_word_set("backward ctx save_for_backward saved_tensors_hooks once_differentiable")
_FUNCTION = ("def backward", "save_for_backward", "Function", "saved_tensors")
# This one counts on any attention function.
_DECORATOR = "once_differentiable"
HOOKS = ("register_", "saved_tensors_hooks")
# Words that only count beside another.
_BESIDE = {"requires_grad_": ("detach", "False")}
_FUNCTION_NAME = re.compile(r"def[ \t]+(\w+)")
_WORD = re.compile(r"\w+")
# Up to so many methods a search of the text for each is quicker than a look at every word.
_FEW_METHODS = 32
_DEFINES = re.compile(r"def[ \t]+$")
# The first argument of a call, as long as it holds no call of a call.
_ARGUMENT = re.compile(r"\w+\(((?:[^(),\[\]{}]|\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\])*)[,)]")
_NAME = re.compile(r"(?<![\w.])([^\W\d]\w*)(?:[ \t]*\.[ \t]*(\w+))?")
# Names of no tensor, whatever a function calls its parameters.
_NO_TENSORS = attention_names.make_word_set(
    "self cls torch math np numpy float int len range list tuple None True False"
)


class TriggerFilter:
    """Which of a module's triggers count."""

    def __init__(self, graph: BlockGraph, wanted: Triggers) -> None:
        self._graph = graph
        self._blocks = graph.blocks
        self.reached = ReachedCode(graph)
        self._wanted = wanted
        self._running: dict[CodePiece, bool] = {}
        self._said: dict[tuple[TopLevelBlock, tuple[str, ...]], bool] = {}

    def may_be_suspect(self, block: TopLevelBlock, offset: int, word: str) -> bool:
        """Whether the trigger ``word`` at a place of a block can be a suspect, whatever runs it."""
        if word in BACKWARD and word != _DECORATOR and not self._says(block, _FUNCTION):
            return False
        if word in self._wanted.converters and not self._may_convert_tensor(offset):
            return False
        return word not in _BESIDE or self._says(block, _BESIDE[word])

    def find_running(self, block: TopLevelBlock, offset: int, word: str) -> list[CodePiece]:
        """The pieces that attention code may run and that make a trigger count."""
        if word in self._wanted.always or not self._may_run_method(offset, word):
            return []
        return self.reached.find_running(block, offset)

    def counts_anywhere(self, block: TopLevelBlock, offset: int, word: str) -> bool:
        """Whether a trigger counts outside attention code."""
        if word in self._wanted.always:
            return True
        if word in self._wanted.inner:
            return any(_is_inner_loop(name) for name in _FUNCTION_NAME.findall(block.text))
        return word in self._wanted.anywhere and self._may_take_attention(block, offset)

    def _says(self, block: TopLevelBlock, words: tuple[str, ...]) -> bool:
        """Whether a block says one of some words; asked for every trigger in it."""
        if (block, words) not in self._said:
            self._said[block, words] = any(word in block.text for word in words)
        return self._said[block, words]

    def _may_take_attention(self, block: TopLevelBlock, offset: int) -> bool:
        """Whether the call at a place may be given attention code: a `partial` of it anywhere."""
        start = offset - block.begin
        return "partial" in block.text[max(0, start - NEAR) : start] or self._graph.may_take_attention(block, offset)

    def _may_convert_tensor(self, offset: int) -> bool:
        """Whether the first argument of the call at a place can be computed from a tensor, and be no size."""
        argument = _ARGUMENT.match(self._blocks.masked, offset)
        if argument is None:
            return True
        found = ((name, member) for name, member in _NAME.findall(argument[1]) if member not in METADATA)
        named = (member if name == "self" and member else name for name, member in found)
        return any(name not in _NO_TENSORS and not attention_names.is_size_name(name) for name in named)

    def _may_run_method(self, offset: int, word: str) -> bool:
        """Whether the method around a place can be attention code: it is an entry, or named, or looks like it."""
        piece = self._blocks.find_piece_at(offset)
        if piece is None or piece.method is None or piece.method in UNNAMED_ENTRIES:
            return True
        if len(piece.names) > 1 and self._graph.may_run_attention(piece.block):
            return True  # what is defined in a method is a function of its own, and may run what the instance holds
        if piece.method == INIT:
            return word.startswith(HOOKS) or word in self._wanted.construction or self._runs_inits
        if piece not in self._running:
            named = self._is_named_elsewhere(piece, piece.method)
            self._running[piece] = named or may_method_be_entry_point(piece.text)
        return self._running[piece]

    def _is_named_elsewhere(self, piece: CodePiece, method: str) -> bool:
        """Whether the module says the name of a method, other than to define it and in the method itself."""
        if len(self._running) < _FEW_METHODS:
            places: Iterator[int] = filter(self._is_mention, find_word(self._blocks.masked, method))
        else:
            places = iter(self._mentions.get(method, ()))
        return any(self._blocks.find_piece_at(place) is not piece for place in places)

    def _is_mention(self, place: int) -> bool:
        """Whether the word at a place is not what a definition there defines."""
        return not _DEFINES.search(self._blocks.masked, max(0, place - 20), place)

    @cached_property
    def _mentions(self) -> dict[str, list[int]]:
        """Where the module says each word, but to define it: a search of the text for every method would not end."""
        table: dict[str, list[int]] = {}
        for match in _WORD.finditer(self._blocks.masked):
            if self._is_mention(match.start()):
                table.setdefault(match[0], []).append(match.start())
        return table

    @cached_property
    def _runs_inits(self) -> bool:
        """Whether anything but another ``__init__`` may run one, or one may itself be attention code."""
        return any(map(self._may_run_init, find_word(self._blocks.masked, INIT)))

    def _may_run_init(self, place: int) -> bool:
        piece = self._blocks.find_piece_at(place)
        return piece is None or piece.method != INIT or may_method_be_entry_point(piece.text)


def _is_inner_loop(name: str) -> bool:
    """Whether a function of this name may differentiate through its own gradients."""
    lower = name.lower().encode()
    return any(stem in lower for stem in INNER_LOOPS)
