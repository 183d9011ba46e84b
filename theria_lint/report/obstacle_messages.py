"""The messages of what was not run, of processes that came to a bad end, and of targets that could not be called."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from theria.wording import Message, attach, format_count, list_names, shorten, squeeze, tell_error
from theria_lint.reasons import ReasonCode as R
from theria_lint.report.message_parts import ON_GPU, RECORD, TIMEOUT, Data, describe_exit, iter_call_helps

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
    R.NO_SUCH_GPU: lambda d: Message(
        f"--device {shorten(d['device'], 20)} was asked for, and torch sees {format_count(int(d['count']), 'GPU')}",
        helps=("they are counted from 0: leave out the number to use all",),
    ),
    R.NO_GREETING: Message("it ended before it answered"),
    R.NO_SENSE: lambda d: attach("what it answers cannot be right", d["reason"]),
    R.EXECUTOR_EXTRA: lambda d: Message(
        f"the executor {shorten(d['executor'], 40)} needs a package that is missing",
        (squeeze(d["message"]),),
        (f"pip install 'theria-lint[{squeeze(d['extra'])}]', here and where the workers run",),
    ),
    R.EXECUTOR_UNREACHABLE: lambda d: Message(
        f"the executor {shorten(d['executor'], 40)} cannot be reached",
        (squeeze(d["message"]),),
        ("start it, or leave out --executor",),
    ),
    R.EXECUTOR_SILENT: lambda d: Message(
        f"no worker of the executor {shorten(d['executor'], 40)} has answered within {d['seconds']:.0f} s",
        helps=("see whether it has workers that are free",),
    ),
    R.EXECUTOR_FAILS: lambda d: attach(
        "",
        tell_error(d["kind"], d["message"], f"no worker of the executor {shorten(d['executor'], 40)} can run anything"),
        helps=("give the workers the environment that this machine has",),
        by="",
    ),
    R.WORKER_DIFFERS: lambda d: Message(
        f"the worker {shorten(d['worker'], 40)} has another {shorten(d['what'], 20)}",
        (f"{squeeze(d['there'])} there, {squeeze(d['here'])} here",),
        ("give both the same environment",),
    ),
    R.SKIPPED: Message("the configuration says to skip it"),
    R.INTERRUPTED: Message("interrupted", helps=("run theria-lint again",)),
    R.OUT_OF_BUDGET: lambda d: Message(
        f"not known after the {d['seconds']:.3g} s that the run was given",
        helps=("run theria-lint again: it goes on from what is kept; or give it more, by --max-time",),
    ),
    R.NO_TARGET: Message(
        "nothing that can be called by itself was found to run it",
        helps=("name a function or module that runs it as a target in the configuration",),
    ),
    R.WORKER_ENDED: Message("it ended the process that watched over it, or importing its file did"),
    R.WORKER_LOST: lambda d: tell_error(d["kind"], d["message"], "the worker that was to run it was lost, twice"),
    R.FILE_DIFFERS: lambda d: Message(
        f"it was not run: {shorten(d['file'], 40)} is another file on {shorten(d['worker'], 20)}",
        helps=("let the workers read the files that are linted, at the same path",),
    ),
    R.NOT_REWRITTEN: lambda d: tell_error(d["kind"], d["message"], "it could not be rewritten"),
    R.NONSENSE_ANSWER: lambda d: attach("its process gave an answer that cannot be one", d["reason"]),
    R.TOO_MANY_ANSWERS: Message("its process gave more answers than there are targets"),
    R.WRITES_TOO_MUCH: lambda d: attach("its file writes too much", d["reason"]),
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
    R.DEVICE_LOST: lambda d: tell_error(d["kind"], d["message"], "its process lost the GPU"),
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
    R.LOST_ARGUMENT: lambda d: attach("an argument cannot be made again", d["reason"]),
    R.CALLS_UNUSED: lambda d: attach("not called as recorded, which does not work", d["reason"]),
}

_UNFIT_TRIALS: Mapping[R, Message | Callable[[Data], Message]] = {
    R.NO_OUTPUT: lambda d: Message(
        "what it returns holds no floating-point tensor of its own", (f"it returned {squeeze(d['kind'])}",)
    ),
    R.NOTHING_IN_GRAPH: Message("nothing that it returns is in the graph"),
    R.NOTHING_TO_DIFFERENTIATE: Message("it takes no tensor that could be differentiated, and has no parameters"),
    R.NO_TENSOR_BY_POSITION: Message("its forward takes no tensor by position"),
    R.NO_TENSOR_PARAMETER: Message("no parameter of it is known to take a tensor"),
    R.NO_QKV_PARAMETERS: Message("no parameter takes q, k and v", ("these are q, k, v or query, key, value by name",)),
    R.NO_TENSOR_FROM_CALLER: Message("its caller does not give it anything to differentiate"),
    R.NOT_A_FUNCTION: lambda d: Message(f"what makes it returns {shorten(d['kind'])}, which cannot be called"),
    R.EXITS_WITH: lambda d: Message(f"it exits the process with {shorten(d['exit_code'])}"),
    R.NO_SUCH_ENTRY: lambda d: Message(f"the configuration that was made up for it has no {shorten(d['name'])}"),
    R.FORWARD_CHANGES: Message("its forward keeps other numbers when it is run again"),
    R.TRITON_GAP: lambda d: Message(f"Triton's interpreter has no {shorten(d['name'])}", helps=(ON_GPU,)),
    R.ASSEMBLY_UNKNOWN: lambda d: Message(
        "a kernel has inline assembly that needs a GPU", (squeeze(d["assembly"]),), (ON_GPU,)
    ),
    R.OUTSIDE_TENSORS: lambda d: Message(f"the kernel {shorten(d['access'])} outside the tensors that it was given"),
}

_KINDS = {"source": "Python source file", "object": "plain object", "record": "named tuple of as many parts"}

_LOST_ARGUMENTS: Mapping[R, Message | Callable[[Data], Message]] = {
    R.TOO_DEEP: Message("it is nested too deeply"),
    R.LAYOUT_NOT_KEPT: lambda d: Message(
        f"a tensor of layout {shorten(d['layout'], 20)} and {shorten(d['dtype'], 20)} is not kept"
    ),
    R.NUMBERS_NOT_FINITE: Message("a tensor has numbers that are not finite"),
    R.TENSOR_TOO_LARGE: lambda d: Message(f"a tensor of {d['numbers']:.0f} numbers is too large to be kept whole"),
    R.OBJECT_NOT_KEPT: lambda d: Message(f"{shorten(d['kind'])} is no type whose objects can be kept"),
    R.LOCAL_NAME: lambda d: Message(f"{shorten(d['name'])} is a local {shorten(d['kind'], 20)}"),
    R.BUILT_UNSEEN: lambda d: Message(f"nobody saw how a {shorten(d['kind'])} was built"),
    R.CALLS_UNSEEN: lambda d: Message(f"calls of a {shorten(d['kind'])} cannot be watched"),
    R.NOT_OF_KIND: lambda d: Message(
        f"{shorten(d['name'])} is no {shorten(str(_KINDS.get(d['kind'], d['kind'])), 30)}"
    ),
    R.NO_SUCH_NAME: lambda d: Message(f"there is no {shorten(d['kind'], 20)} {shorten(d['name'], 60)}"),
    R.TENSORS_UNREADABLE: lambda d: Message(
        "its tensors cannot be read", (squeeze(d["kind"]),), ("install safetensors where the code runs",)
    ),
    R.NO_TENSOR_GIVEN: Message("it was given no floating-point tensor, and has no parameters"),
}

_NO_ANSWERS: Mapping[R, Message | Callable[[Data], Message]] = {
    R.ANSWER_NOT_JSON: Message("it is no JSON"),
    R.ANSWER_TOO_DEEP: Message("it is nested too deeply"),
    R.ANSWER_TOO_LONG: lambda d: Message(f"it has a longer {shorten(d['kind'], 20)} than {d['most']:.0f}"),
    R.ANSWER_WITHOUT: lambda d: Message(f"it is no object with the names {list_names(d['names'])}"),
    R.ANSWER_OF_KIND: lambda d: Message(f"it has {shorten(d['kind'], 20)} in the place of {shorten(d['wanted'], 20)}"),
    R.ANSWER_UNKNOWN_WORD: lambda d: Message(f"it has something else in the place of one of {list_names(d['known'])}"),
    R.ANSWER_UNASKED: lambda d: Message(f"it names a {shorten(d['kind'], 20)} that was not asked about"),
    R.ANSWER_BEYOND_FILE: Message("it names a place that the file does not have"),
    R.ANSWER_BAD_REASON: Message("it has a reason that no run can have"),
}

_EXCESSES: Mapping[R, Message | Callable[[Data], Message]] = {
    R.FOLDERS_TOO_DEEP: lambda d: Message(f"more than {d['most']:.0f} folders into each other"),
    R.TOO_MANY_FILES: lambda d: Message(f"more than {d['most']:.0f} files"),
    R.TOO_MUCH_DISK: lambda d: Message(f"more than {d['mib']:.0f} MiB"),
    R.FOLDERS_CLOSED: Message("folders that may not be read"),
}

DETAILS: Mapping[R, Message | Callable[[Data], Message]] = {
    **_UNFIT_TRIALS,
    **_LOST_ARGUMENTS,
    **_NO_ANSWERS,
    **_EXCESSES,
}
"""What stands within other reasons: what went wrong with a trial, an argument, an answer, a folder."""
