"""Where a rule is explained further: the first of its references."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from theria_lint.rules.loader import load_rules


def find_rule_link(rule_id: str) -> str | None:
    """The address for a shipped rule; None for another."""
    return _list_links().get(rule_id)


@cache
def _list_links() -> Mapping[str, str]:
    return {rule.id: rule.references[0] for rule in load_rules().rules if rule.references}
