"""HTML that is escaped by construction: text becomes markup here and nowhere else."""

from __future__ import annotations

from html import escape

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


def text(value: str) -> Markup:
    """``value`` as it is to be read: no tag, entity, control character or command to a CI log."""
    return Markup(COMMAND.sub("#&#35;", escape(value.translate(_VISIBLE))).replace("::", ":&#58;"))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """An element. Children that are not Markup are escaped, None is left out.

    An attribute that is None or False is left out, True stands without a value; ``class_`` and ``data_rule`` become
    ``class`` and ``data-rule``.
    """
    opened = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Markup(opened if name in _VOID else f"{opened}{joined(*children)}</{name}>")


def joined(*children: Child, by: str = "") -> Markup:
    """Children one after the other."""
    shown = (child if isinstance(child, Markup) else text(child) for child in children if child is not None)
    return Markup(text(by).join(shown))


def prose(value: str) -> Markup:
    """A sentence in which what stands between backticks is code."""
    parts = value.split("`")
    if len(parts) % 2 == 0:
        return text(value)
    return joined(*(tag("code", part) if number % 2 else part for number, part in enumerate(parts)))


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{text(str(value))}"'
