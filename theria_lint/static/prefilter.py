"""The cheapest question: can a file of these bytes hold a suspect at all?"""

from __future__ import annotations

from .rules import RuleSet


def may_hold_suspects(data: bytes, rules: RuleSet) -> bool:
    """Whether a file says "torch" (or the name of a package that the settings list) and a word of some rule."""
    if b"torch" not in data and not any(root.encode() in data for root in rules.extra_roots):
        return False
    return any(token.encode() in data for token in rules.tokens)
