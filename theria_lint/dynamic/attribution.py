"""Which suspects are to blame: dispositions from what the counterfactual variants of a target measure.

An inquiry is a generator: it yields the variants that it has to know of next, and goes on once they have run. So the
inquiries of many targets go side by side, and a test needs no kernel to hold one against a table of verdicts.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations, islice
from typing import TypeVar

from theria.verdicts import Verdict
from theria_lint.dynamic.evidence import Evidence, Neutralised, changes, listed, why
from theria_lint.model import Disposition, Suspect

_Answer = TypeVar("_Answer")
Inquiry = Generator[list[Neutralised], None, _Answer]

FEW = 10
"""How many sets of suspects of one size are tried where the variant without any suspect does not run."""

COMPANIONS = 3
"""Beside how many others a suspect is tried that does not run as the only one left."""

BY_HAND = "replace it by hand with code that autograd records, and lint again"
"""What to do where no variant tells whether a suspect is to blame."""


@dataclass(frozen=True)
class Ruling:
    """The disposition of a suspect in one target, and one sentence of evidence."""

    disposition: Disposition
    reason: str


@dataclass(frozen=True)
class Attribution:
    """The rulings on a target's suspects; ``mended``: the confirmed ones, if the target was safe without them."""

    rulings: Mapping[Suspect, Ruling] = field(default_factory=dict)
    mended: Neutralised = frozenset()


def inquire(evidence: Evidence) -> Inquiry[Attribution]:
    """Rules on every suspect of a target, of which the baseline is known."""
    symbol, verdict = evidence.baseline.symbol, evidence.verdict(frozenset())
    everyone = [*evidence.suspects, *evidence.fixed]
    if verdict is Verdict.INCONCLUSIVE:
        reason = advised(f"{symbol} is inconclusive: {why(evidence.baseline)}")
        return Attribution({s: Ruling(Disposition.UNCONFIRMED, reason) for s in everyone})
    if verdict is Verdict.SAFE:
        reason = f"{symbol} is safe with it: {why(evidence.baseline)}"
        return Attribution({s: Ruling(Disposition.CLEARED, reason) for s in everyone})
    base = yield from _base(evidence)
    if base is None:
        return Attribution({s: _not_told(evidence) for s in everyone})
    rulings = yield from _one_by_one(evidence, base)
    if evidence.is_safe(base):
        rulings |= yield from _together(evidence, base, rulings)
        rulings |= yield from _cancelling(evidence, base, rulings)
    rulings |= {s: _left_in(evidence, base, s) for s in evidence.suspects if s not in base}
    rulings |= {s: _fixed(evidence, base, s) for s in evidence.fixed}
    return Attribution(rulings, (yield from _mended(evidence, base, rulings)))


def advised(reason: str) -> str:
    """The reason why a target has no verdict, and what to do unless it says so itself."""
    says = any(word in reason for word in ("install ", "--", "again", "configuration", "tool.theria-lint"))
    return reason if says else f"{reason}; mend that, or say how to call it in [[tool.theria-lint.targets]]"


def _base(evidence: Evidence) -> Inquiry[Neutralised | None]:
    """The variant that the others are compared with: every suspect neutralised, if that runs.

    Otherwise the smallest set of suspects without which the target is safe, or the largest without which it runs.
    So it is where that raises and the target as it is does not: then a rewrite broke it, as one does that takes
    ``enable_grad`` from a backward which needs it.
    """
    everything = frozenset(evidence.suspects)
    yield [everything]
    runs = evidence.verdict(everything) is not Verdict.INCONCLUSIVE
    if runs and not evidence.is_broken(everything):
        return everything
    tried: list[Neutralised] = []
    for size in sorted({1, 2, len(everything) - 1} & set(range(1, len(everything)))):
        sets = [frozenset(chosen) for chosen in islice(combinations(evidence.suspects, size), FEW)]
        yield sets
        tried += [some for some in sets if evidence.verdict(some) is not Verdict.INCONCLUSIVE]
        safe = [some for some in sets if evidence.is_safe(some)]
        if safe:
            return safe[0]
    return everything if runs else max(tried, key=len, default=None)


