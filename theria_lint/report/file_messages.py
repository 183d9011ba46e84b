"""The messages of files that cannot be read or checked, and of comments that silence nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from theria.wording import Message, list_names, shorten, tell_error
from theria_lint.errors import suggest_name
from theria_lint.reasons import ReasonCode as R
from theria_lint.report.call_help import format_target_table
from theria_lint.report.message_parts import Data

_SMALLER = ("exclude it or split it",)


def _format_size(size: float) -> str:
    return f"{size / 2**20:.0f} MB" if size >= 2**20 else f"{size / 2**10:.0f} kB"


def _tell_no_such_target(data: Data) -> Message:
    return Message(
        f"defines no `{shorten(data['symbol'])}`, which the configuration calls a target",
        helps=(f"correct this entry:\n{format_target_table(data['target'])}",),
    )


def _suggest_rule(code: str, known: Sequence[str]) -> tuple[str, ...]:
    near = suggest_name(code, known)
    return (near.strip(" ()"),) if near else ()


def _tell_unused_comment(data: Data) -> Message:
    code = f"[{shorten(data['rule'])}]" if data["rule"] else ""
    return Message(f"unused `theria: ignore{code}`: there is no such suspect here", helps=("remove it",))


FILES: Mapping[R, Message | Callable[[Data], Message]] = {
    R.FILE_UNREADABLE: lambda d: tell_error(d["message"], "", "cannot be read"),
    R.FOLDER_UNREADABLE: lambda d: tell_error(d["message"], "", "cannot be listed"),
    R.FILE_TOO_LARGE: lambda d: Message(
        f"is {_format_size(d['size'])}, more than the {_format_size(d['largest'])} that are read", helps=_SMALLER
    ),
    R.NOT_A_FILE: Message("is not a file"),
    R.LINK_OUT: Message("is a link out of the project"),
    R.ENCODING_UNKNOWN: lambda d: Message(
        f"is in the encoding {shorten(d['encoding'])!r}, which is unknown", helps=("save it as UTF-8",)
    ),
    R.ENCODING_WRONG: lambda d: Message(
        f"is not valid {shorten(d['encoding'])}", helps=("declare its encoding (PEP 263) or save it as UTF-8",)
    ),
    R.NOT_JSON: Message("is not valid JSON"),
    R.NOT_A_NOTEBOOK: lambda d: tell_error(d["message"], "", "is not a valid notebook"),
    R.NOT_PARSED: lambda d: tell_error(d["message"], "", "does not parse"),
    R.NESTED_TOO_DEEPLY: Message("is nested too deeply to be checked", helps=("exclude it",)),
    R.PARSER_CRASHED: Message("made the parser crash", helps=("exclude it: it is nested too deeply, or too large",)),
    R.TOO_SLOW_TO_CHECK: lambda d: Message(
        f"takes more than {d['seconds']:.0f} s of processor time to check", helps=_SMALLER
    ),
    R.TOO_MANY_ANCESTORS: lambda d: Message(f"has a class with more than {d['most']:.0f} ancestors", helps=_SMALLER),
    R.TOO_ENTANGLED: lambda d: Message(
        "is too entangled to be checked",
        (f"its functions name one another more than {d['most']:,.0f} times",),
        _SMALLER,
    ),
    R.TOO_MANY_PATTERNS: lambda d: Message(
        f"has more than is left of the {_format_size(d['largest'])} of patterns that are taken in all"
    ),
    R.INTERNAL_ERROR: lambda d: tell_error(d["kind"], d["message"], "could not be checked, an internal error"),
    R.CALL_OF_ANOTHER: lambda d: Message(f"is a call of {shorten(d['symbol'])} in {shorten(d['file'])}"),
    R.CALL_MALFORMED: lambda d: Message(f"has no {shorten(d['part'])} that is known"),
    R.TARGET_NOT_DEFINED: _tell_no_such_target,
    R.IGNORES_NO_RULE: lambda d: Message(
        f"`theria: ignore[{shorten(d['rule'])}]` names no rule",
        (f"the rules are {list_names(d['known'], 200)}",),
        _suggest_rule(d["rule"], (*d["known"], *d["names"])),
    ),
    R.IGNORES_NOTHING: _tell_unused_comment,
    R.IGNORES_HALF: lambda d: (
        Message("`theria: ignore-start` silences nothing", helps=("end the range with # theria: ignore-end",))
        if d["half"] == "unclosed"
        else Message("`theria: ignore-end` ends no range", helps=("begin one with # theria: ignore-start",))
    ),
}
