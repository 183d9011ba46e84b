"""Rows of names and words: what is told of a reason, and the figures under MAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from theria.wording import Message
from theria_lint.report.html.markup import Markup, join_children, render_prose, tag
from theria_lint.report.style import format_count


def render_message(name: str, message: Message, helps: Sequence[str]) -> Markup:
    """What is told of a reason: the head under a name, notes, and what helps, blocks to paste as they are."""
    rows = [(name, render_prose(message.head)), *(("Note", render_prose(note)) for note in message.notes)]
    return _render_rows([*rows, *(("Help", _render_help(text)) for text in helps)])


def render_helps(helps: Sequence[str]) -> Markup:
    """What helps, in rows as those of a message."""
    return _render_rows([("Help", _render_help(text)) for text in helps])


def _render_rows(rows: Sequence[tuple[str, Markup]]) -> Markup:
    return tag("dl", *(tag("div", tag("dt", term), tag("dd", words)) for term, words in rows), class_="told")


def _render_help(text: str) -> Markup:
    first, _, block = text.partition("\n")
    return join_children(render_prose(first), tag("pre", block, class_="code") if block else None)


_MAML_LABELS = {
    "rel_diff": "FULL\u2013FO discrepancy",
    "meta_gradient_error": "meta-gradient error",
    "second_order_path_attn_all": "second-order path through the attention",
    "second_order_path_head_all": "second-order path through the head",
    "second_order_attn_inputs": "inputs that carry it",
    "status": "status",
    "error": "error",
}


def iter_maml_figures(figures: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """The names and values of what was measured under MAML."""
    yield from ((name, _format_figure(figures.get(key))) for key, name in _MAML_LABELS.items())
    if figures.get("inner_steps"):
        yield "steps", f"{format_count(figures['inner_steps'], 'inner step')}, {figures.get('outer_steps')} outer"


def _format_figure(value: object) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value else None
