"""What a target is with a suspect and without it, in two columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from theria.verdicts import Verdict
from theria.wording import Message
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report.html.markup import Markup, join_children, render_badge, render_prose, tag
from theria_lint.report.message_parts import Data, contrast, note_changes
from theria_lint.report.sentences import compose_message
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


_MOST_CHANGES = 4
_COMPARED = (ReasonCode.UNSAFE_WITH_IT, ReasonCode.UNSAFE_OTHERWISE_WITHOUT_IT)


def render_evidence(reason: Reason) -> tuple[Markup | None, Message]:
    """The two columns, where a reason compares two runs, and what is left to say in words."""
    told, compared = compose_message(reason), _find_comparison(reason)
    if compared is None:
        return None, told
    inner, without = (compose_message(compared[key]) for key in ("reason", "reason_without"))
    said = {*contrast(inner, without), *note_changes(compared["changes"])}
    columns = (
        _render_column("With it", compared["verdict"], inner),
        _render_column("Without it", compared["verdict_without"], without),
    )
    pair = tag("div", *columns, _render_changes(compared["changes"]), class_="pair")
    return pair, Message(told.head, tuple(note for note in told.notes if note not in said), told.helps)


def _find_comparison(reason: Reason) -> Data | None:
    while reason.code == ReasonCode.SUBSTITUTED:
        reason = reason.data["reason"]
    return reason.data if reason.code in _COMPARED else None


def _render_column(title: str, verdict: str, told: Message) -> Markup:
    notes = tag("ul", *(tag("li", render_prose(note)) for note in told.notes), class_="notes") if told.notes else None
    head = tag("h4", title, " ", render_badge(Verdict(verdict)))
    return tag("div", head, tag("p", render_prose(told.head)), notes)


def _render_changes(changes: Sequence[Data]) -> Markup | None:
    """The relative errors of blocks in both runs."""
    if not changes:
        return None
    shown = changes[:_MOST_CHANGES]
    rows = (tag("tr", tag("th", change["block"], scope="row"), *_iter_cells(change)) for change in shown)
    names = ("relative error of", "with it", "without it")
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    more = len(changes) - len(shown)
    last = tag("tr", tag("td", f"and {more} more", colspan=3, class_="soft")) if more else None
    return tag("table", tag("thead", head), tag("tbody", join_children(*rows), last), class_="numbers")


def _iter_cells(change: Data) -> Iterator[Markup]:
    for key in ("before", "after"):
        error = change[key]
        yield tag("td", "not finite" if error is None else f"{error:.2g}", class_="number")
