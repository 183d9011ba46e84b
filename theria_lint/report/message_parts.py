"""What messages are made of: a reason within another, the end of a process, suspects and blocks by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from theria.wording import LONGEST_HEAD, Message, format_count, shorten

Data = Mapping[str, Any]

_SHOWN = 2
"""How many of the blocks that a suspect makes worse are named."""

BY_HAND = "replace it by hand with code that autograd records, and lint again"


def qualify(before: str, inner: Message, *notes: str, helps: Sequence[str] = ()) -> Message:
    """A message that holds with a reservation, which its head begins with where there is room."""
    head = f"{before}, {inner.head}"
    if len(head) > LONGEST_HEAD:
        return Message(inner.head, (before, *inner.notes, *notes), (*inner.helps, *helps))
    return Message(head, (*inner.notes, *notes), (*inner.helps, *helps))


def extend(inner: Message, *notes: str, helps: Sequence[str] = ()) -> Message:
    """A message with more notes, and more that helps."""
    return Message(inner.head, (*inner.notes, *notes), (*inner.helps, *helps))


def contrast(inner: Message, without: Message) -> tuple[str, ...]:
    """What is so with a suspect and what is so without it, on a line each, and then the details of both."""
    details = tuple(f"without it, {note}" for note in without.notes)
    return (f"with it, {inner.head}", f"without it, {without.head}", *inner.notes, *details)


def describe_exit(data: Data) -> str:
    """How a process ended."""
    if data["signal"]:
        return f"ended its process with {shorten(data['signal'], 20)}"
    return f"ended its process with exit code {data['exit_code']}"


def name_suspects(suspects: Sequence[Data]) -> str:
    """Suspects by their rules and lines."""
    return " and ".join(f"{suspect['rule']} on line {suspect['line']}" for suspect in suspects)


def name_others(suspects: Sequence[Data]) -> str:
    """Suspects in a head: one by its rule and line, more by how many there are."""
    return name_suspects(suspects) if len(suspects) == 1 else format_count(len(suspects), "other suspect")


def list_others(suspects: Sequence[Data]) -> tuple[str, ...]:
    """The note that names suspects of which the head says how many there are."""
    return (f"the others: {name_suspects(suspects)}",) if len(suspects) > 1 else ()


def note_changes(changes: Sequence[Data]) -> tuple[str, ...]:
    """The relative errors of the blocks that a suspect changes."""
    if not changes:
        return ()
    shown = [
        f"{change['block']} {_format_error(change['before'])} and {_format_error(change['after'])}"
        for change in changes[:_SHOWN]
    ]
    more = f", and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return (f"relative errors with it and without it: {', '.join(shown)}{more}",)


def _format_error(error: float | None) -> str:
    return "not finite" if error is None else f"{error:.2g}"
