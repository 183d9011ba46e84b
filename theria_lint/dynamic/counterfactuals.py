"""Runs the variants that show which suspects are to blame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from theria_lint.dynamic.attribution import inquire
from theria_lint.dynamic.cases import Case, Variant
from theria_lint.dynamic.evidence import Evidence, Neutralised
from theria_lint.dynamic.rulings import Attribution, Inquiry
from theria_lint.dynamic.variants import Variants


def attribute(cases: Sequence[Case], variants: Variants) -> dict[Case, Attribution]:
    """Runs every case as it is, and the unsafe ones in all the variants that it takes to rule on their suspects."""
    _baselines(cases, variants)
    _clean(cases, variants)
    return _inquiries(cases, variants)


def _baselines(cases: Sequence[Case], variants: Variants) -> None:
    """Every target as it is."""
    wanted = [Variant(case) for case in cases if not case.hints.get("skip")]
    _measure(wanted, variants)
    _extend(wanted, variants)


def _clean(cases: Sequence[Case], variants: Variants) -> None:
    """Each unsafe target with all its suspects neutralised, until no further suspect comes into reach.

    What cuts the graph early hides what stands behind it: a backward runs only once the forward is whole. So stand-ins
    take the place of what no rewrite can neutralise, where some suspect has not been reached.
    """
    unsafe = [case for case in cases if case.verdict.unsafe]
    _grow(unsafe, variants, lambda case: frozenset(case.neutralisable))
    hiding = [case for case in unsafe if case.unreached and variants.replaceable(case.fixed)]
    _grow(hiding, variants, lambda case: frozenset([*case.neutralisable, *variants.replaceable(case.fixed)]))


def _grow(cases: Sequence[Case], variants: Variants, clean: Callable[[Case], Neutralised]) -> None:
    growing = cases
    while growing:
        wanted = [Variant(case, clean(case)) for case in growing]
        wanted = [variant for variant in wanted if variant.neutralised not in variant.case.outcomes]
        _measure(wanted, variants)
        _extend(wanted, variants)
        growing = [variant.case for variant in wanted]


def _inquiries(cases: Sequence[Case], variants: Variants) -> dict[Case, Attribution]:
    """The inquiries into all cases side by side: what they ask for next runs together."""
    found: dict[Case, Attribution] = {}
    going = {case: inquire(_evidence(case, variants)) for case in cases}
    while going:
        asked = [Variant(case, some) for case, inquiry in going.items() for some in _next(case, inquiry, found)]
        _measure([v for v in dict.fromkeys(asked) if v.neutralised not in v.case.outcomes], variants)
        going = {case: inquiry for case, inquiry in going.items() if case not in found}
    return found


def _evidence(case: Case, variants: Variants) -> Evidence:
    return Evidence(
        case.neutralisable,
        case.fixed,
        case.outcomes,
        variants.replaceable(case.fixed) if case.verdict.unsafe else [],
        lambda neutralised: variants.suspects_at(case, case.outcomes[neutralised].places, neutralised),
        lambda neutralised: variants.suspects_at(case, case.outcomes[neutralised].aside, neutralised),
    )


def _measure(wanted: Sequence[Variant], variants: Variants) -> None:
    for variant, outcome in zip(wanted, variants.run(wanted), strict=True):
        variant.case.outcomes[variant.neutralised] = outcome


def _extend(done: Sequence[Variant], variants: Variants) -> None:
    for variant in done:
        variants.extend(variant, variant.case.outcomes[variant.neutralised])


def _next(case: Case, inquiry: Inquiry[Attribution], found: dict[Case, Attribution]) -> list[Neutralised]:
    """What an inquiry wants to know next; nothing once it has its answer, which is filed."""
    try:
        return next(inquiry)
    except StopIteration as end:
        found[case] = end.value
        return []
