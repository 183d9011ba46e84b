"""Rule on the suspects of one target by comparing ablated variants of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations, islice

from theria.verdicts import Verdict
from theria_lint.confirm.evidence import (
    MAX_SETS_PER_SIZE,
    Ablation,
    Attribution,
    AttributionPlan,
    Evidence,
    SuspectRuling,
    SuspectRulings,
    cuts_forward,
    describe_substitute,
    format_changes,
    format_suspects,
    get_reason,
    is_exercised,
    list_worsened_blocks,
)
from theria_lint.confirm.interactions import find_cancelling_pairs, find_minimal_harmful_subsets
from theria_lint.confirm.protocol import MATH_PATH, Outcome
from theria_lint.model import Disposition, Suspect

MAX_COMPANIONS = 3
"""Beside how many others a suspect is tried that does not run as the only one left."""

REPLACE_BY_HAND = "replace it by hand with code that autograd records, and lint again"
"""What to do where no variant tells whether a suspect is to blame."""


def attribute_suspects(evidence: Evidence) -> AttributionPlan[Attribution]:
    """Rules on every suspect of a target, of which the baseline is known."""
    symbol, verdict = evidence.baseline.symbol, evidence.get_verdict(frozenset())
    everyone = [*evidence.suspects, *evidence.fixed]
    if verdict is Verdict.INCONCLUSIVE:
        reason = add_advice(f"{symbol} is inconclusive: {get_reason(evidence.baseline)}")
        return Attribution({s: SuspectRuling(Disposition.UNCONFIRMED, reason) for s in everyone})
    if verdict is Verdict.SAFE:
        return Attribution({s: _rule_safe(evidence.baseline, s, "") for s in everyone})
    base = yield from _find_clean_variant(evidence)
    rulings = (
        {s: _rule_undecidable(evidence) for s in everyone}
        if base is None
        else (yield from _rule_by_comparison(evidence, base))
    )
    if base is not None and evidence.is_safe(base):
        return Attribution(rulings, (yield from _find_mending_ablation(evidence, base, rulings)))
    return Attribution(rulings | (yield from _rule_with_substitutes(evidence, base or frozenset(), rulings)))


def _rule_by_comparison(evidence: Evidence, base: Ablation) -> AttributionPlan[SuspectRulings]:
    """A ruling on every suspect, by comparison with a variant."""
    rulings = yield from _test_one_by_one(evidence, base)
    if evidence.is_safe(base):
        rulings |= yield from find_minimal_harmful_subsets(evidence, base, rulings)
        rulings |= yield from find_cancelling_pairs(evidence, base, rulings)
    rulings |= {s: _rule_left_in(evidence, base, s) for s in evidence.suspects if s not in base}
    rulings |= {s: _rule_fixed(evidence, base, s) for s in evidence.fixed}
    return rulings


def _rule_with_substitutes(
    evidence: Evidence, base: Ablation, rulings: SuspectRulings
) -> AttributionPlan[SuspectRulings]:
    """Other rulings where the target is unsafe without all that a rewrite can neutralise.

    Where it is safe with stand-ins for the rest, these tell the rest apart, and what the rest was hiding.
    """
    cleared = [
        s for s in base if rulings[s].disposition is Disposition.CLEARED and not _is_damage_visible(evidence, base, s)
    ]
    open_ = [s for s, ruling in rulings.items() if ruling.disposition is Disposition.UNCONFIRMED]
    found: SuspectRulings = {}
    whole = frozenset([*evidence.suspects, *evidence.replaceable])
    if evidence.replaceable and (cleared or open_ or len(evidence.fixed) > 1):
        yield [whole]
        if evidence.is_safe(whole):
            known = yield from _rule_by_comparison(evidence.allow_substitutes(), whole)
            found = {s: _mention_substitute(s, known[s]) for s in evidence.fixed}
            found |= {
                s: known[s] for s in evidence.suspects if _is_better_ruling(evidence, whole, s, rulings[s], known[s])
            }
    return found | {s: _rule_hidden(evidence, base, s) for s in cleared if s not in found}


def _is_damage_visible(evidence: Evidence, base: Ablation, suspect: Suspect) -> bool:
    """Whether the damage of a suspect would show, though the target is unsafe without it too.

    What cuts the graph that a forward records, and leaves the gradients right, has cut nothing that matters. What acts
    in a backward may do harm to second derivatives that are lost anyway.
    """
    alone = base - {suspect}
    if not evidence.get_verdict(alone).unsafe:
        return True
    recorded = cuts_forward(suspect) and suspect in evidence.executed(alone) and suspect not in evidence.aside(alone)
    return recorded and evidence.has_right_gradients(base) and evidence.has_right_gradients(alone)


def _is_better_ruling(
    evidence: Evidence, whole: Ablation, suspect: Suspect, before: SuspectRuling, now: SuspectRuling
) -> bool:
    """Whether what is said of a suspect beside stand-ins is worth more than what was said before.

    A stand-in for a backward hides what is in that backward.
    """
    if before.disposition is Disposition.CONFIRMED:
        return False
    return now.disposition is Disposition.CONFIRMED or suspect in evidence.executed(whole - {suspect})


def _mention_substitute(suspect: Suspect, ruling: SuspectRuling) -> SuspectRuling:
    """The ruling on a suspect, with what stood in its place."""
    if ruling.disposition is not Disposition.CONFIRMED:
        return ruling
    return replace(ruling, reason=f"{ruling.reason}; without it means {describe_substitute(suspect)}")


def _rule_hidden(evidence: Evidence, base: Ablation, suspect: Suspect) -> SuspectRuling:
    """A suspect that changes nothing where there is nothing left to change."""
    symbol, verdict = evidence.baseline.symbol, evidence.get_verdict(base)
    by = format_suspects(evidence.fixed) or "what is no suspect"
    reason = f"{symbol} is {verdict} with and without it, and {by} may hide what it does: mend that, and lint again"
    return SuspectRuling(Disposition.UNCONFIRMED, reason)


def add_advice(reason: str) -> str:
    """The reason why a target has no verdict, and what to do unless it says so itself."""
    says = any(word in reason for word in ("install ", "--", "again", "configuration", "tool.theria-lint"))
    return reason if says else f"{reason}; mend that, or say how to call it in [[tool.theria-lint.targets]]"


def _find_clean_variant(evidence: Evidence) -> AttributionPlan[Ablation | None]:
    """The variant that the others are compared with: every suspect neutralised, if that runs.

    Otherwise the smallest set of suspects without which the target is safe, or the largest without which it runs.
    So it is where that raises and the target as it is does not: then a rewrite broke it, as one does that takes
    ``enable_grad`` from a backward which needs it.
    """
    everything = frozenset(evidence.suspects)
    yield [everything]
    runs = evidence.get_verdict(everything) is not Verdict.INCONCLUSIVE
    if runs and not evidence.is_broken(everything):
        return everything
    tried: list[Ablation] = []
    for size in sorted({1, 2, len(everything) - 1} & set(range(1, len(everything)))):
        sets = [frozenset(chosen) for chosen in islice(combinations(evidence.suspects, size), MAX_SETS_PER_SIZE)]
        yield sets
        tried += [some for some in sets if evidence.get_verdict(some) is not Verdict.INCONCLUSIVE]
        safe = [some for some in sets if evidence.is_safe(some)]
        if safe:
            return safe[0]
    return everything if runs else max(tried, key=len, default=None)


def _test_one_by_one(evidence: Evidence, base: Ablation) -> AttributionPlan[SuspectRulings]:
    """Each suspect as the only one left in; where that does not run, beside others or as the only one left out."""
    members = [s for s in evidence.suspects if s in base]
    alone = {s: base - {s} for s in members}
    yield list(alone.values())
    runs = [s for s in members if evidence.get_verdict(alone[s]) is not Verdict.INCONCLUSIVE]
    runs.sort(key=lambda s: evidence.get_verdict(alone[s]).unsafe)
    doubtful = [s for s in members if s not in runs]
    others = runs[:MAX_COMPANIONS]
    yield [base - {s, other} for s in doubtful for other in others] + [frozenset({s}) for s in doubtful]
    return {
        s: _rule_beside_others(evidence, base, s, others) if s in doubtful else _rule_alone(evidence, base, s)
        for s in members
    }


def _rule_alone(evidence: Evidence, base: Ablation, suspect: Suspect) -> SuspectRuling:
    """A suspect is confirmed if the target, with it as the only one left, is worse than with none."""
    symbol, outcome, clean = evidence.baseline.symbol, evidence[base - {suspect}], evidence[base]
    verdict, without = evidence.get_verdict(base - {suspect}), evidence.get_verdict(base)
    if not verdict.unsafe:
        return _rule_safe(outcome, suspect, " as the only suspect left")
    if evidence.is_broken(base):
        return _rule_undecidable(evidence)
    found = list_worsened_blocks(outcome, clean)
    numbers = f" (errors: {format_changes(found)})" if found else ""
    if not without.unsafe:
        reason = (
            f"with it {symbol} is {verdict}: {get_reason(outcome)}; without it {without}: {get_reason(clean)}{numbers}"
        )
        return SuspectRuling(Disposition.CONFIRMED, reason)
    if verdict is not without:
        reason = (
            f"with it {symbol} is {verdict}: {get_reason(outcome)}; "
            f"without it still {without}: {get_reason(clean)}{numbers}; the cause lies deeper"
        )
        return SuspectRuling(Disposition.CONFIRMED, reason)
    if found:
        reason = f"{symbol} is {verdict} without it too, but worse with it (errors: {format_changes(found)} without it)"
        return SuspectRuling(Disposition.CONFIRMED, reason)
    return SuspectRuling(Disposition.CLEARED, f"{symbol} is {verdict} with and without it: it changes no block")


def _rule_safe(outcome: Outcome, suspect: Suspect, how: str) -> SuspectRuling:
    """Cleared, unless what the suspect stands for did not happen."""
    if not is_exercised(suspect, outcome):
        reason = f"{outcome.symbol} is safe with it{how}, but {MATH_PATH}: lint where there is one, with --device cuda"
        return SuspectRuling(Disposition.UNCONFIRMED, reason)
    return SuspectRuling(Disposition.CLEARED, f"{outcome.symbol} is safe with it{how}: {get_reason(outcome)}")


def _rule_beside_others(
    evidence: Evidence, base: Ablation, suspect: Suspect, others: Iterable[Suspect]
) -> SuspectRuling:
    """A suspect without which no other can be left out: what it changes beside others is all that can be known."""
    symbol = evidence.baseline.symbol
    for other in others:
        pair, lone = base - {suspect, other}, base - {other}
        found = list_worsened_blocks(evidence[pair], evidence[lone])
        numbers = f" (errors: {format_changes(found)})" if found else ""
        if evidence.get_verdict(pair).unsafe and (evidence.is_safe(lone) or found):
            reason = (
                f"beside {format_suspects([other])} it makes {symbol} {evidence.get_verdict(pair)}: "
                f"{get_reason(evidence[pair])}; without it {evidence.get_verdict(lone)}{numbers}"
            )
            return SuspectRuling(Disposition.CONFIRMED, reason)
        if evidence.is_safe(pair):
            return SuspectRuling(Disposition.CLEARED, f"{symbol} is safe with it beside {format_suspects([other])}")
    if evidence.is_safe(frozenset({suspect})):
        return _rule_sufficient(evidence, suspect)
    why = get_reason(evidence[base - {suspect}])
    reason = f"the variant of {symbol} in which it is the only suspect left does not run ({why})"
    return SuspectRuling(Disposition.UNCONFIRMED, f"{reason}: {REPLACE_BY_HAND}")


def _rule_sufficient(evidence: Evidence, suspect: Suspect) -> SuspectRuling:
    symbol, without = evidence.baseline.symbol, evidence[frozenset({suspect})]
    found = list_worsened_blocks(evidence.baseline, without)
    numbers = f" (errors: {format_changes(found)})" if found else ""
    reason = f"to leave it out is enough to make {symbol} safe: {get_reason(without)}{numbers}"
    return SuspectRuling(Disposition.CONFIRMED, reason)


def _rule_left_in(evidence: Evidence, base: Ablation, suspect: Suspect) -> SuspectRuling:
    """A suspect that the variant to compare with holds, because without it the code does not run."""
    if not evidence.is_safe(base):
        return _rule_undecidable(evidence)
    if evidence.is_safe(frozenset({suspect})):
        return _rule_sufficient(evidence, suspect)
    symbol, others = evidence.baseline.symbol, [s for s in evidence.suspects if s in base]
    return SuspectRuling(
        Disposition.CLEARED,
        f"{symbol} is safe with it once {format_suspects(others)} is out: {get_reason(evidence[base])}",
    )


def _rule_undecidable(evidence: Evidence) -> SuspectRuling:
    """Nothing runs without a suspect, or nothing that is safe: an unsafe target alone is no evidence."""
    symbol, verdict = evidence.baseline.symbol, evidence.get_verdict(frozenset())
    failure = "fails otherwise" if evidence.is_broken(frozenset(evidence.suspects)) else "does not run"
    reason = (
        f"{symbol} is {verdict}, but without it the code {failure} "
        f"({get_reason(evidence[frozenset(evidence.suspects)])}), "
        f"so nothing shows whether it is to blame: {REPLACE_BY_HAND}"
    )
    return SuspectRuling(Disposition.UNCONFIRMED, reason)


def _rule_fixed(evidence: Evidence, base: Ablation, suspect: Suspect) -> SuspectRuling:
    """No rewrite neutralises it: it is to blame for what is left once all others are neutralised."""
    symbol, clean = evidence.baseline.symbol, evidence.get_verdict(base)
    if not clean.unsafe:
        return SuspectRuling(Disposition.CLEARED, f"{symbol} is safe once the other suspects are neutralised")
    if len(base) < len(evidence.suspects):
        return _rule_undecidable(evidence)
    others = " with every suspect neutralised that can be" if base else ""
    peers = [s for s in evidence.fixed if s is not suspect]
    apart = f"; no rewrite tells it apart from {format_suspects(peers)}" if peers else ""
    return SuspectRuling(Disposition.CONFIRMED, f"{symbol} is {clean}{others}: {get_reason(evidence[base])}{apart}")


def _find_mending_ablation(evidence: Evidence, base: Ablation, rulings: SuspectRulings) -> AttributionPlan[Ablation]:
    """The confirmed suspects, or as many of them as are known to be enough, if the target is safe without them."""
    confirmed = frozenset(s for s, ruling in rulings.items() if ruling.disposition is Disposition.CONFIRMED)
    if not confirmed or not confirmed.isdisjoint(evidence.fixed):
        return frozenset()
    yield [confirmed]
    return next((some for some in (confirmed, base) if some <= confirmed and evidence.is_safe(some)), frozenset())
