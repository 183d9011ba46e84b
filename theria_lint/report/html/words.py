"""What the page calls things: a glyph, a class and a sentence for every verdict, disposition and state."""

from __future__ import annotations

from theria.verdicts import Verdict
from theria_lint.model import Disposition
from theria_lint.report.html.markup import Markup, joined, tag

VERDICTS = {
    Verdict.SILENT_COLLAPSE: ("\u2205", "Nothing raises, and every Hessian block that should carry signal is missing."),
    Verdict.SILENT_CORRUPTION: ("\u2260", "Nothing raises, and some block or gradient is missing or wrong."),
    Verdict.FIRST_ORDER_ONLY: ("1", "The second differentiation raises."),
    Verdict.HARD_STRUCTURAL: ("\u2715", "The graph is cut: the first differentiation fails, or calls an input unused."),
    Verdict.SAFE: ("\u2713", "Every gradient and every block agrees with the oracle."),
    Verdict.INCONCLUSIVE: ("?", "It could not be imported, called or compared."),
}
# The gravest first.
DISPOSITIONS = {
    Disposition.CONFIRMED: ("\u25cf", "It makes a target unsafe."),
    Disposition.UNCONFIRMED: ("\u25d0", "Nothing that ran gave evidence."),
    Disposition.CLEARED: ("\u25cb", "Its target is no worse with it than without."),
}
STATES = {
    "right": ("\u00b7", "agrees with the oracle"),
    "zero": ("0", "zero, and truly so"),
    "missing": ("\u2205", "None or zero while the oracle's is not"),
    "wrong": ("\u2260", "differs from the oracle by more than the tolerance"),
    "unclear": ("?", "the oracle is too noisy to tell"),
}


def badge(kind: Verdict | Disposition, count: int | None = None) -> Markup:
    """A verdict or disposition in its colour, after its glyph and how many there are."""
    glyph, _ = VERDICTS[kind] if isinstance(kind, Verdict) else DISPOSITIONS[kind]
    return tag(
        "span", sign(glyph), kind.value if count is None else f"{count} {kind.value}", class_=f"badge {kind.value}"
    )


def located(where: str) -> Markup:
    """A path or place, which breaks after a slash where it is too long for its line."""
    parts = [joined(part, "/", Markup("<wbr>")) for part in where.split("/")]
    return tag("span", *parts[:-1], where.rpartition("/")[2], class_="path")


def sign(glyph: str) -> Markup:
    """A glyph that says nothing which the words beside it do not say."""
    return tag("span", glyph, class_="sign", aria_hidden="true")


def facts(*pairs: tuple[str, str | None]) -> Markup:
    """A list of names and values; what has no value is left out."""
    rows = (tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value)
    return tag("dl", joined(*rows), class_="facts")
