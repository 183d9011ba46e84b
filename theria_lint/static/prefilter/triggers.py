"""Triggers: the words that a suspect needs near it, compiled from the rules into text patterns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from theria_lint.rules.loader import CONSTRUCTION, Rule, RuleSet
from theria_lint.sources.source_text import TENSOR_WORDS
from theria_lint.static.dataflow import NAMED_TYPE
from theria_lint.static.prefilter.textual_names import TextualNames, find_member

# In lower case, parts of the names that THL006 asks for: of functions that differentiate through their own gradients.
INNER_LOOPS = (b"inner", b"maml", b"adapt", b"nroll", b"etalearn")
_STEMS = ("grad", "scaled_dot_product", "flash_attn", "sageattn", "detach", "checkpoint", "backward", "register_")
# The most frequent words first, of which one is enough.
_FREQUENT = ("tensor", "data", "float")
# A call on a number, or on a list of numbers.
_CONSTANT = re.compile(r"\(\s*(?:-?\d[\w.]*|\[[-\s\d.,\[\]]*\])\s*[,)]")
# Members that only count in front of what may be a type of whole numbers.
_OF_A_TYPE = {"view": re.compile(rf"\w+\(\s*(?:dtype\s*=\s*)?{NAMED_TYPE}\s*\)")}
# These detectors look outside attention code too.
_ANYWHERE = frozenset({"inner-grad", "checkpoint", "compile", "fused"})


@dataclass(frozen=True, slots=True)
class Triggers:
    """What makes a piece of code worth parsing.

    ``members``: methods and attributes, behind a dot. ``words``: names that are imported or qualified. ``calls``:
    builtins, in front of a parenthesis. ``anywhere``: the words that may count outside attention code as well;
    ``always``: those that do. ``owners``: for a word that is only looked for as ``owner.word``, its owners.
    ``construction``: the words that count in constructors too. ``inner``: those of ``anywhere`` that count outside
    attention code in functions of certain names only.
    ``converters``: words that count in front of an argument that is not a number. ``always_bytes`` and ``loose`` are
    the words of ``always`` and the others of ``anywhere`` as bytes, the latter with what a file of theirs says.
    """

    members: tuple[str, ...]
    words: tuple[str, ...]
    calls: tuple[str, ...]
    anywhere: frozenset[str]
    always: frozenset[str]
    inner: frozenset[str]
    construction: frozenset[str]
    owners: Mapping[str, frozenset[str]]
    converters: frozenset[str]
    always_bytes: tuple[bytes, ...]
    loose: tuple[tuple[bytes, tuple[re.Pattern[bytes], ...]], ...]
    tokens: tuple[bytes, ...]
    roots: tuple[bytes, ...]

    def find_triggers(self, masked: str) -> Iterator[tuple[int, str]]:
        """Where a masked text holds a trigger, and which."""
        for member in _iter_present_words(masked, self.members):
            given = _OF_A_TYPE.get(member)
            for start in find_member(masked, member):
                if given is None or given.match(masked, start):
                    yield start, member
        meanings = TextualNames(masked)
        for word in _iter_present_words(masked, self.words):
            yield from self._find_trigger_word(masked, word, meanings)
        for word in self.calls:
            if word in masked:
                for match in _compile_call(word).finditer(masked):
                    yield match.start(), word

    def _find_trigger_word(self, masked: str, word: str, meanings: TextualNames) -> Iterator[tuple[int, str]]:
        """The places of a word; of one with owners, only those that can mean one of the names looked for."""
        owners = self.owners.get(word)
        converts = word in self.converters
        for match in _compile_word(word).finditer(masked):
            if converts and _CONSTANT.match(masked, match.end()):
                continue
            if owners is None or meanings.may_mean(match.start(), word, owners):
                yield match.start(), word


def find_words(masked: str, words: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Where a masked text says one of the words, and which."""
    for word in _iter_present_words(masked, words):
        yield from ((match.start(), word) for match in _compile_word(word).finditer(masked))


def _iter_present_words(text: str, words: tuple[str, ...]) -> Iterator[str]:
    """The words that a text holds; one without the part that some share is not searched for each of them."""
    for stem, found in _group_by_stem(words):
        if stem in text:
            yield from (word for word in found if word == stem or word in text)


