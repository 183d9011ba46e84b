"""What a target is with a suspect and without it, in two columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from theria.verdicts import Verdict
from theria.wording import Message
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report.html.markup import Markup, join_children, render_badge, render_prose, tag
from theria_lint.report.message_parts import Data, contrast, note_changes
from theria_lint.report.sentences import compose_message

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
