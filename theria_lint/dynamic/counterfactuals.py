"""Plans and runs the variants that show which suspects are to blame."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, islice

from theria.verdicts import Verdict
from theria_lint.dynamic.attribution import Evidence, verdict_of
from theria_lint.dynamic.cases import Case, Variant
from theria_lint.dynamic.protocol import Outcome
from theria_lint.dynamic.variants import Variants
from theria_lint.model import Suspect

PAIRS = 10
"""How many pairs of suspects are tried where no suspect alone explains a failure."""


def gather(cases: Sequence[Case], variants: Variants) -> dict[Case, Evidence]:
    """Runs every case as it is, neutralised, and with each suspect left in; the evidence of each."""
    _baselines(cases, variants)
    _clean(cases, variants)
    return _evidence(cases, variants)


def _baselines(cases: Sequence[Case], variants: Variants) -> None:
    """Every target as it is."""
    running = [case for case in cases if not case.hints.get("skip")]
    for case, outcome in zip(running, variants.run([(case, frozenset()) for case in running]), strict=True):
        case.baseline = outcome
        variants.extend((case, frozenset()), outcome)


def _clean(cases: Sequence[Case], variants: Variants) -> None:
    """Each unsafe target with all its suspects neutralised, until no further suspect comes into reach.

    What cuts the graph early hides what stands behind it: a backward runs only once the forward is whole.
    """
    growing = [case for case in cases if case.verdict.unsafe]
    for case in growing:
        case.clean = case.baseline
    growing = [case for case in growing if case.neutralisable]
    while growing:
        before = [len(case.reached) for case in growing]
        wanted = [(case, frozenset(case.neutralisable)) for case in growing]
        for variant, outcome in zip(wanted, variants.run(wanted), strict=True):
            variant[0].clean = outcome
            variants.extend(variant, outcome)
        growing = [case for case, size in zip(growing, before, strict=True) if len(case.reached) > size]


def _evidence(cases: Sequence[Case], variants: Variants) -> dict[Case, Evidence]:
    """The counterfactuals of every unsafe target; the others need none."""
    open_ = [case for case in cases if case.clean is not None]
    alone = _subsets([(case, (s,)) for case in open_ for s in case.neutralisable], variants)
    evidence = {
        case: Evidence(
            case.baseline,
            case.clean or case.baseline,
            {s: alone[case, (s,)] for s in case.neutralisable if case.clean},
        )
        for case in cases
    }
    stuck = [case for case in open_ if _unexplained(case, evidence[case])]
    wanted: list[tuple[Case, tuple[Suspect, ...]]] = [
        (case, pair) for case in stuck for pair in islice(combinations(case.neutralisable, 2), PAIRS)
    ]
    pairs = _subsets(wanted, variants)
    for case in stuck:
        found = {(pair[0], pair[1]): pairs[other, pair] for other, pair in wanted if other is case}
        old = evidence[case]
        evidence[case] = Evidence(old.baseline, old.clean, old.alone, found)
    return evidence


def _unexplained(case: Case, evidence: Evidence) -> bool:
    if verdict_of(evidence.clean) is not Verdict.SAFE or len(case.neutralisable) < 3:
        return False
    return all(verdict_of(outcome) is Verdict.SAFE for outcome in evidence.alone.values())


def _subsets(
    wanted: list[tuple[Case, tuple[Suspect, ...]]], variants: Variants
) -> dict[tuple[Case, tuple[Suspect, ...]], Outcome]:
    """Each case with only the given suspects left; what equals the baseline is not run again."""
    known: dict[tuple[Case, tuple[Suspect, ...]], Outcome] = {}
    running: list[Variant] = []
    keys = []
    for case, left in wanted:
        neutralised = frozenset(case.neutralisable) - set(left)
        if not neutralised:
            known[case, left] = case.baseline
        else:
            running.append((case, neutralised))
            keys.append((case, left))
    return known | dict(zip(keys, variants.run(running), strict=True))
