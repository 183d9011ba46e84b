"""Say in words what a measurement rests its verdict on: a head that fits a line, and notes below it. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from theria.verdicts import Ground, Reason

LONGEST_HEAD = 100
"""Characters that the head of a message may have."""

LONGEST_NAME = 40
"""Characters of a name in a head; of a longer one the middle is left out."""

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """What is told of a reason: what it is, the numbers and details behind it, and what to do.

    The head is at most `LONGEST_HEAD` characters long; neither it nor a note ends with a full stop. A help may have
    further lines, which are a block to paste.
    """

    head: str
    notes: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The head and the notes on one line."""
        return "; ".join((self.head, *self.notes))


def describe(reason: Reason) -> str:
    """One line for a reason of a probe, without a full stop."""
    return compose_ground(reason).line


def compose_ground(reason: Reason) -> Message:
    """What is told of a reason of a probe."""
    message = _MESSAGES[Ground(reason.code)]
    return message if isinstance(message, Message) else message(reason.data)


def squeeze(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())


def shorten(text: str, most: int = LONGEST_NAME) -> str:
    """A text on one line; what is longer than ``most`` characters loses its middle."""
    text = squeeze(text)
    if len(text) <= most:
        return text
    begin = (most - 1) // 2
    return f"{text[:begin]}…{text[len(text) - (most - 1 - begin) :]}"


def list_names(names: Sequence[str], room: int = LONGEST_NAME, last: str = " and ") -> str:
    """Names with commas, as many as fit in ``room`` characters, the first at least, and how many more there are."""
    shown = [shorten(names[0], room)] if names else []
    for name in names[1:]:
        if len(", ".join((*shown, name))) > room:
            break
        shown.append(name)
    left = len(names) - len(shown)
    if left:
        return f"{', '.join(shown)} and {left} more"
    return last.join(part for part in (", ".join(shown[:-1]), *shown[-1:]) if part)


def format_percent(share: float | None) -> str:
    """A share of one as people say it."""
    if share is None:
        return "infinitely much"
    percent = 100 * share
    if percent >= 1000:
        return f"{share:.2g} times"
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


