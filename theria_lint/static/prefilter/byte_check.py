"""Decide from the bytes of a file whether it can hold a suspect at all."""

from __future__ import annotations

import re
import unicodedata

from theria_lint.rules.loader import RuleSet
from theria_lint.static import attention_names
from theria_lint.static.dataflow import NORMALISERS
from theria_lint.static.prefilter.triggers import INNER_LOOPS, Triggers, get_triggers

# A name that is assigned or passed, or a parameter.
_BOUND = re.compile(rb"(?<![.\w])_*(?:[xX]_*)?[kKvV]\w*(?=[ \t]*[,=:)])")
_WORD = re.compile(rb"\w+")
_ACRONYM = re.compile(rb"sdpa|mha|mqa|gqa|mla|attend")
_EXPONENTIAL = re.compile(rb"exp(?<!\wexp)[2_]?[\s\\]*\(")
# An identifier that can name a query, whatever follows the first letters: `q`, `q_states`, `query_layer`, `xq`.
_QUERY = re.compile(rb"[qQ](?:s|ry|RY|uer(?:y|ies)|UER(?:Y|IES))?(?:_\w*|[0-9]*)(?![A-Za-z])")
# In lower case, here and below: what computes attention says one of these, or is named after it.
_COMPUTING = (b"softmax", b"qkv")
# A part of every word for attention.
_ATTENTION = (b"attn", b"atten", b"sdpa", b"mha", b"mqa", b"gqa", b"mla")
_TRANSFORMER = re.compile(rb"ransformer(?!s\b)")
# What takes gradients, or normalises by hand.
_GRADIENTS = (b"autograd.grad", b"torch.func", b"autograd import", b"functorch", b"backward")
_MEMORY = re.compile(rb"(?:def|class)[ \t]+\w*?(?:[mM]emor|TTT|ttt|[tT]itans|[fF]ast)")
_KEYS, _VALUES = (re.compile(rf"(?<![.\w])_*x?_?(?:{names})".encode()) for names in ("[kK]", "[vV]"))
_NORMALISED = tuple(name.encode() for name in NORMALISERS)


def check_bytes(data: bytes, rules: RuleSet) -> bool:
    """Whether a file speaks of torch (or a package that the settings list), holds a trigger, and may hold attention."""
    wanted = get_triggers(rules)
    if not any(root in data for root in wanted.roots):
        return False
    if not any(token in data for token in wanted.tokens):
        return False
    lower = data.lower()
    if any(word in lower for word in _COMPUTING) or any(
        _is_identifier_start(data, match.start()) for match in _QUERY.finditer(data)
    ):
        return True
    named = any(word in lower for word in _ATTENTION)
    if (named and _names_attention(data, lower)) or _TRANSFORMER.search(data) is not None:
        return True
    if any(word in data for word in _NORMALISED) or _is_normalised_by_hand(data) or _may_write_memory(data):
        return True
    return _may_use_attention(data, lower, named, wanted) or _is_normalised_by_python(data)


def _may_write_memory(data: bytes) -> bool:
    """Whether a file may take gradients of something named after a memory, or of keys and values."""
    if not any(word in data for word in _GRADIENTS):
        return False
    if _MEMORY.search(data) is not None:
        return True
    return all(found.search(data) is not None for found in (_KEYS, _VALUES)) and _holds_roles(data)


def _holds_roles(data: bytes) -> bool:
    """Whether a file assigns or takes keys and values, by names that stand for themselves."""
    words = {word.decode() for word in _BOUND.findall(data)}
    return {"k", "v"} <= attention_names.collect_roles(words)


def _is_normalised_by_python(data: bytes) -> bool:
    """Whether identifiers may be spelt in other characters than those that Python reads: ``ｑ`` is ``q``."""
    return not data.isascii() and not unicodedata.is_normalized("NFKC", data.decode("utf-8", "replace"))


def _names_attention(data: bytes, lower: bytes) -> bool:
    """Whether any word of the file names attention."""
    if b"attn" in lower or b"attention" in lower:
        return True
    words = (_WORD.search(data, _find_word_start(data, match.start())) for match in _ACRONYM.finditer(lower))
    return any(attention_names.names_attention(word[0].decode("utf-8", "replace")) for word in words if word)


def _find_word_start(data: bytes, place: int) -> int:
    while place and (data[place - 1 : place].isalnum() or data[place - 1 : place] == b"_"):
        place -= 1
    return place


def _is_normalised_by_hand(data: bytes) -> bool:
    """Whether a file may divide an exponential by a sum of it."""
    return b"exp" in data and b"/" in data and _EXPONENTIAL.search(data) is not None


def _is_identifier_start(data: bytes, start: int) -> bool:
    """Whether the identifier at a place begins there, or behind one ``x`` or underscores."""
    before = data[start - 1 : start]
    return before in b"xX_" or not before.isalnum()


def _may_use_attention(data: bytes, lower: bytes, named: bool, wanted: Triggers) -> bool:
    """Whether a file calls, compiles or checkpoints attention of other files, or has an inner loop."""
    if any(word in data for word in wanted.always_bytes if named or not _says_attention(word)):
        return True
    if not named and not any(word in lower for word in INNER_LOOPS):
        return False
    return any(word in data and any(found.search(data) for found in spelt) for word, spelt in wanted.loose)


def _says_attention(word: bytes) -> bool:
    return b"attn" in word or b"atten" in word
