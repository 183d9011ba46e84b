"""The messages of what was not run, of processes that came to a bad end, and of targets that could not be called."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from theria.wording import Message, shorten, squeeze, tell_error
from theria_lint.reasons import ReasonCode as R
from theria_lint.report.call_help import RECORD, TIMEOUT, iter_call_helps
from theria_lint.report.message_parts import Data, attach, describe_exit

_NO_IMPORT = "it could not be imported"
_ALONE = "make the file importable by itself, as Python would import it here"


def _tell_no_call(data: Data) -> Message:
    inner = data["reason"]
    helps = iter_call_helps(data) if data["target"] else ()
    return attach("no way to call it worked", Message(inner.head, inner.notes), helps=tuple(helps))


def _tell_missing_package(data: Data) -> Message:
    return Message(
        f"{_NO_IMPORT}: {shorten(data['package'])} is missing",
        helps=(f"install it in the environment of {squeeze(data['interpreter'])}, or choose another with --python",),
    )


def _tell_no_worker(data: Data) -> Message:
    inner = data["reason"]
    looked = tuple(f"looked at {message.head}" for message in data["looked_at"])
    return attach("nothing was run", Message(inner.head, (*inner.notes, *looked), inner.helps))


def _refuse(what: str) -> Callable[[Data], Message]:
    return lambda data: attach(f"it {what}, which a probe may not do", data["reason"])


_CHOOSE = "choose an interpreter that has torch: --python PATH, or THERIA_LINT_PYTHON=PATH in the environment"
_INSTALL = "install theria-lint[confirm] there, or choose another interpreter with --python"

OBSTACLES: Mapping[R, Message | Callable[[Data], Message]] = {
    R.NOT_CONFIRMED: Message("not run (--no-confirm)"),
    R.NOTEBOOK: Message("not run: notebooks are checked statically only"),
    R.STANDARD_INPUT: Message(
        "not run: standard input is checked statically only", helps=("save the file to have it run",)
    ),
    R.CONFIRMING_OFF: Message("not run: confirming is switched off"),
    R.UNSAVED: Message("not run yet", helps=("save the file to have it run",)),
    R.OUTSIDE_WORKSPACE: Message("not run: the file is outside the workspace"),
    R.AS_LAST_SAVED: lambda d: attach("as last saved", d["reason"]),
    R.NO_WORKER: _tell_no_worker,
    R.NO_TORCH: Message("no interpreter that may run the code has torch", helps=(_CHOOSE,)),
    R.INTERPRETER_WITHOUT_TORCH: lambda d: Message(f"{shorten(d['interpreter'], 80)}: it has no torch"),
    R.INTERPRETER_UNTRUSTED: lambda d: Message(
        f"{shorten(d['interpreter'], 50)} is the project's choice of interpreter",
        ("what a project brings runs nothing until you trust it",),
        ("say --trust to allow it from now on, or choose another with --python",),
    ),
    R.INTERPRETER_TRUSTED: lambda d: Message(
        f"{shorten(d['interpreter'], 50)} runs the code: you trust it for this project"
    ),
    R.INTERPRETER_FAILS: lambda d: tell_error(
        d["interpreter"], d["message"], "the interpreter that was chosen cannot be started"
    ),
    R.INTERPRETER_UNFIT: lambda d: attach(
        shorten(d["interpreter"], 60), d["reason"], helps=() if d["reason"].helps else (_INSTALL,)
    ),
    R.TORCH_NOT_IMPORTED: lambda d: tell_error(d["kind"], d["message"], "torch cannot be imported"),
    R.NO_CUDA: Message(
        "--device cuda was asked for, and torch sees no CUDA GPU", helps=("leave out --device, or run where one is",)
    ),
    R.NO_GREETING: Message("it ended before it answered"),
    R.NO_SENSE: lambda d: Message("what it answers cannot be right", (f"it {d['problem']}",)),
    R.SKIPPED: Message("the configuration says to skip it"),
    R.INTERRUPTED: Message("interrupted", helps=("run theria-lint again",)),
    R.NO_TARGET: Message(
        "nothing that can be called by itself was found to run it",
        helps=("name a function or module that runs it as a target in the configuration",),
    ),
    R.WORKER_ENDED: Message("it ended the process that watched over it, or importing its file did"),
    R.NOT_REWRITTEN: lambda d: tell_error(d["kind"], d["message"], "it could not be rewritten"),
    R.NONSENSE_ANSWER: lambda d: Message("its process gave an answer that cannot be one", (f"it {d['problem']}",)),
    R.TOO_MANY_ANSWERS: Message("its process gave more answers than there are targets"),
    R.WRITES_TOO_MUCH: lambda d: Message(f"its file writes {shorten(d['excess'], 60)}"),
    R.IMPORT_TOO_SLOW: lambda d: Message(f"{_NO_IMPORT}: that took more than {d['seconds']:.0f} s", helps=(TIMEOUT,)),
    R.IMPORT_EXITS: Message(f"{_NO_IMPORT}: it exits when it is imported", helps=(_ALONE,)),
    R.IMPORT_RAISES: lambda d: attach("", tell_error(d["kind"], d["message"], _NO_IMPORT), helps=(_ALONE,), by=""),
    R.IMPORT_ENDS_PROCESS: lambda d: Message(f"{_NO_IMPORT}: importing it {describe_exit(d)}"),
    R.PACKAGE_MISSING: _tell_missing_package,
    R.FILE_CHANGED: lambda d: Message(
        f"it was not run: {shorten(d['file'])} has changed since it was checked", helps=("run theria-lint again",)
    ),
    R.NOT_DEFINED: lambda d: Message(
        f"its module does not define {shorten(d['symbol'])} when it is imported here",
        ("it stands in a branch that is not taken",),
    ),
    R.OUT_OF_MEMORY: lambda d: Message(
        f"it needs more than the {d['gib']:.3g} GiB of memory that a probe may take",
    ),
    R.EXITS: Message("it exits the process when it is called"),
    R.PROBE_RAISES: lambda d: tell_error(d["kind"], d["message"], "the probe could not run it"),
    R.PROBE_TOO_SLOW: lambda d: Message(f"it did not end within {d['seconds']:.0f} s", helps=(TIMEOUT,)),
    R.ENDS_PROCESS: lambda d: Message(f"it {describe_exit(d)}"),
    R.STARTS_PROCESS: _refuse("starts a process"),
    R.USES_NETWORK: _refuse("uses the network"),
    R.SIGNALS_PROCESS: _refuse("signals another process"),
    R.WRITES_OUTSIDE: _refuse("writes outside its temporary folder"),
    R.NOT_CALLABLE: _tell_no_call,
    R.OUTSIDE_GRAPH_ONLY: Message(
        "its package runs it outside the graph only", ("it runs inside the forward of an autograd.Function",)
    ),
    R.NOTHING_TO_TRY: Message("nothing to try"),
    R.SEARCH_TOO_SLOW: Message("trying to call it took too long", helps=(TIMEOUT,)),
    R.ADAPTER_FAILS: lambda d: tell_error(
        d["kind"],
        d["message"],
        f"the adapter file {shorten(d['file'])} cannot be imported" + (f" (line {d['line']:.0f})" if d["line"] else ""),
    ),
    R.ADAPTER_UNFIT: lambda d: attach(
        f"the adapter does not work (line {d['line']:.0f} of {shorten(d['file'])})",
        Message(d["reason"].head, d["reason"].notes),
    ),
    R.WANTS_GPU: Message("the configuration wants it on a GPU", helps=("run with --device cuda where there is one",)),
    R.OUTPUT_NOT_FINITE: Message(
        "its forward returns numbers that are not finite", ("for the arguments that were made up for it",)
    ),
    R.GRADIENTS_NOT_FINITE: Message(
        "its backward returns numbers that are not finite", ("for the arguments that were made up for it",)
    ),
    R.MEMORY_NOT_WRITTEN: Message(
        "its kernels return memory that they have not written", ("for the arguments that were made up for it",)
    ),
    R.SEQUENCES_MIXED: Message("its output does not keep apart the sequences whose ends were made up for it"),
    R.INPUTS_IGNORED: Message("its output does not depend on its inputs as it was called"),
    R.POSITIONS_APART: Message("no position of its output depends on another position of its input as it was called"),
    R.NOT_RECORDED: Message(
        "no call of it was recorded, and --calls recorded guesses none",
        helps=(RECORD,),
    ),
    R.STALE_CALL: lambda d: Message(
        f"the call by {shorten(d['caller'], 60)} is stale", (d["message"],), ("record it again",)
    ),
    R.LOST_ARGUMENT: lambda d: tell_error(d["message"], "", "an argument cannot be made again"),
    R.CALLS_UNUSED: lambda d: attach("not called as recorded, which does not work", d["reason"]),
}
