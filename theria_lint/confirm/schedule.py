"""Runs the variants that show which suspects are to blame."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from theria_lint.ablate.replacements import has_substitute
from theria_lint.ablate.rewriting import neutralise
from theria_lint.confirm.attribution import inquire
from theria_lint.confirm.coverage_map import Place, Reach, unshifted
from theria_lint.confirm.evidence import Attribution, Evidence, Inquiry, Neutralised
from theria_lint.confirm.protocol import Outcome, digest
from theria_lint.confirm.runner import Batch, Runner
from theria_lint.confirm.target_case import Case, Variant
from theria_lint.model import SourceFile, Suspect
from theria_lint.sources.source_text import INLINED


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


class Variants:
    """Turns variants into batches for the runner, and what they executed into suspects that were reached."""

    def __init__(self, files: Sequence[SourceFile], runner: Runner) -> None:
        """Reads the files' sources once."""
        self._runner = runner
        self._sources = {os.path.abspath(file.path): file.source for file in files}
        self._digests = {path: digest(source) for path, source in self._sources.items()}
        self._reach = {os.path.abspath(f.path): Reach(f.source, f.suspects) for f in files if f.suspects}

    def run(self, variants: Sequence[Variant]) -> list[Outcome]:
        """The outcome of each; those of one file with the same sources share a batch, so that it is imported once."""
        groups: dict[tuple[str, Neutralised, bool], list[int]] = {}
        for index, (case, neutralised, tidy) in enumerate(variants):
            groups.setdefault((case.file.path, neutralised, tidy), []).append(index)
        batches = [self._batch([variants[index] for index in indices]) for indices in groups.values()]
        outcomes: dict[int, Outcome] = {}
        for indices, results in zip(groups.values(), self._runner.run(batches), strict=True):
            outcomes |= dict(zip(indices, results, strict=True))
        return [outcomes[index] for index in range(len(variants))]

    def _batch(self, variants: Sequence[Variant]) -> Batch:
        """Variants that differ in nothing but the target."""
        case, neutralised, tidy = variants[0]
        own = os.path.abspath(case.file.path)
        watched = sorted({path for variant in variants for path in self._spoken_for(variant.case)})
        return Batch(
            path=own,
            targets=tuple(v.case.request(counterfactual=bool(neutralised)) for v in variants),
            # Its own text too: a file may lie about what it has read, but not beyond its next change.
            recipe=repr(sorted(_by_path(neutralised))) + self._recipe(neutralised, tidy) + case.file.source,
            rewrite=partial(self.texts, neutralised, tidy=tidy),
            watched=tuple(watched),
            digests={path: self._digests[path] for path in (own, *self._reach)},
            sources={path: self._sources[path] for path in watched},
        )

    def _spoken_for(self, case: Case) -> list[str]:
        """The files of which a target's runs may tell something: those with suspects that it runs by their text.

        What else its process says that it has executed is its own word, for which nothing speaks.
        """
        paths = {os.path.abspath(path) for path in (case.file.path, *(path for path, _ in case.target.beyond))}
        return [path for path in self._reach if path in paths]

    def extend(self, variant: Variant, outcome: Outcome) -> None:
        """Adds to a case the suspects that the outcome of a variant shows to have run."""
        found = self.suspects_at(variant.case, outcome.places, variant.neutralised)
        variant.case.reached += [suspect for suspect in found if suspect not in variant.case.reached]

    def suspects_at(self, case: Case, places: Mapping[str, Iterable[Place]], neutralised: Neutralised) -> list[Suspect]:
        """The suspects that were executed, by the places that a variant of a case executed."""
        texts = self.texts(neutralised) if places else {}
        found: list[Suspect] = []
        for path in self._spoken_for(case):
            executed = places.get(path, ())
            here = unshifted(executed, self._sources[path], texts.get(path, self._sources[path]))
            found += self._reach[path].reached(here)
        return found

    def replaceable(self, fixed: Iterable[Suspect]) -> list[Suspect]:
        """Those suspects that no rewrite neutralises for which there is a stand-in."""
        return [suspect for suspect in fixed if has_substitute(self._sources[os.path.abspath(suspect.path)], suspect)]

    def texts(self, neutralised: Iterable[Suspect], *, tidy: bool = False) -> dict[str, str]:
        """The files that a variant changes, by absolute path; ``tidy`` as in `neutralise`."""
        by_path = _by_path(neutralised)

        def rewrite() -> list[str]:
            return [
                neutralise(self._sources[path], by_path[path], tidy=tidy, substitute=True) for path in sorted(by_path)
            ]

        texts = self._runner.remembered(self._recipe(neutralised, tidy), len(by_path), rewrite) if by_path else []
        return dict(zip(sorted(by_path), texts, strict=True))

    def is_another_program(self, neutralised: Iterable[Suspect]) -> bool:
        """Whether the tidy texts of a variant are another program than the texts that ran: they import at the top."""
        texts = self.texts(neutralised)
        return any(text.count(INLINED) > self._sources[path].count(INLINED) for path, text in texts.items())

    def _recipe(self, neutralised: Iterable[Suspect], tidy: bool) -> str:
        """All that a variant's texts are made from, in their order, and not where the files lie."""
        by_path = _by_path(neutralised)
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
