"""The messages of rulings: why a suspect is confirmed, cleared or neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from theria.wording import Message, attach, list_names, shorten
from theria_lint.reasons import ReasonCode as R
from theria_lint.report.measurement_messages import MATH_PATH
from theria_lint.report.message_parts import (
    BY_HAND,
    ON_GPU,
    TIMEOUT,
    Data,
    contrast,
    extend,
    list_others,
    name_others,
    name_suspects,
    note_changes,
)

_LINT_AGAIN = "mend that, and lint again"


def _target(data: Data, most: int = 40) -> str:
    return shorten(data["target"], most)


def _alone(data: Data) -> str:
    return " as the only suspect left" if data["alone"] else ""


def _tell_unsafe_with_it(data: Data) -> Message:
    notes = (*contrast(data["reason"], data["reason_without"]), *note_changes(data["changes"]))
    return Message(f"with it {_target(data)} is {data['verdict']}; without it {data['verdict_without']}", notes)


def _tell_unsafe_otherwise(data: Data) -> Message:
    told = _tell_unsafe_with_it(data)
    head = f"with it {_target(data, 34)} is {data['verdict']}; without it still {data['verdict_without']}"
    return Message(head, (*told.notes, "so the cause lies deeper"))


def _tell_unsafe_beside(data: Data) -> Message:
    others = data["others"]
    notes = (
        *contrast(data["reason"], Message(f"{_target(data)} is {data['verdict_without']}")),
        *note_changes(data["changes"]),
        *list_others(others),
    )
    return Message(f"beside {name_others(others)} it makes {_target(data)} {data['verdict']}", notes)


def _tell_unsafe_together(data: Data) -> Message:
    others = data["others"]
    inner = data["reason"]
    notes = (
        f"with all of them, {inner.head}",
        f"without them, {_target(data)} is {data['verdict_without']}",
        *inner.notes,
        *note_changes(data["changes"]),
        *list_others(others),
    )
    return Message(f"together with {name_others(others)} it makes {_target(data, 36)} {data['verdict']}", notes)


def _tell_nothing_to_compare(data: Data) -> Message:
    failure = "fails otherwise" if data["fails_otherwise"] else "does not run"
    inner = data["reason"]
    notes = (f"without it the code {failure}: {inner.head}", *inner.notes)
    head = f"{_target(data, 36)} is {data['verdict']}, and nothing shows whether it is to blame"
    return Message(head, notes, (BY_HAND,))


def _tell_unsafe_without_others(data: Data) -> Message:
    others = " with all suspects out that can be" if data["without_others"] else ""
    apart = (f"no rewrite tells it apart from {name_suspects(data['peers'])}",) if data["peers"] else ()
    return Message(
        f"{_target(data)} is {data['verdict']}{others}", (data["reason"].head, *data["reason"].notes, *apart)
    )


def _tell_may_be_hidden(data: Data) -> Message:
    by = name_suspects(data["by"]) or "what is no suspect"
    return Message(
        f"{_target(data)} is {data['verdict']} with and without it", (f"{by} may hide what it does",), (_LINT_AGAIN,)
    )


def _tell_substituted(data: Data) -> Message:
    if data["backward"]:
        means = f"with autograd of the forward in the place of {data['backward']}"
    else:
        means = "with the tensor computed again on the graph where the backward unpacks it"
    return extend(data["reason"], f"without it means {means}")


def _tell_blamed_elsewhere(data: Data) -> Message:
    places = [f"{s['rule']} on line {s['line']} of {s['path']}" for s in data["suspects"][:3]]
    more = f" and {len(data['suspects']) - 3} more" if len(data["suspects"]) > 3 else ""
    return extend(
        data["reason"], f"to blame outside the linted files: {', '.join(places)}{more}", helps=("lint those files too",)
    )


def _tell_not_reached(data: Data) -> Message:
    names = list_names(data["targets"], 50)
    if data["gpu"]:
        return Message(f"not reached by {names} on this machine", ("this branch asks for a GPU",), (ON_GPU,))
    return Message(
        f"not reached by {names} as the probe calls it",
        helps=(
            "name arguments that take this branch, as kwargs of the target in the configuration, or record a call that "
            "does, with theria-lint record",
        ),
    )


RULINGS: Mapping[R, Message | Callable[[Data], Message]] = {
    R.TARGET_INCONCLUSIVE: lambda d: attach(f"{_target(d)} is inconclusive", d["reason"]),
    R.TARGET_NOT_RUN: lambda d: attach(f"{_target(d)} was not measured", d["reason"]),
    R.NOT_REACHED: _tell_not_reached,
    R.NOT_REACHED_IN_TIME: lambda d: Message(
        f"not reached by {list_names(d['targets'], 50)} in the time that it had", helps=(TIMEOUT,)
    ),
    R.NOT_REACHED_BEFORE_FAILURE: lambda d: Message(
        f"not reached by {list_names(d['targets'], 50)}, which is unsafe before", helps=(_LINT_AGAIN,)
    ),
    R.SAFE_WITH_IT: lambda d: attach(f"{_target(d)} is safe with it{_alone(d)}", d["reason"]),
    R.FUSED_KERNEL_NOT_MET: lambda d: Message(
        f"{_target(d)} is safe with it, but no fused kernel was met here", (MATH_PATH,), (ON_GPU,)
    ),
    R.SAFE_OFF_GPU: lambda d: Message(
        f"{_target(d)} is safe with it on the CPU", ("a GPU runs another kernel",), (ON_GPU,)
    ),
    R.UNSAFE_WITH_IT: _tell_unsafe_with_it,
    R.UNSAFE_OTHERWISE_WITHOUT_IT: _tell_unsafe_otherwise,
    R.WORSE_WITH_IT: lambda d: Message(
        f"{_target(d)} is {d['verdict']} without it too, but worse with it", note_changes(d["changes"])
    ),
    R.CHANGES_NOTHING: lambda d: Message(
        f"{_target(d)} is {d['verdict']} with and without it", ("it changes no block",)
    ),
    R.UNSAFE_BESIDE: _tell_unsafe_beside,
    R.SAFE_BESIDE: lambda d: Message(
        f"{_target(d)} is safe with it beside {name_others(d['others'])}", list_others(d["others"])
    ),
    R.ENOUGH_TO_REMOVE: lambda d: Message(
        f"leaving it out is enough to make {_target(d)} safe",
        (f"without it, {d['reason'].head}", *d["reason"].notes, *note_changes(d["changes"])),
    ),
    R.VARIANT_DOES_NOT_RUN: lambda d: attach(
        f"{_target(d)} does not run with it as the only suspect left", d["reason"], helps=(BY_HAND,)
    ),
    R.SAFE_WITHOUT_OTHERS: lambda d: attach(
        f"{_target(d)} is safe with it once {name_others(d['others'])} is out", d["reason"], *list_others(d["others"])
    ),
    R.SAFE_WITHOUT_THE_OTHERS: lambda d: Message(f"{_target(d)} is safe once the other suspects are out"),
    R.NOTHING_TO_COMPARE: _tell_nothing_to_compare,
    R.UNSAFE_WITHOUT_OTHERS: _tell_unsafe_without_others,
    R.MAY_BE_HIDDEN: _tell_may_be_hidden,
    R.SUBSTITUTED: _tell_substituted,
    R.UNSAFE_TOGETHER: _tell_unsafe_together,
    R.CANCELLED: lambda d: attach(
        f"{_target(d)} is safe with it and {name_others(d['others'])} together",
        d["reason"],
        f"once {name_suspects(d['removed'])} is out",
    ),
    R.BLAMED_ELSEWHERE: _tell_blamed_elsewhere,
}
