"""The rewrites that were seen to mend a target, as an author would write them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from theria.verdicts import Verdict
from theria_lint.confirm.evidence import Attribution, verdict_of
from theria_lint.confirm.schedule import Variants
from theria_lint.confirm.target_case import Case, Variant
from theria_lint.model import Rewrite, Suspect


def verified(attributions: Mapping[Case, Attribution], variants: Variants) -> dict[Case, Rewrite]:
    """A rewrite for each case that is safe without its confirmed suspects.

    The tidy text is the program that has run, less empty lines. Where it is another one, it is run too.
    """
    mended = [Variant(case, found.mended, tidy=True) for case, found in attributions.items() if found.mended]
    others = [variant for variant in mended if variants.is_another_program(variant.neutralised)]
    refuted = {
        variant
        for variant, outcome in zip(others, variants.run(others), strict=True)
        if verdict_of(outcome) is not Verdict.SAFE
    }
    return {v.case: _rewrite(v.case, v.neutralised, variants) for v in mended if v not in refuted}


def _rewrite(case: Case, neutralised: Iterable[Suspect], variants: Variants) -> Rewrite:
    texts = variants.texts(neutralised, tidy=True)
    paths = sorted({suspect.path for suspect in neutralised})
    return Rewrite(case.target.symbol, tuple((path, texts[os.path.abspath(path)]) for path in paths))
