"""Which suspects are to blame: dispositions from what the counterfactual variants of a target measure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations, islice

from theria.verdicts import Verdict
from theria_lint.confirm.evidence import (
    FEW,
    Attribution,
    Evidence,
    Inquiry,
    Neutralised,
    Ruling,
    Rulings,
    changes,
    cuts_forward,
    is_exercised,
    listed,
    named,
    stand_in,
    why,
)
from theria_lint.confirm.interactions import cancelling, together
from theria_lint.confirm.protocol import MATH_PATH, Outcome
from theria_lint.model import Disposition, Suspect

COMPANIONS = 3
"""Beside how many others a suspect is tried that does not run as the only one left."""

BY_HAND = "replace it by hand with code that autograd records, and lint again"
"""What to do where no variant tells whether a suspect is to blame."""


def inquire(evidence: Evidence) -> Inquiry[Attribution]:
    """Rules on every suspect of a target, of which the baseline is known."""
    symbol, verdict = evidence.baseline.symbol, evidence.verdict(frozenset())
    everyone = [*evidence.suspects, *evidence.fixed]
    if verdict is Verdict.INCONCLUSIVE:
        reason = advised(f"{symbol} is inconclusive: {why(evidence.baseline)}")
        return Attribution({s: Ruling(Disposition.UNCONFIRMED, reason) for s in everyone})
    if verdict is Verdict.SAFE:
        return Attribution({s: _safe_with(evidence.baseline, s, "") for s in everyone})
    base = yield from _base(evidence)
    rulings = {s: _not_told(evidence) for s in everyone} if base is None else (yield from _ruled(evidence, base))
    if base is not None and evidence.is_safe(base):
        return Attribution(rulings, (yield from _mended(evidence, base, rulings)))
    return Attribution(rulings | (yield from _by_stand_ins(evidence, base or frozenset(), rulings)))


def _ruled(evidence: Evidence, base: Neutralised) -> Inquiry[Rulings]:
    """A ruling on every suspect, by comparison with a variant."""
    rulings = yield from _one_by_one(evidence, base)
    if evidence.is_safe(base):
        rulings |= yield from together(evidence, base, rulings)
        rulings |= yield from cancelling(evidence, base, rulings)
    rulings |= {s: _left_in(evidence, base, s) for s in evidence.suspects if s not in base}
    rulings |= {s: _fixed(evidence, base, s) for s in evidence.fixed}
    return rulings


def _by_stand_ins(evidence: Evidence, base: Neutralised, rulings: Rulings) -> Inquiry[Rulings]:
    """Other rulings where the target is unsafe without all that a rewrite can neutralise.

    Where it is safe with stand-ins for the rest, these tell the rest apart, and what the rest was hiding.
    """
    cleared = [s for s in base if rulings[s].disposition is Disposition.CLEARED and not _is_seen(evidence, base, s)]
    open_ = [s for s, ruling in rulings.items() if ruling.disposition is Disposition.UNCONFIRMED]
    found: Rulings = {}
    whole = frozenset([*evidence.suspects, *evidence.replaceable])
    if evidence.replaceable and (cleared or open_ or len(evidence.fixed) > 1):
        yield [whole]
        if evidence.is_safe(whole):
            known = yield from _ruled(evidence.with_stand_ins(), whole)
            found = {s: _by_stand_in(s, known[s]) for s in evidence.fixed}
            found |= {s: known[s] for s in evidence.suspects if _is_told(evidence, whole, s, rulings[s], known[s])}
    return found | {s: _hidden(evidence, base, s) for s in cleared if s not in found}


def _is_seen(evidence: Evidence, base: Neutralised, suspect: Suspect) -> bool:
    """Whether the damage of a suspect would show, though the target is unsafe without it too.

    What cuts the graph that a forward records, and leaves the gradients right, has cut nothing that matters. What acts
    in a backward may do harm to second derivatives that are lost anyway.
    """
    alone = base - {suspect}
    if not evidence.verdict(alone).unsafe:
        return True
    recorded = cuts_forward(suspect) and suspect in evidence.executed(alone) and suspect not in evidence.aside(alone)
    return recorded and evidence.has_right_gradients(base) and evidence.has_right_gradients(alone)


def _is_told(evidence: Evidence, whole: Neutralised, suspect: Suspect, before: Ruling, now: Ruling) -> bool:
    """Whether what is said of a suspect beside stand-ins is worth more than what was said before.

    A stand-in for a backward hides what is in that backward.
    """
    if before.disposition is Disposition.CONFIRMED:
        return False
    return now.disposition is Disposition.CONFIRMED or suspect in evidence.executed(whole - {suspect})


def _by_stand_in(suspect: Suspect, ruling: Ruling) -> Ruling:
    """The ruling on a suspect, with what stood in its place."""
    if ruling.disposition is not Disposition.CONFIRMED:
        return ruling
    return replace(ruling, reason=f"{ruling.reason}; without it means {stand_in(suspect)}")


def _hidden(evidence: Evidence, base: Neutralised, suspect: Suspect) -> Ruling:
    """A suspect that changes nothing where there is nothing left to change."""
    symbol, verdict = evidence.baseline.symbol, evidence.verdict(base)
    by = named(evidence.fixed) or "what is no suspect"
    reason = f"{symbol} is {verdict} with and without it, and {by} may hide what it does: mend that, and lint again"
    return Ruling(Disposition.UNCONFIRMED, reason)


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


def _one_by_one(evidence: Evidence, base: Neutralised) -> Inquiry[Rulings]:
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
        return _safe_with(outcome, suspect, " as the only suspect left")
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


def _safe_with(outcome: Outcome, suspect: Suspect, how: str) -> Ruling:
    """Cleared, unless what the suspect stands for did not happen."""
    if not is_exercised(suspect, outcome):
        reason = f"{outcome.symbol} is safe with it{how}, but {MATH_PATH}: lint where there is one, with --device cuda"
        return Ruling(Disposition.UNCONFIRMED, reason)
    return Ruling(Disposition.CLEARED, f"{outcome.symbol} is safe with it{how}: {why(outcome)}")


def _beside(evidence: Evidence, base: Neutralised, suspect: Suspect, others: Iterable[Suspect]) -> Ruling:
    """A suspect without which no other can be left out: what it changes beside others is all that can be known."""
    symbol = evidence.baseline.symbol
    for other in others:
        pair, lone = base - {suspect, other}, base - {other}
        found = changes(evidence[pair], evidence[lone])
        numbers = f" (errors: {listed(found)})" if found else ""
        if evidence.verdict(pair).unsafe and (evidence.is_safe(lone) or found):
            reason = (
                f"beside {named([other])} it makes {symbol} {evidence.verdict(pair)}: {why(evidence[pair])}; "
                f"without it {evidence.verdict(lone)}{numbers}"
            )
            return Ruling(Disposition.CONFIRMED, reason)
        if evidence.is_safe(pair):
            return Ruling(Disposition.CLEARED, f"{symbol} is safe with it beside {named([other])}")
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


def _left_in(evidence: Evidence, base: Neutralised, suspect: Suspect) -> Ruling:
    """A suspect that the variant to compare with holds, because without it the code does not run."""
    if not evidence.is_safe(base):
        return _not_told(evidence)
    if evidence.is_safe(frozenset({suspect})):
        return _sufficient(evidence, suspect)
    symbol, others = evidence.baseline.symbol, [s for s in evidence.suspects if s in base]
    return Ruling(Disposition.CLEARED, f"{symbol} is safe with it once {named(others)} is out: {why(evidence[base])}")


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
    apart = f"; no rewrite tells it apart from {named(peers)}" if peers else ""
    return Ruling(Disposition.CONFIRMED, f"{symbol} is {clean}{others}: {why(evidence[base])}{apart}")


def _mended(evidence: Evidence, base: Neutralised, rulings: Rulings) -> Inquiry[Neutralised]:
    """The confirmed suspects, or as many of them as are known to be enough, if the target is safe without them."""
    confirmed = frozenset(s for s, ruling in rulings.items() if ruling.disposition is Disposition.CONFIRMED)
    if not confirmed or not confirmed.isdisjoint(evidence.fixed):
        return frozenset()
    yield [confirmed]
    return next((some for some in (confirmed, base) if some <= confirmed and evidence.is_safe(some)), frozenset())
