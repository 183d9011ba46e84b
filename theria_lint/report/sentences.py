"""Put reasons into words: a message for each code, with the messages of the reasons within it. The only place to.

A message becomes one line (`say`) or, where it is worth knowing beside a report, a line for each of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from theria.verdicts import Ground, Reason
from theria.wording import Message, compose_ground, squeeze
from theria_lint.errors import UserError
from theria_lint.reasons import ReasonCode
from theria_lint.report.measurement_messages import GROUND_HELPS, MEASUREMENTS, SHIMS, describe_configuration
from theria_lint.report.obstacle_messages import DETAILS, OBSTACLES
from theria_lint.report.ruling_messages import RULINGS
from theria_lint.report.run_messages import FILES, PROTECTIONS, RUN_NOTES
from theria_lint.report.style import escape_unprintable, inert

MessageMaker = Callable[[Mapping[str, Any]], Message]

_GROUNDS = frozenset[str](Ground)
_MESSAGES: Mapping[ReasonCode, Message | MessageMaker] = {
    **FILES,
    **OBSTACLES,
    **DETAILS,
    **MEASUREMENTS,
    **SHIMS,
    **RULINGS,
    **RUN_NOTES,
    **PROTECTIONS,
}
_NOTHING = Message("")


def compose_message(reason: Reason | None) -> Message:
    """What is told of a reason: a head that fits a line, notes, and what helps; nothing where there is none."""
    if reason is None:
        return _NOTHING
    if reason.code in _GROUNDS:
        ground = compose_ground(Reason(reason.code, _compose_inner(reason)))
        return _tidy(replace(ground, helps=GROUND_HELPS.get(Ground(reason.code), ground.helps)))
    found = _MESSAGES[ReasonCode(reason.code)]
    return _tidy(found if isinstance(found, Message) else found(_compose_inner(reason)))


def _tidy(message: Message) -> Message:
    """A message each part of which is one line, but for blocks to paste, with no help given twice."""
    helps = dict.fromkeys(help_[:1].upper() + help_[1:] for help_ in message.helps)
    return Message(squeeze(message.head), tuple(map(squeeze, message.notes)), tuple(helps))


def _compose_inner(reason: Reason) -> dict[str, Any]:
    """The data of a reason, with messages for the reasons in it."""
    told = {name: _compose_value(value) for name, value in reason.data.items()}
    if "configuration" in told:
        told["configuration"] = describe_configuration(told["configuration"])
    return told


def _compose_value(value: Any) -> Any:
    if isinstance(value, Reason):
        return compose_message(value)
    if isinstance(value, list | tuple):
        return [_compose_value(item) for item in value]
    return value


def say(reason: Reason | None) -> str:
    """One line for a reason, without a full stop and without what helps; nothing where there is none."""
    return compose_message(reason).line


def say_all(reasons: Sequence[Reason]) -> list[str]:
    """A line for each of some reasons."""
    return [say(reason) for reason in reasons]


def list_note_lines(reasons: Iterable[Reason]) -> list[str]:
    """The lines for some notes: a head each, and below it what belongs to it."""
    return [inert(escape_unprintable(line)) for reason in reasons for line in _iter_lines(reason)]


def _iter_lines(reason: Reason) -> Iterator[str]:
    message = compose_message(reason)
    yield f"Note: {message.head}"
    yield from (f"  note: {note}" for note in message.notes)
    for help_ in message.helps:
        first, *block = help_.split("\n")
        yield f"  help: {first}"
        yield from (f"      {line}" for line in block)


def say_lacking_protections(protections: Mapping[str, Reason | None]) -> str:
    """The protections of the code that was run that this machine did not give; nothing where it gave all."""
    lacking = [f"{name} ({say(refusal)})" for name, refusal in protections.items() if refusal is not None]
    return f"Protections that this machine did not give: {'; '.join(lacking)}." if lacking else ""


def describe_user_error(error: UserError) -> str:
    """What is wrong with the call or the configuration, as one sentence."""
    if error.cause is None:
        return f"{str(error).rstrip('.')}."
    return f"{error}: {compose_message(Reason(error.cause.code, error.cause.data)).line}."
