"""Runs variants of the targets in the worker."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from theria_lint.dynamic.cases import Case, Variant
from theria_lint.dynamic.evidence import Neutralised
from theria_lint.dynamic.protocol import Outcome, digest
from theria_lint.dynamic.reach import Place, Reach, unshifted
from theria_lint.dynamic.runner import Batch, Runner
from theria_lint.model import SourceFile, Suspect
from theria_lint.static import has_substitute, neutralise
from theria_lint.static.text import INLINED


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
