"""The messages of notes about a whole run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from theria.wording import Message, attach, format_count, list_names, shorten, squeeze, tell_error
from theria_lint.reasons import ReasonCode as R
from theria_lint.report.message_parts import Data

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
