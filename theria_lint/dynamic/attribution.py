"""Which suspects are to blame: dispositions from what the counterfactual variants of a target measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from theria.verdicts import Verdict, worst
from theria_lint.dynamic.protocol import Outcome
from theria_lint.model import Disposition, Run, Suspect

_LESS = 1.05
_BARELY = 1e-3


def verdict_of(outcome: Outcome) -> Verdict:
    """The worst verdict among an outcome's runs, ``inconclusive`` when there is none."""
    return worst(run.verdict for run in outcome.runs)


def worst_run(outcome: Outcome) -> Run | None:
    """The run that decided the outcome's verdict."""
    verdict = verdict_of(outcome)
    return next((run for run in outcome.runs if run.verdict is verdict), None)


@dataclass(frozen=True)
class Evidence:
    """What was measured of one target, variant by variant.

    ``clean``: every suspect that can be neutralised is; the baseline itself where none can. ``alone``: every one but
    that one is. ``pairs``: every one but two is; only filled where no suspect alone explains the failure.
    """

    baseline: Outcome
    clean: Outcome
    alone: Mapping[Suspect, Outcome] = field(default_factory=dict)
    pairs: Mapping[tuple[Suspect, Suspect], Outcome] = field(default_factory=dict)

    def outcomes(self) -> tuple[Outcome, ...]:
        """Everything that was measured."""
        return self.baseline, self.clean, *self.alone.values(), *self.pairs.values()


@dataclass(frozen=True)
class Ruling:
    """The disposition of a suspect in one target, and one sentence of evidence."""

    disposition: Disposition
    reason: str


def rule_on(evidence: Evidence, neutralisable: list[Suspect], fixed: list[Suspect]) -> dict[Suspect, Ruling]:
    """The disposition of every suspect that one target reaches.

    Args:
        evidence: the target's measurements.
        neutralisable: its suspects that a rewrite can neutralise.
        fixed: its suspects that no rewrite can.
    """
    symbol, verdict = evidence.baseline.symbol, verdict_of(evidence.baseline)
    everyone = [*neutralisable, *fixed]
    if verdict is Verdict.INCONCLUSIVE:
        reason = f"{symbol} is inconclusive: {_why(evidence.baseline)}"
        return {s: Ruling(Disposition.UNCONFIRMED, reason) for s in everyone}
    if verdict is Verdict.SAFE:
        reason = f"{symbol} is safe with it: {_why(evidence.baseline)}"
        return {s: Ruling(Disposition.CLEARED, reason) for s in everyone}
    if verdict_of(evidence.clean) is Verdict.INCONCLUSIVE:
        return _without_counterfactual(evidence, everyone)
    rulings = {s: _alone(evidence, s) for s in neutralisable}
    if not verdict_of(evidence.clean).unsafe and not any(_blamed(r) for r in rulings.values()):
        rulings |= _together(evidence, neutralisable)
    return rulings | {s: _opaque(evidence, s) for s in fixed}


def _without_counterfactual(evidence: Evidence, suspects: list[Suspect]) -> dict[Suspect, Ruling]:
    """The neutralised variant does not run; a lone suspect of an unsafe target stays the best explanation, unproven."""
    verdict = verdict_of(evidence.baseline)
    reason = (
        f"{evidence.baseline.symbol} is {verdict}, but without it the code does not run "
        f"({_why(evidence.clean)}), so nothing shows whether it is to blame"
    )
    return {s: Ruling(Disposition.UNCONFIRMED, reason) for s in suspects}


