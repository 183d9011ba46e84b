"""The sentence of every reason, and what helps against it. The only place that puts reasons into words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from theria.verdicts import Ground, Reason
from theria.wording import describe
from theria_lint.reasons import ReasonCode as R

Data = Mapping[str, Any]

_GROUNDS = frozenset[str](Ground)
_SHOWN = 2
"""How many of the blocks that a suspect makes worse are named."""


def say(reason: Reason | None) -> str:
    """One sentence for a reason, without a full stop; nothing where there is none."""
    if reason is None:
        return ""
    if reason.code in _GROUNDS:
        return describe(reason)
    sentence = _SENTENCES[R(reason.code)]
    return sentence if isinstance(sentence, str) else sentence(reason.data)


def say_all(reasons: Sequence[Reason]) -> list[str]:
    """A sentence for each of some reasons."""
    return [say(reason) for reason in reasons]


def _raised(data: Data) -> str:
    return f"{data['kind']}: {data['message']}" if data["message"] else str(data["kind"])


def _exit(data: Data) -> str:
    if data["signal"]:
        return f"ended its process with {data['signal']}"
    return f"ended its process with exit code {data['exit_code']}"


def _suspects(suspects: Sequence[Data]) -> str:
    return " and ".join(f"{suspect['rule']} on line {suspect['line']}" for suspect in suspects)


def _changes(found: Sequence[Data]) -> str:
    shown = ", ".join(f"{c['block']} from {_error(c['before'])} to {_error(c['after'])}" for c in found[:_SHOWN])
    return shown if len(found) <= _SHOWN else f"{shown} and {len(found) - _SHOWN} more"


def _error(error: float | None) -> str:
    return "no number" if error is None else f"{error:.2g}"


def _numbers(data: Data) -> str:
    return f" (errors: {_changes(data['changes'])})" if data["changes"] else ""


def _not_callable(data: Data) -> str:
    told = f"no way to call it worked: {say(data['reason'])}"
    return f"{told}; say how: {format_call_hint(data)}" if data["target"] else told


def format_call_hint(data: Data) -> str:
    """The lines of configuration that would tell how to call a target, or the adapter that would."""
    name, guessed = data["target"], data["guessed"]
    kwargs = ", ".join(f"{parameter} = …" for parameter in guessed)
    table = f'target = "{name}"' + (f", kwargs = {{ {kwargs} }}" if guessed else ', layout = "BTHD"')
    inputs = "x that builds and calls it" if data["is_class"] else "q, k, v that calls it"
    return (
        f"[[tool.theria-lint.targets]] {table}, or, in a file that adapters names, "
        f'@theria.testing.target("{name}") on a function of {inputs}'
    )


_HELPFUL = frozenset(
    (
        *(R.NOT_CALLABLE, R.IMPORT_TOO_SLOW, R.PROBE_TOO_SLOW, R.PACKAGE_MISSING, R.FILE_CHANGED),
        *(R.SKIPPED, R.INTERRUPTED, R.ARGUMENTS_MISFIT, R.NOT_THE_REFERENCE, R.WANTS_GPU),
    )
)
"""The codes of which the sentence says what to do."""


def _with_advice(told: str, reason: Reason) -> str:
    """What is told of a target that has no verdict, and what to do unless that is said."""
    if _says_what_to_do(reason):
        return told
    return f"{told}; mend that, or say how to call it in [[tool.theria-lint.targets]]"


def _says_what_to_do(reason: Reason) -> bool:
    if reason.code == R.NOT_CALLABLE:
        return bool(reason.data["target"]) or _says_what_to_do(reason.data["reason"])
    return reason.code in _HELPFUL


def _safe_with_it(data: Data) -> str:
    return f"{data['target']} is safe with it{_alone(data)}: {say(data['reason'])}"


def _alone(data: Data) -> str:
    return " as the only suspect left" if data["alone"] else ""


def _unsafe_with_it(data: Data) -> str:
    return (
        f"with it {data['target']} is {data['verdict']}: {say(data['reason'])}; "
        f"without it {data['verdict_without']}: {say(data['reason_without'])}{_numbers(data)}"
    )


def _unsafe_otherwise(data: Data) -> str:
    return (
        f"with it {data['target']} is {data['verdict']}: {say(data['reason'])}; without it still "
        f"{data['verdict_without']}: {say(data['reason_without'])}{_numbers(data)}; the cause lies deeper"
    )


def _unsafe_beside(data: Data) -> str:
    return (
        f"beside {_suspects(data['others'])} it makes {data['target']} {data['verdict']}: "
        f"{say(data['reason'])}; without it {data['verdict_without']}{_numbers(data)}"
    )


def _unsafe_together(data: Data) -> str:
    return (
        f"together with {_suspects(data['others'])} it makes {data['target']} {data['verdict']}: "
        f"{say(data['reason'])}; without them {data['verdict_without']} (errors: {_changes(data['changes'])})"
    )


_BY_HAND = "replace it by hand with code that autograd records, and lint again"


def _nothing_to_compare(data: Data) -> str:
    failure = "fails otherwise" if data["fails_otherwise"] else "does not run"
    return (
        f"{data['target']} is {data['verdict']}, but without it the code {failure} ({say(data['reason'])}), "
        f"so nothing shows whether it is to blame: {_BY_HAND}"
    )


def _unsafe_without_others(data: Data) -> str:
    others = " with every suspect neutralised that can be" if data["without_others"] else ""
    apart = f"; no rewrite tells it apart from {_suspects(data['peers'])}" if data["peers"] else ""
    return f"{data['target']} is {data['verdict']}{others}: {say(data['reason'])}{apart}"


def _may_be_hidden(data: Data) -> str:
    by = _suspects(data["by"]) or "what is no suspect"
    return (
        f"{data['target']} is {data['verdict']} with and without it, and {by} may hide what it does: "
        "mend that, and lint again"
    )


def _substituted(data: Data) -> str:
    if data["backward"]:
        means = f"with autograd of the forward in the place of {data['backward']}"
    else:
        means = "with the tensor computed again on the graph where the backward unpacks it"
    return f"{say(data['reason'])}; without it means {means}"


def _blamed_elsewhere(data: Data) -> str:
    places = [f"{s['rule']} on line {s['line']} of {s['path']}" for s in data["suspects"][:3]]
    more = f" and {len(data['suspects']) - 3} more" if len(data["suspects"]) > 3 else ""
    return f"{say(data['reason'])}; to blame outside the linted files: {', '.join(places)}{more}"


def _say_cuts(data: Data) -> str:
    return f", with axes cut: {', '.join(data['smaller'])}" if data["smaller"] else ""


def _dtype_verdict(data: Data) -> str:
    return f"in {data['dtype']}: {data['verdict']}" + (f" ({data['message']})" if data["message"] else "")


def _refused(what: str) -> Callable[[Data], str]:
    return lambda data: f"it {what}, which a probe may not do ({say(data['reason'])})"


_NO_IMPORT = "it could not be imported: "
_MATH_PATH = "PyTorch took its math path for scaled_dot_product_attention, which a GPU may give to a fused kernel"

_SENTENCES: Mapping[R, str | Callable[[Data], str]] = {
    R.NOT_CONFIRMED: "not run (--no-confirm)",
    R.NOTEBOOK: "not run: notebooks are checked statically only",
    R.STANDARD_INPUT: "not run: standard input is checked statically only; save the file to have it run",
    R.CONFIRMING_OFF: "not run: confirming is switched off",
    R.UNSAVED: "not run yet: save the file to have it run",
    R.OUTSIDE_WORKSPACE: "not run: the file is outside the workspace",
    R.AS_LAST_SAVED: lambda d: f"as last saved: {say(d['reason'])}",
    R.NO_WORKER: lambda d: str(d["message"]),
    R.SKIPPED: "the configuration says to skip it",
    R.INTERRUPTED: "interrupted: run theria-lint again",
    R.NO_TARGET: "no attention callable that can be run was found to execute it: name one in the configuration",
    R.WORKER_ENDED: "it ended the process that watched over it, or importing its file did",
    R.NOT_REWRITTEN: lambda d: f"it could not be rewritten ({d['kind']}: {d['message']})",
    R.NONSENSE_ANSWER: lambda d: f"its process gave an answer that cannot be one: it {d['problem']}",
    R.TOO_MANY_ANSWERS: "its process gave more answers than there are targets",
    R.WRITES_TOO_MUCH: lambda d: f"its file writes {d['excess']}",
    R.IMPORT_TOO_SLOW: lambda d: f"{_NO_IMPORT}that took more than {d['seconds']:.0f} s; give it more with --timeout",
    R.IMPORT_EXITS: f"{_NO_IMPORT}it exits when it is imported",
    R.IMPORT_RAISES: lambda d: f"{_NO_IMPORT}{_raised(d)}",
    R.IMPORT_ENDS_PROCESS: lambda d: f"{_NO_IMPORT}importing it {_exit(d)}",
    R.PACKAGE_MISSING: lambda d: (
        f"{_NO_IMPORT}{d['package']} is missing; install it in the environment of {d['interpreter']}"
    ),
    R.FILE_CHANGED: lambda d: f"it was not run: {d['file']} has changed since it was checked; run theria-lint again",
    R.NOT_DEFINED: lambda d: (
        f"its module does not define {d['symbol']} when it is imported here: it stands in a branch not taken"
    ),
    R.OUT_OF_MEMORY: lambda d: f"it needs more than the {d['gib']:.3g} GiB of memory that a probe may take",
    R.EXITS: "it exits the process when it is called",
    R.PROBE_RAISES: lambda d: f"the probe could not run it: {_raised(d)}",
    R.PROBE_TOO_SLOW: lambda d: f"it did not end within {d['seconds']:.0f} s; give it more with --timeout",
    R.ENDS_PROCESS: lambda d: f"it {_exit(d)}",
    R.STARTS_PROCESS: _refused("starts a process"),
    R.USES_NETWORK: _refused("uses the network"),
    R.SIGNALS_PROCESS: _refused("signals another process"),
    R.WRITES_OUTSIDE: _refused("writes outside its temporary folder"),
    R.NOT_CALLABLE: _not_callable,
    R.OUTSIDE_GRAPH_ONLY: "its package runs it outside the graph only, inside the forward of an autograd.Function",
    R.NOTHING_TO_TRY: "nothing to try",
    R.SEARCH_TOO_SLOW: "trying to call it took too long",
    R.ADAPTER_FAILS: lambda d: f"the adapter file {d['file']} could not be imported: {d['kind']}: {d['message']}",
    R.WANTS_GPU: "the configuration wants it on a GPU: run with --device cuda where there is one",
    R.OUTPUT_NOT_FINITE: "its forward returns numbers that are not finite for the arguments that were made up for it",
    R.GRADIENTS_NOT_FINITE: "its backward returns numbers that are not finite for the arguments made up for it",
    R.MEMORY_NOT_WRITTEN: "its kernels return memory that they have not written for the arguments made up for it",
    R.SEQUENCES_MIXED: "its output does not keep apart the sequences whose ends were made up for it",
    R.INPUTS_IGNORED: "its output does not depend on its inputs as it was called",
    R.POSITIONS_APART: "no position of its output depends on another position of its input as it was called",
    R.ARGUMENTS_MISFIT: (
        "its backward gives gradients of other shapes than the inputs that were made up for it; "
        "name its arguments in the configuration"
    ),
    R.NOT_THE_REFERENCE: (
        "the configuration wants the reference as its oracle, and its forward is not softmax attention as it was called"
    ),
    R.FORWARD_JUMPS: "its forward jumps between branches wherever it was probed; give other arguments or an oracle",
    R.SAFE_IN_INPUTS: lambda d: f"{say(d['reason'])}; in {', '.join(d['inputs'])} alone it is safe",
    R.OTHERWISE_IN_PARAMETERS: lambda d: f"{say(d['reason'])}; in its parameters alone it is {d['verdict']}",
    R.IN_TRAINING_DTYPE: lambda d: f"in {d['dtype']} {say(d['reason'])}",
    R.CPU_PATH_ONLY: lambda d: (
        f"on the path that CPU tensors take {say(d['reason'])}; the path of a GPU could not be run: {say(d['refusal'])}"
    ),
    R.WITHOUT_PACKAGES: lambda d: (
        f"without {', '.join(d['packages'])}, which its code uses where installed, {say(d['reason'])}"
    ),
    R.OF_OUTPUT: lambda d: f"of what it returns, tensor {d['output']:.0f}: {say(d['reason'])}",
    R.DETACHED_OUTPUTS: lambda d: (
        f"{say(d['reason'])}; of what it returns, tensor {' and '.join(d['outputs'])} is outside the graph, "
        "as its author says by detaching it"
    ),
    R.NOTHING_MEASURED: "nothing was measured",
    R.SEEN_ON: lambda d: f"seen on {d['configuration']}",
    R.OUT_OF_TIME: "out of time",
    R.NOT_PROBED_ON: lambda d: f"not probed on {d['configuration']}: {say(d['reason'])}",
    R.STRIDES_MATTER: "it gives another output for strided inputs",
    R.DTYPE_VERDICT: _dtype_verdict,
    R.PARAMETERS_VERDICT: lambda d: f"its parameters ({d['name']}): {d['verdict']}",
    R.MATH_PATH: _MATH_PATH,
    R.TORCH_BUG: lambda d: (
        f"on {d['configuration']} PyTorch's own operators give wrong gradients there, "
        "and right ones once their operands are contiguous"
    ),
    R.SHIMS_USED: lambda d: f"ran on the {d['place']} with {'; '.join(d['shims'])}",
    R.GPU_QUERIES: lambda d: (
        f"its code asks for a GPU ({', '.join(d['queries'])}): this is the path that CPU tensors take"
    ),
    R.CALLED_AS_RECORDED: lambda d: f"called as {', '.join(d['callers'])} did{_say_cuts(d)}",
    R.CALLED_AS_SHOWN: lambda d: f"called as {', '.join(d['callers'])} does{_say_cuts(d)}",
    R.CALLS_UNUSED: lambda d: f"not called as recorded, which does not work: {say(d['reason'])}",
    R.NOT_RECORDED: "no call of it was recorded, and --calls recorded guesses none",
    R.STALE_CALL: lambda d: f"the call by {d['caller']} is stale: {d['message']}; record it again",
    R.LOST_ARGUMENT: lambda d: f"an argument cannot be made again: {d['message']}",
    R.TARGET_INCONCLUSIVE: lambda d: _with_advice(f"{d['target']} is inconclusive: {say(d['reason'])}", d["reason"]),
    R.TARGET_NOT_RUN: lambda d: _with_advice(f"{d['target']}: {say(d['reason'])}", d["reason"]),
    R.NOT_REACHED: lambda d: (
        f"not reached by {', '.join(d['targets'])} as the probe calls it: "
        "name arguments that take this branch in the configuration"
    ),
    R.NOT_REACHED_IN_TIME: lambda d: (
        f"not reached by {', '.join(d['targets'])} in the time that it had: give it more with --timeout"
    ),
    R.NOT_REACHED_BEFORE_FAILURE: lambda d: (
        f"not reached by {', '.join(d['targets'])} as the probe calls it, which is unsafe before: "
        "mend that and lint again, or name arguments that take this branch in the configuration"
    ),
    R.SAFE_WITH_IT: _safe_with_it,
    R.FUSED_KERNEL_NOT_MET: lambda d: (
        f"{d['target']} is safe with it{_alone(d)}, but {_MATH_PATH}: lint where there is one, with --device cuda"
    ),
    R.UNSAFE_WITH_IT: _unsafe_with_it,
    R.UNSAFE_OTHERWISE_WITHOUT_IT: _unsafe_otherwise,
    R.WORSE_WITH_IT: lambda d: (
        f"{d['target']} is {d['verdict']} without it too, but worse with it "
        f"(errors: {_changes(d['changes'])} without it)"
    ),
    R.CHANGES_NOTHING: lambda d: f"{d['target']} is {d['verdict']} with and without it: it changes no block",
    R.UNSAFE_BESIDE: _unsafe_beside,
    R.SAFE_BESIDE: lambda d: f"{d['target']} is safe with it beside {_suspects(d['others'])}",
    R.ENOUGH_TO_REMOVE: lambda d: (
        f"to leave it out is enough to make {d['target']} safe: {say(d['reason'])}{_numbers(d)}"
    ),
    R.VARIANT_DOES_NOT_RUN: lambda d: (
        f"the variant of {d['target']} in which it is the only suspect left does not run ({say(d['reason'])}): "
        f"{_BY_HAND}"
    ),
    R.SAFE_WITHOUT_OTHERS: lambda d: (
        f"{d['target']} is safe with it once {_suspects(d['others'])} is out: {say(d['reason'])}"
    ),
    R.SAFE_WITHOUT_THE_OTHERS: lambda d: f"{d['target']} is safe once the other suspects are neutralised",
    R.NOTHING_TO_COMPARE: _nothing_to_compare,
    R.UNSAFE_WITHOUT_OTHERS: _unsafe_without_others,
    R.MAY_BE_HIDDEN: _may_be_hidden,
    R.SUBSTITUTED: _substituted,
    R.UNSAFE_TOGETHER: _unsafe_together,
    R.CANCELLED: lambda d: (
        f"{d['target']} is safe with it and {_suspects(d['others'])} once {_suspects(d['removed'])} is out: "
        f"{say(d['reason'])}"
    ),
    R.BLAMED_ELSEWHERE: _blamed_elsewhere,
}