@lru_cache(maxsize=64)
def _group_by_stem(words: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    groups: dict[str, list[str]] = {}
    for word in words:
        stem = next((stem for stem in _STEMS if stem in word), word)
        groups.setdefault(stem, []).append(word)
    return tuple((stem, tuple(found)) for stem, found in groups.items())


@lru_cache(maxsize=256)
def _compile_word(word: str) -> re.Pattern[str]:
    # The literal comes first: the engine then skips to it instead of trying every place.
    return re.compile(rf"{re.escape(word)}(?<!\w{re.escape(word)})(?!\w)")


@lru_cache(maxsize=64)
def _compile_call(word: str) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(word)}(?<![\w.]{re.escape(word)})[\s\\]*\(\s*[^\s)]")


@lru_cache(maxsize=16)
def get_triggers(rules: RuleSet) -> Triggers:
    """The triggers of a set of rules."""
    members: set[str] = set()
    words: set[str] = set()
    calls: set[str] = set()
    anywhere: set[str] = set()
    always: set[str] = set()
    inner: set[str] = set()
    construction: set[str] = set()
    owners: dict[str, set[str]] = {}
    for rule in rules.rules:
        words.update(_collect_plain_tokens(rule))
        for match in rule.matches:
            lasts = {name.rpartition(".")[2] for name in match.names}
            if match.kind in ("method", "attribute"):
                members |= lasts
                construction |= lasts if match.where == CONSTRUCTION else set()
                continue
            calls |= {name for name in match.names if "." not in name}
            words |= {name.rpartition(".")[2] for name in match.names if "." in name}
            for name in match.names:
                owner, _, last = name.rpartition(".")
                owners.setdefault(last, set()).add(owner.rpartition(".")[2])
            if match.where == "anywhere" or rule.detector in _ANYWHERE:
                anywhere |= lasts
            if match.where == "anywhere":
                always |= lasts
            if match.where == CONSTRUCTION or match.kind == "context":
                construction |= lasts
            if rule.detector == "inner-grad":
                inner |= lasts
    return Triggers(
        tuple(sorted(members)),
        tuple(sorted(words)),
        tuple(sorted(calls)),
        frozenset(anywhere),
        frozenset(always),
        frozenset(inner),
        frozenset(construction),
        {last: frozenset(found) for last, found in owners.items() if last not in _collect_unowned_words(rules)},
        _find_converters(rules),
        tuple(word.encode() for word in sorted(always)),
        tuple((word.encode(), _compile_spellings(word, owners.get(word, set()))) for word in sorted(anywhere - always)),
        tuple(token.encode() for token in sorted(rules.tokens, key=_sort_key_of_token)),
        (*TENSOR_WORDS, *(root.encode() for root in rules.extra_roots)),
    )


def _compile_spellings(word: str, owners: set[str]) -> tuple[re.Pattern[bytes], ...]:
    """What a file says, an owner each, that can mean ``owner.word``: this, an import of it, or an alias of the owner.

    Each begins with a literal, which the engine skips to.
    """
    blank, name = r"[\s\\]", re.escape(word)
    imported = rf"{blank}+import{blank}*(?:\([\s\S]{{0,4000}}?|(?:[^(\n]|\\\r?\n)*?)(?:{name}|\*)"
    found: list[re.Pattern[bytes]] = []
    for owner in map(re.escape, sorted(owners)):
        # What ends a line may be assigned there, unless it is the import that every file has.
        assigned = rf"[ \t]*(?:[\r\n;#]|$|if\b|or\b)(?<!import {owner}\n)"
        told = rf"{owner}(?:{blank}*\.{blank}*{name}|{blank}+as{blank}|{imported}|{assigned})"
        found.append(re.compile(told.encode()))
    return tuple(found)


def _find_converters(rules: RuleSet) -> frozenset[str]:
    """The functions that turn their argument into a value, and are looked for in no other way."""
    lasts: dict[bool, set[str]] = {True: set(), False: _collect_unowned_words(rules)}
    for rule in rules.rules:
        for match in rule.matches:
            converts = rule.detector == "graph-escape" and match.kind == "function"
            lasts[converts].update(name.rpartition(".")[2] for name in match.names)
    return frozenset(lasts[True] - lasts[False])


def _sort_key_of_token(token: str) -> tuple[bool, int]:
    return token not in _FREQUENT, len(token)


def _collect_unowned_words(rules: RuleSet) -> set[str]:
    """The words that some rule looks for on their own."""
    return {token for rule in rules.rules for token in _collect_plain_tokens(rule)}


def _collect_plain_tokens(rule: Rule) -> set[str]:
    """The tokens that a rule gives beside the names of its matches."""
    named = {name.rpartition(".")[2] for match in rule.matches for name in match.names}
    return set(rule.tokens) - named