def _one_by_one(evidence: Evidence, base: Neutralised) -> Inquiry[dict[Suspect, Ruling]]:
    """Each suspect as the only one left in; where that does not run, beside others or as the only one left out."""
    members = [s for s in evidence.suspects if s in base]
    alone = {s: base - {s} for s in members}
    yield list(alone.values())
    runs = [s for s in members if evidence.verdict(alone[s]) is not Verdict.INCONCLUSIVE]
    runs.sort(key=lambda s: evidence.verdict(alone[s]).unsafe)
    doubtful = [s for s in members if s not in runs]
    others = runs[:COMPANIONS]
    yield [base - {s, other} for s in doubtful for other in others] + [frozenset({s}) for s in doubtful]
    return {s: _beside(evidence, base, s, others) if s in doubtful else _alone(evidence, base, s) for s in members}


def _alone(evidence: Evidence, base: Neutralised, suspect: Suspect) -> Ruling:
    """A suspect is confirmed if the target, with it as the only one left, is worse than with none."""
    symbol, outcome, clean = evidence.baseline.symbol, evidence[base - {suspect}], evidence[base]
    verdict, without = evidence.verdict(base - {suspect}), evidence.verdict(base)
    if not verdict.unsafe:
        return Ruling(Disposition.CLEARED, f"{symbol} is safe with it as the only suspect left: {why(outcome)}")
    if evidence.is_broken(base):
        return _not_told(evidence)
    found = changes(outcome, clean)
    numbers = f" (errors: {listed(found)})" if found else ""
    if not without.unsafe:
        reason = f"with it {symbol} is {verdict}: {why(outcome)}; without it {without}: {why(clean)}{numbers}"
        return Ruling(Disposition.CONFIRMED, reason)
    if verdict is not without:
        reason = (
            f"with it {symbol} is {verdict}: {why(outcome)}; without it still {without}: {why(clean)}{numbers}; "
            "the cause lies deeper"
        )
        return Ruling(Disposition.CONFIRMED, reason)
    if found:
        reason = f"{symbol} is {verdict} without it too, but worse with it (errors: {listed(found)} without it)"
        return Ruling(Disposition.CONFIRMED, reason)
    return Ruling(Disposition.CLEARED, f"{symbol} is {verdict} with and without it: it changes no block")


def _beside(evidence: Evidence, base: Neutralised, suspect: Suspect, others: Iterable[Suspect]) -> Ruling:
    """A suspect without which no other can be left out: what it changes beside others is all that can be known."""
    symbol = evidence.baseline.symbol
    for other in others:
        pair, lone = base - {suspect, other}, base - {other}
        found = changes(evidence[pair], evidence[lone])
        numbers = f" (errors: {listed(found)})" if found else ""
        if evidence.verdict(pair).unsafe and (evidence.is_safe(lone) or found):
            reason = (
                f"beside {_named([other])} it makes {symbol} {evidence.verdict(pair)}: {why(evidence[pair])}; "
                f"without it {evidence.verdict(lone)}{numbers}"
            )
            return Ruling(Disposition.CONFIRMED, reason)
        if evidence.is_safe(pair):
            return Ruling(Disposition.CLEARED, f"{symbol} is safe with it beside {_named([other])}")
    if evidence.is_safe(frozenset({suspect})):
        return _sufficient(evidence, suspect)
    reason = (
        f"the variant of {symbol} in which it is the only suspect left does not run ({why(evidence[base - {suspect}])})"
    )
    return Ruling(Disposition.UNCONFIRMED, f"{reason}: {BY_HAND}")


def _sufficient(evidence: Evidence, suspect: Suspect) -> Ruling:
    symbol, without = evidence.baseline.symbol, evidence[frozenset({suspect})]
    found = changes(evidence.baseline, without)
    numbers = f" (errors: {listed(found)})" if found else ""
    reason = f"to leave it out is enough to make {symbol} safe: {why(without)}{numbers}"
    return Ruling(Disposition.CONFIRMED, reason)


def _together(
    evidence: Evidence, base: Neutralised, rulings: Mapping[Suspect, Ruling]
) -> Inquiry[dict[Suspect, Ruling]]:
    """Suspects that do harm only beside others: a target that is unsafe without all that do it alone has some."""
    found: dict[Suspect, Ruling] = {}
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
        f"together with {_named(others)} it makes {symbol} {evidence.verdict(base - accomplices)}: {why(outcome)}; "
        f"without them {evidence.verdict(base)} (errors: {listed(changes(outcome, evidence[base]))})"
    )
    return Ruling(Disposition.CONFIRMED, reason)


