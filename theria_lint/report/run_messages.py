"""The messages of files that cannot be read or checked, of comments that silence nothing, and of a run as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from theria.wording import Message, attach, format_count, list_names, shorten, squeeze, tell_error
from theria_lint.errors import suggest_name
from theria_lint.reasons import ReasonCode as R
from theria_lint.report.message_parts import Data, format_target_table

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

RUN_NOTES: Mapping[R, Message | Callable[[Data], Message]] = {
    R.NO_FILES: Message("No Python files found"),
    R.TRUST_GIVEN: lambda d: Message(
        f"{shorten(d['interpreter'], 60)} is trusted from now on", (f"to run the code of {d['root']}",)
    ),
    R.NOTHING_TO_TRUST: Message("the project chooses no interpreter: there is nothing to trust"),
    R.EXCLUDED: lambda d: Message(f"{shorten(d['file'], 60)} is excluded by the configuration"),
    R.NOT_HEEDED: lambda d: attach(
        f"{shorten(d['file'], 60)} is not heeded: it", replace(d["reason"], helps=()), by=" "
    ),
    R.LINKS_OUT: lambda d: Message(
        "links that lead out of the directory that is checked are not followed",
        (list_names(d["files"], 200),),
        ("name what they lead to, to have it checked",),
    ),
    R.CACHE_FOREIGN: lambda d: Message(
        "no results are kept: the folder for them is none of theria-lint's",
        (d["folder"],),
        ("remove it, or name another place with --cache-dir",),
    ),
    R.LEFT_OUT: lambda d: Message(
        f"the {d['seconds']:.3g} s of --max-time were spent before all had run",
        tuple(
            f"{what}: {'; '.join(map(squeeze, d[name]))}"
            for name, what in (("unmeasured", "not measured"), ("undecided", "with suspects that stay undecided"))
            if d[name]
        ),
        ("run theria-lint again: it goes on from what is kept",),
    ),
    R.UNSAFE_UNSELECTED: lambda d: Message(
        f"{format_count(len(d['targets']), 'unsafe target')} not shown, by rules that were not asked for",
        (list_names(d["targets"], 200),),
        ("leave out --select and --ignore to see why",),
    ),
    R.BASELINE_STALE: lambda d: Message(
        f"the baseline {shorten(d['file'])} accepts {format_count(int(d['count']), 'finding')} no longer there",
        helps=("--write-baseline brings it up to date",),
    ),
    R.CALL_FILE_UNUSED: lambda d: Message(
        "a recorded call is not used",
        (f"{d['file']}: it {d['reason'].line}",),
        ("record it again, with theria-lint record",),
    ),
}

PROTECTIONS: Mapping[R, Message | Callable[[Data], Message]] = {
    R.SYSTEM_REFUSES: lambda d: tell_error(d["message"], "", "the system refuses"),
    R.PRIVILEGES_KEPT: Message("the system does not let them be dropped"),
    R.PROCESSES_NOT_ASKED: lambda d: tell_error(d["message"], "", "the system does not let us be asked"),
    R.OLD_LANDLOCK: Message("this kernel's Landlock does not keep files from being truncated"),
    R.NO_NAMESPACES: Message("the system lets this user have no user namespaces"),
    R.FOLDERS_WATCHED: lambda d: Message(
        f"folders are watched, and ended beyond {d['mib']:.0f} MiB or {d['files']:.0f} files"
    ),
    R.NOT_TRIED: Message("they could not be tried"),
}
"""Why a protection does not hold, or not wholly."""
