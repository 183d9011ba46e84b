"""Rewrites that were run and make a target safe, in the form in which an author would write them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from theria.verdicts import Verdict
from theria_lint.confirm.evidence import Attribution, get_worst_verdict
from theria_lint.confirm.schedule import VariantBatcher
from theria_lint.confirm.target_case import TargetCase, Variant
from theria_lint.model import Rewrite, Suspect


def find_verified_fixes(
    attributions: Mapping[TargetCase, Attribution], variants: VariantBatcher
) -> dict[TargetCase, Rewrite]:
    """A rewrite for each case that is safe without its confirmed suspects.

    The tidy text is the program that has run, less empty lines. Where it is another one, it is run too.
    """
    mended = [Variant(case, found.mended, tidy=True) for case, found in attributions.items() if found.mended]
    others = [variant for variant in mended if variants.is_another_program(variant.ablation)]
    refuted = {
        variant
        for variant, outcome in zip(others, variants.run_variants(others), strict=True)
        if get_worst_verdict(outcome) is not Verdict.SAFE
    }
    return {v.case: _make_rewrite(v.case, v.ablation, variants) for v in mended if v not in refuted}


def _make_rewrite(case: TargetCase, ablation: Iterable[Suspect], variants: VariantBatcher) -> Rewrite:
    texts = variants.make_texts(ablation, tidy=True)
    paths = sorted({suspect.path for suspect in ablation})
    return Rewrite(case.name, tuple((path, texts[os.path.abspath(path)]) for path in paths))