def format_count(count: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def quote_error(kind: str, message: str) -> str:
    """What was raised, whole and on one line."""
    return squeeze(f"{kind}: {message}" if message else kind)


def attach(before: str, inner: Message | Reason, *notes: str, helps: Sequence[str] = (), by: str = ": ") -> Message:
    """A message that gives another as its cause: in the head where there is room, else as its first note."""
    if isinstance(inner, Reason):
        inner = compose_ground(inner)
    head = f"{before}{by}{inner.head}"
    if len(head) <= LONGEST_HEAD:
        return Message(head, (*inner.notes, *notes), (*inner.helps, *helps))
    return Message(before, (inner.head, *inner.notes, *notes), (*inner.helps, *helps))


def tell_error(kind: str, message: str, before: str = "") -> Message:
    """What was raised: behind ``before`` in the head where it fits, else in a note."""
    whole = quote_error(kind, message)
    head = f"{before}: {whole}" if before else whole
    if len(head) <= LONGEST_HEAD:
        return Message(head)
    return Message(before or shorten(kind, LONGEST_HEAD), (whole,))


def _compose_signal_lost(data: Data) -> Message:
    count, carry = len(data["blocks"]), "may carry" if data["unclear"] else "carry"
    if count == 1:
        head = "nothing raises, and the one Hessian block that carries signal is missing"
    else:
        head = f"nothing raises, and all {count} Hessian blocks that {carry} signal are missing"
    return Message(head, tuple(_note_gradients(data)))


def _compose_blocks_lost(data: Data) -> Message:
    bad = {"missing": data["missing"], "NaN": data.get("nan", []), "infinite": data.get("infinite", [])}
    bad["wrong"] = [name for name in data["wrong"] if name not in (*bad["NaN"], *bad["infinite"])]
    found = {word: names for word, names in bad.items() if names}
    first = tuple(_note_gradients(data))
    if not found:
        return Message(f"nothing raises, but {first[0]}")
    parts = [f"{len(names)} {'is' if len(names) == 1 else 'are'} {word}" for word, names in found.items()]
    if len(found) == 1 and found.keys() <= {"NaN", "infinite"}:
        head = f"nothing raises, but the second derivative is {next(iter(found))}"
    else:
        listed = list_names(parts, LONGEST_HEAD)
        head = f"nothing raises, but of the second derivatives {listed}"
    notes = [f"{word}: {', '.join(names)}" for word, names in found.items() if word != "wrong"]
    if bad["wrong"]:
        notes.append(f"wrong: {', '.join(bad['wrong'])}, by {format_percent(data['error'])} of the norm at worst")
    return Message(head, (*notes, *first))


_NODES = {
    "nan": "it becomes NaN in",
    "raises": "what raises is",
    "own": "a backward that is not PyTorch's own runs:",
}


def _compose_node(data: Data) -> Message:
    where = f" (line {data['line']:.0f} of {shorten(data['file'])})" if data["file"] and data["line"] else ""
    return Message(f"{_NODES.get(data['kind'], 'it is made by')} {shorten(data['operator'], 30)}{where}")


def _note_gradients(data: Data) -> Iterator[str]:
    names = data["gradients"]
    if names:
        off = f"by {format_percent(data['gradient_error'])} of the norm"
        if len(names) == 1:
            yield f"the gradient of {shorten(names[0])} is wrong already, {off}"
        else:
            yield f"the gradients of {list_names(names)} are wrong already, {off} at worst"


def _compose_curvature(data: Data) -> Message:
    off = f"off by {format_percent(data['share'])} of its norm"
    notes = [f"{word} for {list_names(data[word], 200)}" for word in ("missing", "wrong") if data[word]]
    return Message(f"nothing raises, but the Hessian-vector product is {off}", tuple(notes))


def _compose_raising(data: Data) -> Message:
    order = "second" if data["order"] == 2 else "first"
    head = f"the {order} differentiation raises{' where its graph is asked for' if data['once'] else ''}"
    message = data["message"]
    notes = [f"the error: {message}" if message else "its node is in the graph, pruned by autograd.grad"]
    notes += [f"where it is differentiated by {route}" for route in data["routes"]]
    if data["lost"] is not None:
        notes.append(f"autograd.grad does not raise, but loses {format_count(data['lost'], 'block')}")
    notes += [f"differentiated by {route}, it loses every block in silence" for route in data["silent"]]
    return Message(head, tuple(notes))


def _compose_not_probed(data: Data) -> Message:
    return Message(f"not probed on {shorten(data['configuration'], 80)}", (quote_error(data["kind"], data["message"]),))


def _compose_unused(data: Data) -> Message:
    names = list_names(data["inputs"], 30)
    one = len(data["inputs"]) == 1
    return Message(
        f"autograd calls {names} unused, and the true gradient{'' if one else 's'} {'is' if one else 'are'} not zero",
        (f"norm of the {'true gradient' if one else 'largest of them'}: {_number(data['norm'], '.3g')}",),
    )


def _number(value: float | None, form: str = ".2g") -> str:
    return "inf" if value is None else format(value, form)


_OTHER_ARGUMENTS = "give other arguments, or the oracle that fits, in the configuration"

_MESSAGES: Mapping[Ground, Message | Callable[[Data], Message]] = {
    Ground.ALL_AGREE: lambda d: Message(
        f"all gradients and blocks agree with the oracle (largest relative error {_number(d['largest_error'], '.1e')})"
    ),
    Ground.SIGNAL_LOST: _compose_signal_lost,
    Ground.BLOCKS_LOST: _compose_blocks_lost,
    Ground.ROUTE_LOST: lambda d: Message(
        "nothing raises, but one way to differentiate loses or corrupts derivatives",
        (
            f"where it is differentiated by {d['route']}",
            f"of the gradients, the derivatives in {list_names(d['variables'], 200)}",
        ),
    ),
    Ground.CURVATURE_LOST: _compose_curvature,
    Ground.GRADIENT_WRONG: lambda d: Message(
        "nothing raises, but the gradient is not that of the forward",
        (f"off by {format_percent(d['error'])} along a direction",),
    ),
    Ground.DIFFERENTIATION_RAISES: _compose_raising,
    Ground.NODE_FOUND: _compose_node,
    Ground.NEVER_DIFFERENTIABLE: lambda d: tell_error(d["message"], "", "the first differentiation raises"),
    Ground.INPUT_UNUSED: _compose_unused,
    Ground.OUTPUT_OUTSIDE_GRAPH: Message(
        "the output is outside the graph: it does not require grad although every input does"
    ),
    Ground.BACKWARD_NOT_RUNNABLE: lambda d: attach("its backward could not be run here", d["reason"]),
    Ground.FORWARD_NOT_FINITE: Message("its forward returns numbers that are not finite"),
    Ground.FORWARD_NOT_FINITE_NEARBY: Message(
        "its forward is not finite a short way from where it was probed", helps=(_OTHER_ARGUMENTS,)
    ),
    Ground.FORWARD_NOT_REPEATABLE: Message(
        "its forward gives another output when it is called again with the same inputs"
    ),
    Ground.NO_DEPENDENCE: lambda d: Message(
        f"its output does not depend on {list_names(d['inputs'] or ['its inputs'])} as it was called",
        ("there is no derivative to lose",),
    ),
    Ground.ORACLE_DOUBTFUL: lambda d: Message(
        "its forward is too coarse or too steep for finite differences to judge it",
        (f"not judged: {list_names(d['judged'], 200)}",),
        (_OTHER_ARGUMENTS,),
    ),
    Ground.RAISED: lambda d: tell_error(d["kind"], d["message"]),
    Ground.OTHER_CONFIGURATION: lambda d: Message(f"{shorten(d['configuration'], 70)}: {d['verdict']}"),
    Ground.NOT_PROBED: _compose_not_probed,
}
