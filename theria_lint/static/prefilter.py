"""The cheapest questions: can a file of these bytes, or of this text, hold a suspect at all?"""

from __future__ import annotations

import re

from .rules import RuleSet
from .triggers import triggers

_ATTENTION = (b"ttention", b"attn", b"Attn", b"oftmax", b"SOFTMAX", b"sdpa", b"SDPA", b"qkv", b"QKV", b"quer", b"Quer")
_MORE = (b"QUER", b"ttend", b"mha", b"MHA", b"Mha", b"mqa", b"MQA", b"gqa", b"GQA", b"mla", b"MLA", b"base", b"ATT")
_Q = re.compile(rb"q(?:(?<![A-Za-z0-9]q)|(?<=[xX]q))|Q(?:(?<![A-Za-z0-9]Q)|(?<=[xX]Q))")


def may_hold_suspects(data: bytes, rules: RuleSet) -> bool:
    """Whether a file names torch (or a package that the settings list), a trigger, and something of attention."""
    wanted = triggers(rules)
    if not any(root in data for root in wanted.roots):
        return False
    if not any(token in data for token in wanted.tokens):
        return False
    if any(word in data for word in wanted.anywhere_bytes):
        return True
    return any(word in data for word in (*_ATTENTION, *_MORE)) or _Q.search(data) is not None


def mentions_torch(source: str, rules: RuleSet) -> bool:
    """Whether a text speaks of tensors of torch, or names a package whose functions the settings list."""
    return any(root.decode() in source for root in triggers(rules).roots)
