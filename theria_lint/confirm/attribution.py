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
    encode_changes,
    encode_suspects,
    get_reason,
    is_exercised,
    list_worsened_blocks,
    needs_gpu,
    rule,
)
from theria_lint.confirm.interactions import find_cancelling_pairs, find_minimal_harmful_subsets
from theria_lint.confirm.protocol import Outcome
from theria_lint.model import Disposition, Suspect
from theria_lint.reasons import Reason, ReasonCode

MAX_COMPANIONS = 3
"""Beside how many others a suspect is tried that does not run as the only one left."""


def attribute_suspects(evidence: Evidence) -> AttributionPlan[Attribution]:
    """Rule on every suspect of a target, of which the baseline is known."""
    symbol, verdict = evidence.name, evidence.get_verdict(frozenset())
    everyone = [*evidence.suspects, *evidence.fixed]
    if verdict is Verdict.INCONCLUSIVE:
        reason = Reason(ReasonCode.TARGET_INCONCLUSIVE, {"target": symbol, "reason": get_reason(evidence.baseline)})
        return Attribution({s: SuspectRuling(Disposition.UNCONFIRMED, reason) for s in everyone})
    if verdict is Verdict.SAFE:
        return Attribution({s: _rule_safe(symbol, evidence.baseline, s, alone=False) for s in everyone})
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
    backward = suspect.symbol if suspect.symbol.endswith(".backward") else None
    return replace(ruling, reason=Reason(ReasonCode.SUBSTITUTED, {"reason": ruling.reason, "backward": backward}))


def _rule_hidden(evidence: Evidence, base: Ablation, suspect: Suspect) -> SuspectRuling:
    """A suspect that changes nothing where there is nothing left to change."""
    return rule(
        Disposition.UNCONFIRMED,
        ReasonCode.MAY_BE_HIDDEN,
        target=evidence.name,
        verdict=str(evidence.get_verdict(base)),
        by=encode_suspects(evidence.fixed),
    )


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
    symbol, outcome, clean = evidence.name, evidence[base - {suspect}], evidence[base]
    verdict, without = evidence.get_verdict(base - {suspect}), evidence.get_verdict(base)
    if not verdict.unsafe:
        return _rule_safe(symbol, outcome, suspect, alone=True)
    if evidence.is_broken(base):
        return _rule_undecidable(evidence)
    changes = encode_changes(list_worsened_blocks(outcome, clean))
    if verdict is not without:
        return rule(
            Disposition.CONFIRMED,
            ReasonCode.UNSAFE_OTHERWISE_WITHOUT_IT if without.unsafe else ReasonCode.UNSAFE_WITH_IT,
            target=symbol,
            verdict=str(verdict),
            reason=get_reason(outcome),
            verdict_without=str(without),
            reason_without=get_reason(clean),
            changes=changes,
        )
    known = {"target": symbol, "verdict": str(verdict)}
    if changes:
        return rule(Disposition.CONFIRMED, ReasonCode.WORSE_WITH_IT, **known, changes=changes)
    return rule(Disposition.CLEARED, ReasonCode.CHANGES_NOTHING, **known)


def _rule_safe(name: str, outcome: Outcome, suspect: Suspect, *, alone: bool) -> SuspectRuling:
    """Cleared, unless what the suspect stands for did not happen; ``alone``: it is the only suspect left."""
    if needs_gpu(suspect, outcome):
        return rule(Disposition.UNCONFIRMED, ReasonCode.SAFE_OFF_GPU, target=name, alone=alone)
    if not is_exercised(suspect, outcome):
        code = ReasonCode.FUSED_KERNEL_NOT_MET
        return rule(Disposition.UNCONFIRMED, code, target=name, alone=alone)
    told = {"target": name, "alone": alone, "reason": get_reason(outcome)}
    return rule(Disposition.CLEARED, ReasonCode.SAFE_WITH_IT, **told)


