"""The prefilter: decide from text alone what has to be parsed. It may keep too much, never too little.

It answers in two steps, and these are all that the rest of the static stage knows of it. `may_hold_suspects` discards
whole files by their bytes (`byte_check`). `reduce_source` blanks the parts of a module that cannot hold a suspect
(`reduction`): it splits the masked text into `top_level_blocks`, finds `triggers` (whose names `textual_names`
resolves), and keeps every block on a way (`block_graph`) from a possible attention function (`entry_points`) to a
trigger, followed method by method (`reached_code`). A property test compares the result with parsing the whole file.
No detector imports this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from theria_lint.rules.loader import RuleSet


def may_hold_suspects(data: bytes, rules: RuleSet) -> bool:
    """Whether the bytes of a file leave it possible that it holds a suspect."""
    from theria_lint.static.prefilter.byte_check import check_bytes  # most files ask for no more than this

    return check_bytes(data, rules)


def reduce_source(source: str, rules: RuleSet) -> str | None:
    """Return a source with all blanked that can hold no suspect, None where nothing is left."""
    from theria_lint.static.prefilter.reduction import blank_irrelevant_code

    return blank_irrelevant_code(source, rules)
