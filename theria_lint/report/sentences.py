"""Put reasons into words: a message for each code, with the messages of the reasons within it. The only place to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from theria.verdicts import Ground, Reason
from theria.wording import Message, compose_ground, squeeze
from theria_lint.reasons import ReasonCode
from theria_lint.report.file_messages import FILES
from theria_lint.report.measurement_messages import GROUND_HELPS, MEASUREMENTS, SHIMS, describe_configuration
from theria_lint.report.obstacle_messages import DETAILS, OBSTACLES
from theria_lint.report.ruling_messages import RULINGS
from theria_lint.report.run_messages import PROTECTIONS, RUN_NOTES

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
