"""The prefilter: decide from text alone what has to be parsed. It may keep too much, never too little.

It answers in two steps, and these are all that the rest of the static stage knows of it.

`may_hold_suspects` discards whole files by their bytes (`byte_check`): most files end here.

`reduce_source` blanks the definitions of a module that cannot hold a suspect (`reduction`), in this order:

1. Strings and comments are masked; what is left is searched for `triggers`, the words that a suspect needs (whose
   meaning `textual_names` tells). Without any, nothing is left of the file.
2. Indentation splits the text into `top_level_blocks`, which can be blanked, and classes into pieces, which can be run.
3. `entry_points` tells of each block and piece whether it may be attention code by itself.
4. Names lead from there: `reached_code` follows them piece by piece, to tell which triggers may run; `block_graph`
   block by block, for what such a trigger needs around it, and where a module has too many pieces.
5. Kept are the blocks with triggers that count, those on the ways to them, and all code at module level.

Every test is of the kind "may": each has its exact counterpart in the analysis of the tree, of which it must be true
wherever that is. A property test compares the result with parsing the whole file.
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
