"""The cheapest questions: can a file of these bytes, or of this text, hold a suspect at all?"""

from __future__ import annotations

import re
import unicodedata

from . import words
from .rules import RuleSet
from .triggers import INNER_LOOPS, Triggers, triggers

_CLASS = re.compile(rb"class[ \t]+(\w+)")
_FUNCTION = re.compile(rb"def[ \t]+(\w+)")
# An identifier that can name a query, whatever follows the first letters: `q`, `q_states`, `query_layer`, `xq`.
_QUERY = re.compile(rb"[qQ](?:s|ry|RY|uer(?:y|ies)|UER(?:Y|IES))?(?:_\w*|[0-9]*)(?![A-Za-z])")
_PACKED = (b"qkv", b"QKV", b"Qkv")
_SOFTMAX = (b"softmax", b"Softmax", b"SOFTMAX")
# A part of every word for attention, and names that words like "at" do not hold.
_ATTENTION = (b"ttention", b"TTENTION", b"ttn", b"TTN", b"ttend", b"TTEND", b"sdpa", b"SDPA", b"Sdpa")
_ACRONYMS = (b"mha", b"MHA", b"Mha", b"mqa", b"MQA", b"Mqa", b"gqa", b"GQA", b"Gqa", b"mla", b"MLA", b"Mla")


def may_hold_suspects(data: bytes, rules: RuleSet) -> bool:
    """Whether a file speaks of torch (or a package that the settings list), holds a trigger, and may hold attention."""
    wanted = triggers(rules)
    if not any(root in data for root in wanted.roots):
        return False
    if not any(token in data for token in wanted.tokens):
        return False
    if any(word in data for word in wanted.always_bytes):
        return True
    return _may_hold_attention(data) or _may_use_attention(data, wanted) or _is_normalised_by_python(data)


def _is_normalised_by_python(data: bytes) -> bool:
    """Whether identifiers may be spelt in other characters than those that Python reads: ``ｑ`` is ``q``."""
    return not data.isascii() and not unicodedata.is_normalized("NFKC", data.decode("utf-8", "replace"))


def _may_hold_attention(data: bytes) -> bool:
    """Whether a function or class of the file may be attention code."""
    if any(word in data for word in (*_SOFTMAX, *_PACKED)):
        return True
    if any(_is_whole(data, match.start()) for match in _QUERY.finditer(data)):
        return True
    names = b" ".join((*_CLASS.findall(data), *_FUNCTION.findall(data)))
    if not any(word in names for word in (*_ATTENTION, *_ACRONYMS)):
        return False
    return any(map(words.names_attention, names.decode().split()))


def _is_whole(data: bytes, start: int) -> bool:
    """Whether the identifier at a place begins there, or behind one ``x`` or underscores."""
    before = data[start - 1 : start]
    return before in b"xX_" or not before.isalnum()


def _may_use_attention(data: bytes, wanted: Triggers) -> bool:
    """Whether a file compiles or checkpoints attention of other files, or has an inner loop."""
    if not any(word in data for word in wanted.loose_bytes):
        return False
    return any(word in data for word in (*_ATTENTION, *_ACRONYMS, *INNER_LOOPS))


def mentions_torch(source: str, rules: RuleSet) -> bool:
    """Whether a text speaks of tensors of torch, or names a package whose functions the settings list."""
    return any(root.decode() in source for root in triggers(rules).roots)