def _rule_beside_others(
    evidence: Evidence, base: Ablation, suspect: Suspect, others: Iterable[Suspect]
) -> SuspectRuling:
    """A suspect without which no other can be left out: what it changes beside others is all that can be known."""
    symbol = evidence.name
    for other in others:
        pair, lone = base - {suspect, other}, base - {other}
        found = list_worsened_blocks(evidence[pair], evidence[lone])
        known = {"target": symbol, "others": encode_suspects([other])}
        if evidence.get_verdict(pair).unsafe and (evidence.is_safe(lone) or found):
            return rule(
                Disposition.CONFIRMED,
                ReasonCode.UNSAFE_BESIDE,
                **known,
                verdict=str(evidence.get_verdict(pair)),
                reason=get_reason(evidence[pair]),
                verdict_without=str(evidence.get_verdict(lone)),
                changes=encode_changes(found),
            )
        if evidence.is_safe(pair):
            return rule(Disposition.CLEARED, ReasonCode.SAFE_BESIDE, **known)
    if evidence.is_safe(frozenset({suspect})):
        return _rule_sufficient(evidence, suspect)
    why = get_reason(evidence[base - {suspect}])
    return rule(Disposition.UNCONFIRMED, ReasonCode.VARIANT_DOES_NOT_RUN, target=symbol, reason=why)


def _rule_sufficient(evidence: Evidence, suspect: Suspect) -> SuspectRuling:
    without = evidence[frozenset({suspect})]
    return rule(
        Disposition.CONFIRMED,
        ReasonCode.ENOUGH_TO_REMOVE,
        target=evidence.name,
        reason=get_reason(without),
        changes=encode_changes(list_worsened_blocks(evidence.baseline, without)),
    )


def _rule_left_in(evidence: Evidence, base: Ablation, suspect: Suspect) -> SuspectRuling:
    """A suspect that the variant to compare with holds, because without it the code does not run."""
    if not evidence.is_safe(base):
        return _rule_undecidable(evidence)
    if evidence.is_safe(frozenset({suspect})):
        return _rule_sufficient(evidence, suspect)
    return rule(
        Disposition.CLEARED,
        ReasonCode.SAFE_WITHOUT_OTHERS,
        target=evidence.name,
        others=encode_suspects(s for s in evidence.suspects if s in base),
        reason=get_reason(evidence[base]),
    )


def _rule_undecidable(evidence: Evidence) -> SuspectRuling:
    """Nothing runs without a suspect, or nothing that is safe: an unsafe target alone is no evidence."""
    everything = frozenset(evidence.suspects)
    return rule(
        Disposition.UNCONFIRMED,
        ReasonCode.NOTHING_TO_COMPARE,
        target=evidence.name,
        verdict=str(evidence.get_verdict(frozenset())),
        fails_otherwise=evidence.is_broken(everything),
        reason=get_reason(evidence[everything]),
    )


def _rule_fixed(evidence: Evidence, base: Ablation, suspect: Suspect) -> SuspectRuling:
    """No rewrite neutralises it: it is to blame for what is left once all others are neutralised."""
    symbol, clean = evidence.name, evidence.get_verdict(base)
    if not clean.unsafe:
        return rule(Disposition.CLEARED, ReasonCode.SAFE_WITHOUT_THE_OTHERS, target=symbol)
    if len(base) < len(evidence.suspects):
        return _rule_undecidable(evidence)
    return rule(
        Disposition.CONFIRMED,
        ReasonCode.UNSAFE_WITHOUT_OTHERS,
        target=symbol,
        verdict=str(clean),
        without_others=bool(base),
        reason=get_reason(evidence[base]),
        peers=encode_suspects(s for s in evidence.fixed if s is not suspect),
    )


def _find_mending_ablation(evidence: Evidence, base: Ablation, rulings: SuspectRulings) -> AttributionPlan[Ablation]:
    """The confirmed suspects, or as many of them as are known to be enough, if the target is safe without them."""
    confirmed = frozenset(s for s, ruling in rulings.items() if ruling.disposition is Disposition.CONFIRMED)
    if not confirmed or not confirmed.isdisjoint(evidence.fixed):
        return frozenset()
    yield [confirmed]
    return next((some for some in (confirmed, base) if some <= confirmed and evidence.is_safe(some)), frozenset())
