"""Suspects that do harm only beside others, and those that do none beside others though each alone does."""

from __future__ import annotations

from itertools import combinations, islice

from theria_lint.confirm.evidence import (
    FEW,
    Evidence,
    Inquiry,
    Neutralised,
    Ruling,
    Rulings,
    changes,
    listed,
    named,
    why,
)
from theria_lint.model import Disposition, Suspect


def together(evidence: Evidence, base: Neutralised, rulings: Rulings) -> Inquiry[Rulings]:
    """Suspects that do harm only beside others: a target that is unsafe without all that do it alone has some."""
    found: Rulings = {}
    guilty = frozenset(s for s in base if rulings[s].disposition is Disposition.CONFIRMED)
    while True:
        yield [guilty]
        if not evidence.verdict(guilty).unsafe:
            return found
        accomplices = yield from _least(evidence, base, base - guilty)
        found |= {s: _accomplice(evidence, base, s, accomplices) for s in accomplices}
        guilty |= accomplices


def _least(evidence: Evidence, base: Neutralised, left: Neutralised) -> Inquiry[Neutralised]:
    """Of suspects that make the target unsafe when they are left in, as few as still do."""
    for suspect in [s for s in evidence.suspects if s in left]:
        fewer = left - {suspect}
        yield [base - fewer]
        if evidence.verdict(base - fewer).unsafe:
            left = fewer
    return left


def _accomplice(evidence: Evidence, base: Neutralised, suspect: Suspect, accomplices: Neutralised) -> Ruling:
    symbol, outcome = evidence.baseline.symbol, evidence[base - accomplices]
    others = [s for s in evidence.suspects if s in accomplices and s is not suspect]
    reason = (
        f"together with {named(others)} it makes {symbol} {evidence.verdict(base - accomplices)}: {why(outcome)}; "
        f"without them {evidence.verdict(base)} (errors: {listed(changes(outcome, evidence[base]))})"
    )
    return Ruling(Disposition.CONFIRMED, reason)


def cancelling(evidence: Evidence, base: Neutralised, rulings: Rulings) -> Inquiry[Rulings]:
    """Pairs that do no harm as they stand, though one without the other does, as a row max detached in two places."""
    guilty = frozenset(s for s in base if rulings[s].disposition is Disposition.CONFIRMED)
    alone = [s for s in evidence.suspects if s in guilty and evidence.verdict(base - {s}).unsafe]
    pairs = list(islice(combinations(alone, 2), FEW)) if len(guilty) > 2 else []
    yield [guilty.difference(pair) for pair in pairs]
    found: Rulings = {}
    for one, other in pairs:
        rest = guilty - {one, other}
        if evidence.is_safe(rest) and found.keys().isdisjoint({one, other}):
            found |= {one: _cancelled(evidence, rest, other), other: _cancelled(evidence, rest, one)}
    return found


def _cancelled(evidence: Evidence, rest: Neutralised, other: Suspect) -> Ruling:
    symbol, out = evidence.baseline.symbol, named([s for s in evidence.suspects if s in rest])
    reason = f"{symbol} is safe with it and {named([other])} once {out} is out: {why(evidence[rest])}"
    return Ruling(Disposition.CLEARED, reason)
