"""Explain the words of a report: verdicts, dispositions and reason codes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from theria.verdicts import Verdict
from theria_lint.model import Disposition

VERDICT_WORDS: Mapping[Verdict, tuple[str, str]] = {
    Verdict.SILENT_COLLAPSE: (
        "Nothing raises, and every Hessian block that should carry signal is missing.",
        "Training may work all the while; a Hessian-vector product is zero, and meta-learning through the kernel is "
        "first-order without saying so.",
    ),
    Verdict.SILENT_CORRUPTION: (
        "Nothing raises, and some block or gradient is missing or wrong.",
        "Whatever uses second derivatives gets other numbers than the kernel's, and is not told.",
    ),
    Verdict.FIRST_ORDER_ONLY: (
        "The second differentiation raises.",
        "Training works, and code that differentiates twice fails where it does so: nobody is misled.",
    ),
    Verdict.HARD_STRUCTURAL: (
        "The graph is cut: the first differentiation fails, or calls an input unused.",
        "No gradient reaches an input that the output depends on.",
    ),
    Verdict.SAFE: (
        "Every gradient and every block agrees with the oracle.",
        "So it is in the inputs, sizes, precisions and configurations that were measured; --verbose lists them.",
    ),
    Verdict.INCONCLUSIVE: (
        "It could not be imported, called or compared.",
        "The reason says what stood in the way and, where something helps, what to do. It is no word for safe.",
    ),
}
"""What each verdict says, and what that means for whoever uses the code."""

DISPOSITION_WORDS: Mapping[Disposition, tuple[str, str]] = {
    Disposition.CONFIRMED: (
        "It makes a target unsafe.",
        "With it the target is worse than with it rewritten so that it does nothing.",
    ),
    Disposition.UNCONFIRMED: (
        "Nothing that ran gave evidence.",
        "No target reached it, or none could be judged: the reason says why. It fails a run unless --fail-on says not.",
    ),
    Disposition.CLEARED: (
        "Its target is no worse with it than without.",
        "It was run, and does no harm there; --show-cleared lists such places.",
    ),
}
"""What each disposition says, and what it rests on."""

_ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.*?) ?\|$", re.MULTILINE)


def explain_term(word: str) -> str | None:
    """The explanation of a verdict, a disposition or a reason code; None for another word."""
    for kind, table in (("verdict", VERDICT_WORDS), ("disposition", DISPOSITION_WORDS)):
        for name, (what, meaning) in table.items():
            if name.value == word:
                return f"# {word}\n\nA {kind}. {what}\n\n{meaning}\n"
    row = read_reason_rows().get(word)
    if row is None:
        return None
    what, data = row
    return f"# {word}\n\nA reason code. {what}\n" + (f"\nIts data: {data}.\n" if data else "")


def list_terms() -> list[str]:
    """The words that have an explanation."""
    return [*(v.value for v in VERDICT_WORDS), *(d.value for d in DISPOSITION_WORDS), *read_reason_rows()]


@cache
def read_reason_rows() -> Mapping[str, tuple[str, str]]:
    """What the page of reason codes says of each: it lies beside this module, or in a checkout's documentation."""
    room = Path(__file__).resolve().parent
    page = next(path for path in (room / "reasons.md", room.parents[1] / "docs" / "reasons.md") if path.is_file())
    return {code: (what, data) for code, what, data in _ROW.findall(page.read_text("utf-8"))}
