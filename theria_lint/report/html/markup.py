"""Build HTML that is escaped by construction: text becomes markup here and nowhere else."""

from __future__ import annotations

from html import escape

from theria.verdicts import STATE_SIGNS, Verdict
from theria_lint.model import Disposition
from theria_lint.report.glossary import DISPOSITION_WORDS, VERDICT_WORDS
from theria_lint.report.style import COMMAND, ESCAPES

# What browsers drop, act on or hide is written out, and half a character is a character that is not there.
_VISIBLE: dict[int, int | str] = {code: escaped for code, escaped in ESCAPES.items() if chr(code) not in "\t\n"}
_VISIBLE |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_VOID = ("input", "link", "meta")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None
Attribute = str | int | bool | None


def escape_text(value: str) -> Markup:
    """``value`` as it is to be read: no tag, entity, control character or command to a CI log."""
    return Markup(COMMAND.sub("#&#35;", escape(value.translate(_VISIBLE))).replace("::", ":&#58;"))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """An element. Children that are not Markup are escaped, None is left out.

    An attribute that is None or False is left out, True stands without a value; ``class_`` and ``data_rule`` become
    ``class`` and ``data-rule``.
    """
    opened = f"<{name}{''.join(_render_attribute(key, value) for key, value in attributes.items())}>"
    return Markup(opened if name in _VOID else f"{opened}{join_children(*children)}</{name}>")


def join_children(*children: Child, by: str = "") -> Markup:
    """Children one after the other."""
    shown = (child if isinstance(child, Markup) else escape_text(child) for child in children if child is not None)
    return Markup(escape_text(by).join(shown))


def render_prose(value: str) -> Markup:
    """A sentence in which what stands between backticks is code."""
    parts = value.split("`")
    if len(parts) % 2 == 0:
        return escape_text(value)
    return join_children(*(tag("code", part) if number % 2 else part for number, part in enumerate(parts)))


def _render_attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape_text(str(value))}"'


_VERDICT_GLYPHS = {
    Verdict.SILENT_COLLAPSE: "\u2205",
    Verdict.SILENT_CORRUPTION: "\u2260",
    Verdict.FIRST_ORDER_ONLY: "\u2460",
    Verdict.HARD_STRUCTURAL: "\u2715",
    Verdict.SAFE: "\u2713",
    Verdict.INCONCLUSIVE: "?",
}
VERDICTS = {verdict: (glyph, VERDICT_WORDS[verdict][0]) for verdict, glyph in _VERDICT_GLYPHS.items()}
# The gravest first.
_DISPOSITION_GLYPHS = {
    Disposition.CONFIRMED: "\u25cf",
    Disposition.UNCONFIRMED: "\u25d0",
    Disposition.CLEARED: "\u25cb",
}
DISPOSITIONS = {kind: (glyph, DISPOSITION_WORDS[kind][0]) for kind, glyph in _DISPOSITION_GLYPHS.items()}
_STATE_MEANINGS = {
    "right": "agrees with the oracle",
    "zero": "zero, and truly so",
    "missing": "None or zero while the oracle's is not",
    "wrong": "differs from the oracle by more than the tolerance",
    "unclear": "the oracle is too noisy to tell",
}
STATES = {state: (sign, _STATE_MEANINGS[state]) for state, sign in STATE_SIGNS.items()}


def render_badge(kind: Verdict | Disposition, count: int | None = None) -> Markup:
    """A verdict or disposition in its colour, after its glyph and how many there are."""
    glyph, _ = VERDICTS[kind] if isinstance(kind, Verdict) else DISPOSITIONS[kind]
    return tag(
        "span",
        render_sign(glyph),
        kind.value if count is None else f"{count} {kind.value}",
        class_=f"badge {kind.value}",
    )


def render_path(where: str) -> Markup:
    """A path or place, which breaks after a slash where it is too long for its line."""
    parts = [join_children(part, "/", Markup("<wbr>")) for part in where.split("/")]
    return tag("span", *parts[:-1], where.rpartition("/")[2], class_="path")


def render_sign(glyph: str) -> Markup:
    """A glyph that says nothing which the words beside it do not say."""
    return tag("span", glyph, class_="sign", aria_hidden="true")


def render_facts(*pairs: tuple[str, str | None]) -> Markup:
    """A list of names and values; what has no value is left out."""
    rows = (tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value)
    return tag("dl", join_children(*rows), class_="facts")
