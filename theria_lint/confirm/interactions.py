"""Interacting suspects: minimal harmful subsets (delta debugging), and pairs that cancel."""

from __future__ import annotations

from itertools import combinations, islice

from theria_lint.confirm.evidence import (
    MAX_SETS_PER_SIZE,
    Ablation,
    AttributionPlan,
    Evidence,
    SuspectRuling,
    SuspectRulings,
    encode_changes,
    encode_suspects,
    get_reason,
    list_worsened_blocks,
    rule,
)
from theria_lint.model import Disposition, Suspect
from theria_lint.reasons import ReasonCode


def find_minimal_harmful_subsets(
    evidence: Evidence, base: Ablation, rulings: SuspectRulings
) -> AttributionPlan[SuspectRulings]:
    """Suspects that do harm only beside others: a target that is unsafe without all that do it alone has some."""
    found: SuspectRulings = {}
    guilty = frozenset(s for s in base if rulings[s].disposition is Disposition.CONFIRMED)
    while True:
        yield [guilty]
        if not evidence.get_verdict(guilty).unsafe:
            return found
        accomplices = yield from _minimise_harmful_subset(evidence, base, base - guilty)
        found |= {s: _rule_interacting(evidence, base, s, accomplices) for s in accomplices}
        guilty |= accomplices


def _minimise_harmful_subset(evidence: Evidence, base: Ablation, left: Ablation) -> AttributionPlan[Ablation]:
    """Of suspects that make the target unsafe when they are left in, as few as still do."""
    for suspect in [s for s in evidence.suspects if s in left]:
        fewer = left - {suspect}
        yield [base - fewer]
        if evidence.get_verdict(base - fewer).unsafe:
            left = fewer
    return left


def _rule_interacting(evidence: Evidence, base: Ablation, suspect: Suspect, accomplices: Ablation) -> SuspectRuling:
    symbol, outcome = evidence.name, evidence[base - accomplices]
    others = [s for s in evidence.suspects if s in accomplices and s is not suspect]
    before, after = evidence.get_verdict(base - accomplices), evidence.get_verdict(base)
    return rule(
        Disposition.CONFIRMED,
        ReasonCode.UNSAFE_TOGETHER,
        target=symbol,
        others=encode_suspects(others),
        verdict=str(before),
        reason=get_reason(outcome),
        verdict_without=str(after),
        changes=encode_changes(list_worsened_blocks(outcome, evidence[base])),
    )


def find_cancelling_pairs(
    evidence: Evidence, base: Ablation, rulings: SuspectRulings
) -> AttributionPlan[SuspectRulings]:
    """Pairs that do no harm as they stand, though one without the other does, as a row max detached in two places."""
    guilty = frozenset(s for s in base if rulings[s].disposition is Disposition.CONFIRMED)
    alone = [s for s in evidence.suspects if s in guilty and evidence.get_verdict(base - {s}).unsafe]
    pairs = list(islice(combinations(alone, 2), MAX_SETS_PER_SIZE)) if len(guilty) > 2 else []
    yield [guilty.difference(pair) for pair in pairs]
    found: SuspectRulings = {}
    for one, other in pairs:
        rest = guilty - {one, other}
        if evidence.is_safe(rest) and found.keys().isdisjoint({one, other}):
            found |= {one: _rule_cancelled(evidence, rest, other), other: _rule_cancelled(evidence, rest, one)}
    return found


def _rule_cancelled(evidence: Evidence, rest: Ablation, other: Suspect) -> SuspectRuling:
    return rule(
        Disposition.CLEARED,
        ReasonCode.CANCELLED,
        target=evidence.name,
        others=encode_suspects([other]),
        removed=encode_suspects(s for s in evidence.suspects if s in rest),
        reason=get_reason(evidence[rest]),
    )