def _cancelling(
    evidence: Evidence, base: Neutralised, rulings: Mapping[Suspect, Ruling]
) -> Inquiry[dict[Suspect, Ruling]]:
    """Pairs that do no harm as they stand, though one without the other does, as a row max detached in two places."""
    guilty = frozenset(s for s in base if rulings[s].disposition is Disposition.CONFIRMED)
    alone = [s for s in evidence.suspects if s in guilty and evidence.verdict(base - {s}).unsafe]
    pairs = list(islice(combinations(alone, 2), FEW)) if len(guilty) > 2 else []
    yield [guilty.difference(pair) for pair in pairs]
    found: dict[Suspect, Ruling] = {}
    for one, other in pairs:
        rest = guilty - {one, other}
        if evidence.is_safe(rest) and found.keys().isdisjoint({one, other}):
            found |= {one: _cancelled(evidence, rest, other), other: _cancelled(evidence, rest, one)}
    return found


def _cancelled(evidence: Evidence, rest: Neutralised, other: Suspect) -> Ruling:
    symbol, named = evidence.baseline.symbol, _named([s for s in evidence.suspects if s in rest])
    reason = f"{symbol} is safe with it and {_named([other])} once {named} is out: {why(evidence[rest])}"
    return Ruling(Disposition.CLEARED, reason)


def _left_in(evidence: Evidence, base: Neutralised, suspect: Suspect) -> Ruling:
    """A suspect that the variant to compare with holds, because without it the code does not run."""
    if not evidence.is_safe(base):
        return _not_told(evidence)
    if evidence.is_safe(frozenset({suspect})):
        return _sufficient(evidence, suspect)
    symbol, others = evidence.baseline.symbol, [s for s in evidence.suspects if s in base]
    return Ruling(Disposition.CLEARED, f"{symbol} is safe with it once {_named(others)} is out: {why(evidence[base])}")


def _not_told(evidence: Evidence) -> Ruling:
    """Nothing runs without a suspect, or nothing that is safe: an unsafe target alone is no evidence."""
    symbol, verdict = evidence.baseline.symbol, evidence.verdict(frozenset())
    failure = "fails otherwise" if evidence.is_broken(frozenset(evidence.suspects)) else "does not run"
    reason = (
        f"{symbol} is {verdict}, but without it the code {failure} ({why(evidence[frozenset(evidence.suspects)])}), "
        f"so nothing shows whether it is to blame: {BY_HAND}"
    )
    return Ruling(Disposition.UNCONFIRMED, reason)


def _fixed(evidence: Evidence, base: Neutralised, suspect: Suspect) -> Ruling:
    """No rewrite neutralises it: it is to blame for what is left once all others are neutralised."""
    symbol, clean = evidence.baseline.symbol, evidence.verdict(base)
    if not clean.unsafe:
        return Ruling(Disposition.CLEARED, f"{symbol} is safe once the other suspects are neutralised")
    if len(base) < len(evidence.suspects):
        return _not_told(evidence)
    others = " with every suspect neutralised that can be" if base else ""
    peers = [s for s in evidence.fixed if s is not suspect]
    apart = f"; no rewrite tells it apart from {_named(peers)}" if peers else ""
    return Ruling(Disposition.CONFIRMED, f"{symbol} is {clean}{others}: {why(evidence[base])}{apart}")


def _mended(evidence: Evidence, base: Neutralised, rulings: Mapping[Suspect, Ruling]) -> Inquiry[Neutralised]:
    """The confirmed suspects, or as many of them as are known to be enough, if the target is safe without them."""
    confirmed = frozenset(s for s, ruling in rulings.items() if ruling.disposition is Disposition.CONFIRMED)
    if not confirmed or not evidence.is_safe(base) or not confirmed.isdisjoint(evidence.fixed):
        return frozenset()
    yield [confirmed]
    return next((some for some in (confirmed, base) if some <= confirmed and evidence.is_safe(some)), frozenset())


def _named(suspects: Collection[Suspect]) -> str:
    return " and ".join(f"{s.rule} on line {s.span.line}" for s in suspects)
