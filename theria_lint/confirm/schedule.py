"""Schedule the variants of all targets side by side, and run the attribution of each to its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from theria_lint.ablate.replacements import has_substitute
from theria_lint.ablate.rewriting import ablate_suspects
from theria_lint.confirm.attribution import attribute_suspects
from theria_lint.confirm.coverage_map import CoverageMap, ExecutedSpan, map_back_to_source
from theria_lint.confirm.evidence import Ablation, Attribution, AttributionPlan, Evidence
from theria_lint.confirm.protocol import Outcome, digest_text
from theria_lint.confirm.runner import VariantBatch, VariantRunner
from theria_lint.confirm.target_case import TargetCase, Variant
from theria_lint.model import ELSEWHERE, SourceFile, Suspect
from theria_lint.sources.source_text import INLINE_IMPORT


def attribute_cases(cases: Sequence[TargetCase], variants: VariantBatcher) -> dict[TargetCase, Attribution]:
    """Run the unsafe cases in all the variants that it takes to rule on their suspects; all have run as they are."""
    telling = [case for case in cases if not case.is_told_by_default]
    _measure_clean_variants(telling, variants)
    return _follow_attribution_plans(telling, variants)


def measure_cases(cases: Sequence[TargetCase], variants: VariantBatcher) -> list[TargetCase]:
    """Run every case as it is, and each of the configurations that turned out to be worth it: a case of its own."""
    _measure_baselines(cases, variants)
    turned = [configuration for case in cases for configuration in case.make_configuration_cases()]
    _measure_baselines(turned, variants)
    return [*cases, *turned]


def _measure_baselines(cases: Sequence[TargetCase], variants: VariantBatcher) -> None:
    """Every target as it is."""
    wanted = [Variant(case) for case in cases if not case.hints.get("skip")]
    _measure_variants(wanted, variants)
    _extend_cases(wanted, variants)


def _measure_clean_variants(cases: Sequence[TargetCase], variants: VariantBatcher) -> None:
    """Each unsafe target with all its suspects neutralised, until no further suspect comes into reach.

    What cuts the graph early hides what stands behind it: a backward runs only once the forward is whole. So stand-ins
    take the place of what no rewrite can neutralise, where some suspect has not been reached.
    """
    unsafe = [case for case in cases if case.verdict.unsafe]
    _extend_until_stable(unsafe, variants, lambda case: frozenset(case.neutralisable))
    hiding = [case for case in unsafe if case.unreached and variants.find_replaceable(case.fixed)]
    _extend_until_stable(
        hiding, variants, lambda case: frozenset([*case.neutralisable, *variants.find_replaceable(case.fixed)])
    )


def _extend_until_stable(
    cases: Sequence[TargetCase], variants: VariantBatcher, clean: Callable[[TargetCase], Ablation]
) -> None:
    growing = cases
    while growing:
        wanted = [Variant(case, clean(case)) for case in growing]
        wanted = [variant for variant in wanted if variant.ablation not in variant.case.outcomes]
        variants.run_ahead(wanted)
        _measure_variants(wanted, variants)
        _extend_cases(wanted, variants)
        growing = [variant.case for variant in wanted]


def _follow_attribution_plans(cases: Sequence[TargetCase], variants: VariantBatcher) -> dict[TargetCase, Attribution]:
    """The inquiries into all cases side by side: what they ask for next runs together."""
    found: dict[TargetCase, Attribution] = {}
    active_plans = {case: attribute_suspects(_make_evidence(case, variants)) for case in cases}
    while active_plans:
        asked = [
            Variant(case, some) for case, plan in active_plans.items() for some in _advance_plan(case, plan, found)
        ]
        _measure_variants([v for v in dict.fromkeys(asked) if v.ablation not in v.case.outcomes], variants)
        active_plans = {case: plan for case, plan in active_plans.items() if case not in found}
    return found


def _make_evidence(case: TargetCase, variants: VariantBatcher) -> Evidence:
    return Evidence(
        case.name,
        case.neutralisable,
        case.fixed,
        case.outcomes,
        variants.find_replaceable(case.fixed) if case.verdict.unsafe else [],
        lambda ablation: variants.find_executed(case, ablation),
        lambda ablation: variants.find_suspects_at(case, case.outcomes[ablation].aside, ablation),
    )


def _measure_variants(wanted: Sequence[Variant], variants: VariantBatcher) -> None:
    for variant, outcome in zip(wanted, variants.run_variants(wanted), strict=True):
        variant.case.outcomes[variant.ablation] = outcome


def _extend_cases(done: Sequence[Variant], variants: VariantBatcher) -> None:
    for variant in done:
        variants.extend_case(variant)


def _advance_plan(
    case: TargetCase, plan: AttributionPlan[Attribution], found: dict[TargetCase, Attribution]
) -> list[Ablation]:
    """What an inquiry wants to know next; nothing once it has its answer, which is filed."""
    try:
        return next(plan)
    except StopIteration as end:
        found[case] = end.value
        return []


class VariantBatcher:
    """Turns variants into batches for the runner, and what they executed into suspects that were reached."""

    def __init__(self, files: Sequence[SourceFile], runner: VariantRunner) -> None:
        """Read the files' sources once."""
        self._runner = runner
        self._sources = {os.path.abspath(file.path): file.source for file in files}
        self._digests = {path: digest_text(source) for path, source in self._sources.items()}
        self._reach = {os.path.abspath(f.path): CoverageMap(f.source, f.suspects) for f in files if f.suspects}
        self._ahead: dict[Variant, Outcome] = {}

    def run_ahead(self, clean: Sequence[Variant]) -> None:
        """Run clean variants beside the fixes that will be offered if they are safe, where processes would idle."""
        fixes = [variant._replace(tidy=True) for variant in clean if self.is_another_program(variant.ablation)]
        if fixes and len(clean) + len(fixes) <= self._runner.width:
            both = [*clean, *fixes]
            self._ahead |= dict(zip(both, self._run_together(both), strict=True))

    def run_variants(self, variants: Sequence[Variant]) -> list[Outcome]:
        """The outcome of each."""
        left = [variant for variant in dict.fromkeys(variants) if variant not in self._ahead]
        found = self._ahead | dict(zip(left, self._run_together(left), strict=True))
        return [found[variant] for variant in variants]

    def _run_together(self, variants: Sequence[Variant]) -> list[Outcome]:
        """The outcome of each; those of one file with the same sources share a batch, so that it is imported once."""
        groups: dict[tuple[str, Ablation, bool, str], list[int]] = {}
        for index, (case, ablation, tidy) in enumerate(variants):
            # An outcome goes by its symbol: what has the same one in another configuration is asked for apart.
            groups.setdefault((case.file.path, ablation, tidy, case.configuration), []).append(index)
        batches = [self._make_batch([variants[index] for index in indices]) for indices in groups.values()]
        outcomes: dict[int, Outcome] = {}
        for indices, results in zip(groups.values(), self._runner.run_batches(batches), strict=True):
            outcomes |= dict(zip(indices, results, strict=True))
        return [outcomes[index] for index in range(len(variants))]

    def _make_batch(self, variants: Sequence[Variant]) -> VariantBatch:
        """Variants that differ in nothing but the target."""
        case, ablation, tidy = variants[0]
        own = os.path.abspath(case.file.path)
        watched = sorted({path for variant in variants for path in self._spoken_for(variant.case)})
        return VariantBatch(
            path=own,
            targets=tuple(v.case.build_request(counterfactual=bool(ablation)) for v in variants),
            # Its own text too: a file may lie about what it has read, but not beyond its next change.
            variant_key=repr(sorted(_by_path(ablation))) + self._make_variant_key(ablation, tidy) + case.file.source,
            rewrite=partial(self.make_texts, ablation, tidy=tidy),
            watched=tuple(watched),
            digests={path: self._digests[path] for path in (own, *self._reach)},
            sources={path: self._sources[path] for path in watched},
        )

    def _spoken_for(self, case: TargetCase) -> list[str]:
        """The files of which a target's runs may tell something: those with suspects that it runs by their text.

        What else its process says that it has executed is its own word, for which nothing speaks.
        """
        paths = {os.path.abspath(path) for path in (case.file.path, *(path for path, _ in case.target.beyond))}
        return [path for path in self._reach if path in paths]

    def extend_case(self, variant: Variant) -> None:
        """Add to a case the suspects that the outcome of a variant shows to have run."""
        found = self.find_executed(variant.case, variant.ablation)
        variant.case.reached += [suspect for suspect in found if suspect not in variant.case.reached]

    def find_executed(self, case: TargetCase, ablation: Ablation) -> list[Suspect]:
        """The suspects that a variant of a case executed, and those in what makes the target, if it ran at all."""
        outcome, name = case.outcomes[ablation], case.target.symbol
        making = [s for s in case.candidates if s.reach == ELSEWHERE and s.symbol == name and s not in ablation]
        return self.find_suspects_at(case, outcome.places, ablation) + (making if outcome.runs else [])

    def find_suspects_at(
        self, case: TargetCase, places: Mapping[str, Iterable[ExecutedSpan]], ablation: Ablation
    ) -> list[Suspect]:
        """The suspects that were executed, by the places that a variant of a case executed."""
        texts = self.make_texts(ablation) if places else {}
        found: list[Suspect] = []
        for path in self._spoken_for(case):
            executed = places.get(path, ())
            here = map_back_to_source(executed, self._sources[path], texts.get(path, self._sources[path]))
            found += self._reach[path].find_executed_suspects(here)
        return found

    def find_replaceable(self, fixed: Iterable[Suspect]) -> list[Suspect]:
        """Those suspects that no rewrite neutralises for which there is a stand-in."""
        return [suspect for suspect in fixed if has_substitute(self._sources[os.path.abspath(suspect.path)], suspect)]

    def make_texts(self, ablation: Iterable[Suspect], *, tidy: bool = False) -> dict[str, str]:
        """The files that a variant changes, by absolute path; ``tidy`` as in `ablate_suspects`."""
        by_path = _by_path(ablation)

        def rewrite() -> list[str]:
            return [
                ablate_suspects(self._sources[path], by_path[path], tidy=tidy, substitute=True)
                for path in sorted(by_path)
            ]

        texts = (
            self._runner.get_or_make_texts(self._make_variant_key(ablation, tidy), len(by_path), rewrite)
            if by_path
            else []
        )
        return dict(zip(sorted(by_path), texts, strict=True))

    def is_another_program(self, ablation: Iterable[Suspect]) -> bool:
        """Whether the tidy texts of a variant are another program than the texts that ran: they import at the top."""
        try:
            texts = self.make_texts(ablation)
        except Exception:  # a rewrite that fails is told where its variant is to run
            return False
        return any(text.count(INLINE_IMPORT) > self._sources[path].count(INLINE_IMPORT) for path, text in texts.items())

    def _make_variant_key(self, ablation: Iterable[Suspect], tidy: bool) -> str:
        """All that a variant's texts are made from, in their order, and not where the files lie."""
        by_path = _by_path(ablation)
        made_from = [
            (self._sources[path], sorted(repr(replace(suspect, path="")) for suspect in by_path[path]))
            for path in sorted(by_path)
        ]
        return repr((tidy, made_from))


def _by_path(suspects: Iterable[Suspect]) -> dict[str, list[Suspect]]:
    """Suspects by the absolute path of their file."""
    found: dict[str, list[Suspect]] = {}
    for suspect in suspects:
        found.setdefault(os.path.abspath(suspect.path), []).append(suspect)
    return found
