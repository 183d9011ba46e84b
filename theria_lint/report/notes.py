"""What is worth knowing about a run beside its report, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from theria_lint.errors import UserError
from theria_lint.reasons import Reason
from theria_lint.report.sentences import compose_message, say
from theria_lint.report.style import escape_unprintable, inert


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