def _alone(evidence: Evidence, suspect: Suspect) -> Ruling:
    """A suspect is confirmed if the target, with it as the only one left, is worse than with none."""
    symbol, clean = evidence.baseline.symbol, verdict_of(evidence.clean)
    outcome = evidence.alone[suspect]
    verdict = verdict_of(outcome)
    if verdict is Verdict.INCONCLUSIVE:
        reason = f"the variant of {symbol} in which it is the only suspect left does not run ({_why(outcome)})"
        return Ruling(Disposition.UNCONFIRMED, reason)
    if not verdict.unsafe:
        return Ruling(Disposition.CLEARED, f"{symbol} is safe with it as the only suspect left: {_why(outcome)}")
    if not clean.unsafe:
        reason = f"with it {symbol} is {verdict}: {_why(outcome)}; without it {clean}: {_why(evidence.clean)}"
        return Ruling(Disposition.CONFIRMED, reason)
    if verdict is not clean:
        reason = (
            f"with it {symbol} is {verdict}: {_why(outcome)}; without it still {clean}: {_why(evidence.clean)}; "
            "the cause lies deeper"
        )
        return Ruling(Disposition.CONFIRMED, reason)
    changes = worse_blocks(outcome, evidence.clean)
    if changes:
        reason = f"{symbol} is {verdict} without it too, but it makes {', '.join(changes[:4])} worse"
        return Ruling(Disposition.CONFIRMED, reason)
    return Ruling(Disposition.CLEARED, f"{symbol} is {verdict} with and without it: it changes no block")


def _together(evidence: Evidence, suspects: list[Suspect]) -> dict[Suspect, Ruling]:
    """No suspect alone breaks the target and none is needed to break it: pairs, or all of them, do."""
    verdict = verdict_of(evidence.baseline)
    guilty: dict[Suspect, Ruling] = {}
    for (first, second), outcome in evidence.pairs.items():
        if verdict_of(outcome).unsafe:
            for one, other in ((first, second), (second, first)):
                blame = f"together with {other.rule} on line {other.span.line} it makes"
                reason = f"{blame} {evidence.baseline.symbol} {verdict} ({_why(outcome)})"
                guilty[one] = Ruling(Disposition.CONFIRMED, reason)
    if guilty:
        return guilty
    reason = f"all {len(suspects)} suspects together make {evidence.baseline.symbol} {verdict}, no two of them do"
    return {s: Ruling(Disposition.CONFIRMED, reason) for s in suspects}


def _opaque(evidence: Evidence, suspect: Suspect) -> Ruling:
    """No rewrite neutralises it: it is to blame for what is left once all others are neutralised."""
    symbol, clean = evidence.baseline.symbol, verdict_of(evidence.clean)
    if clean.unsafe:
        others = "" if evidence.clean is evidence.baseline else " with every other suspect neutralised"
        reason = f"{symbol} is {clean}{others}: {_why(evidence.clean)}"
        return Ruling(Disposition.CONFIRMED, reason)
    return Ruling(Disposition.CLEARED, f"{symbol} is safe once the other suspects are neutralised")


def worse_blocks(outcome: Outcome, clean: Outcome) -> list[str]:
    """The gradients and blocks in which a variant is worse than the clean one, on the same backend."""
    found: dict[str, None] = {}
    cleaner = {run.backend: run for run in clean.runs}
    for run in outcome.runs:
        other = cleaner.get(run.backend)
        if other is None:
            continue
        errors = {f"∂g_{k.replace(',', '/∂')}": b.get("error") for k, b in run.blocks.items()}
        errors |= {f"∂L/∂{k}": e for k, e in run.gradients.items()}
        before = {f"∂g_{k.replace(',', '/∂')}": b.get("error") for k, b in other.blocks.items()}
        before |= {f"∂L/∂{k}": e for k, e in other.gradients.items()}
        for name, error in errors.items():
            if name in before and _number(error) > _LESS * _number(before[name]) + _BARELY:
                found[name] = None
    return list(found)


def _number(error: float | None) -> float:
    return float("inf") if error is None else error


def _blamed(ruling: Ruling) -> bool:
    return ruling.disposition is not Disposition.CLEARED


def _why(outcome: Outcome) -> str:
    run = worst_run(outcome)
    return (run.error or run.reason if run.verdict is Verdict.INCONCLUSIVE else run.reason) if run else outcome.reason
