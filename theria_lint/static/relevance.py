"""Whether a trigger can be a suspect where it stands, as far as the text around it tells."""

from __future__ import annotations

import re
from functools import cached_property

from . import words
from .chunks import Chunk
from .classes import CALL_ENTRIES, CONTEXT_ENTRY, FUNCTION_ENTRIES
from .flow import METADATA
from .graph import Graph
from .meanings import find_word
from .seeds import may_be_seed_by_itself
from .triggers import INNER_LOOPS, Triggers

# These look at what the code around a trigger calls, not only at what calls it; they stand in autograd functions.
BACKWARD = words.word_set("backward ctx save_for_backward saved_tensors_hooks once_differentiable")
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
_NO_TENSORS = words.word_set("self cls torch math np numpy float int len range list tuple None True False")


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
        return any(name not in _NO_TENSORS and not words.is_size(name) for name in named)

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
