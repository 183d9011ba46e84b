"""What messages are made of: a reason within another, the end of a process, suspects and blocks by name.

And the help that many of them give: how a user can tell how a target is called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from theria.wording import LONGEST_HEAD, Message, format_count, shorten

Data = Mapping[str, Any]

_SHOWN = 2
"""How many of the blocks that a suspect makes worse are named."""

BY_HAND = "replace it by hand with code that autograd records, and lint again"
RECORD = 'Let your own calls show how: "theria-lint record -- pytest" keeps what your tests call it with'
"""What helps wherever made-up arguments do not fit."""

TIMEOUT = "give it more with --timeout"
ON_GPU = "lint where there is a GPU, with --device cuda"


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


def iter_call_helps(data: Mapping[str, Any]) -> Iterator[str]:
    """The ways to tell how a target is called, the shortest first; of those, what can work for this target alone.

    Guesses are offered that a configuration can hold. The order of axes is, where nothing else had to be guessed.
    """
    target, values = data["target"], data["values"]
    if values:
        block = format_target_table(target, f"kwargs = {_format_toml(values)}")
        yield f"Say how it is called, with values of yours in the place of these guesses:\n{block}"
    elif data["has_layout"] and not data["guessed"]:
        block = format_target_table(target, 'layout = "BTHD"')
        yield f"Say how the axes of q, k and v lie, in letters as these (batch, time, heads, dimension):\n{block}"
    takes = "x that builds and calls it" if data["is_class"] else "q, k, v that calls it"
    marked = f"@theria.testing.target({_format_toml(target)})"
    yield f"Write a function of {takes}, in a file that `adapters` names, and mark it:\n{marked}"
    yield RECORD


def format_target_table(target: str, *lines: str) -> str:
    """The table of ``pyproject.toml`` for a target."""
    return "\n".join(("[[tool.theria-lint.targets]]", f"target = {_format_toml(target)}", *lines))


def _format_toml(value: Any) -> str:
    """A value as TOML writes it; text is written as Python writes it too."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_format_key(key)} = {_format_toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_format_toml, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _format_key(name: str) -> str:
    return name if name.isascii() and name.isidentifier() else _format_toml(name)
