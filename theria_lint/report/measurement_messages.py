"""The messages of what is said of a measurement, and of the notes of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from theria.verdicts import Ground
from theria.wording import Message, attach, format_count, format_percent, list_names, shorten
from theria_lint.model import AS_IT_IS, Configuration, Run
from theria_lint.reasons import ReasonCode as R
from theria_lint.report.message_parts import ON_GPU, RECORD, TIMEOUT, Data, extend, qualify

MATH_PATH = "PyTorch took its math path for scaled_dot_product_attention, which a GPU may give to a fused kernel"

_OTHER_ARGUMENTS = (RECORD,)
GROUND_HELPS: Mapping[Ground, tuple[str, ...]] = {
    Ground.FORWARD_NOT_FINITE: _OTHER_ARGUMENTS,
    Ground.FORWARD_NOT_FINITE_NEARBY: _OTHER_ARGUMENTS,
    Ground.NO_DEPENDENCE: _OTHER_ARGUMENTS,
    Ground.ORACLE_DOUBTFUL: _OTHER_ARGUMENTS,
}
"""What helps where a measurement says nothing of the target as it was called."""


def _tell_declared_outputs(data: Data) -> Message:
    numbers = " and ".join(data["outputs"])
    one = len(data["outputs"]) == 1
    told = f"tensor{'' if one else 's'} {numbers} of what it returns {'is' if one else 'are'} outside the graph"
    author = f"{told}, as its author says by detaching {'it' if one else 'them'}"
    return qualify(f"but for tensor {numbers}", data["reason"], author)


def _tell_missing_packages(data: Data) -> Message:
    names = ", ".join(data["packages"])
    short = names if len(names) < 12 else format_count(len(data["packages"]), "package")
    return qualify(
        f"without {short}",
        data["reason"],
        f"without {names}, which its code uses where installed",
        helps=("install what is missing where the code runs, to have that path measured too",),
    )


def _note_cuts(data: Data) -> tuple[str, ...]:
    return (f"with axes cut: {list_names(data['smaller'], 200)}",) if data["smaller"] else ()


_PARAMETERS = "p"
"""The name of a module's parameters among the inputs of a run."""


def _tell_measured(data: Data) -> Message:
    names = ["its parameters" if name == _PARAMETERS else name for name in data["inputs"]]
    dtypes = list_names(data["dtypes"], 20)
    notes = [f"of what it returns: {_name_tensors(data['outputs'])}"] if data["outputs"] else []
    notes += [f"held constant: {list_names(data['constants'], 200)}"] if data["constants"] else []
    notes += [f"without a derivative: {list_names(data['discrete'], 200)}"] if data["discrete"] else []
    notes += [f"left out by its author: {_name_tensors(data['outside'])}"] if data["outside"] else []
    return Message(f"differentiated twice in {list_names(names, 30)}, in {dtypes}", tuple(notes))


def _name_tensors(numbers: Sequence[str]) -> str:
    return f"tensor {numbers[0]}" if len(numbers) == 1 else f"tensors {list_names(numbers, 100)}"


def _name_configurations(labels: Sequence[str]) -> str:
    return list_names([describe_configuration(label) for label in labels], 200)


MEASUREMENTS: Mapping[R, Message | Callable[[Data], Message]] = {
    R.ARGUMENTS_MISFIT: Message(
        "its backward gives gradients of other shapes than the inputs that were made up for it",
        helps=_OTHER_ARGUMENTS,
    ),
    R.NOT_THE_REFERENCE: Message(
        "its forward is not softmax attention as it was called",
        ("the configuration wants the reference as its oracle",),
        ('take oracle = "reference" out of its table in the configuration',),
    ),
    R.FORWARD_JUMPS: Message("its forward jumps between branches wherever it was probed", helps=_OTHER_ARGUMENTS),
    R.PARAMETERS_RAISE: lambda d: attach(
        "it does not run with other tensors in the place of its parameters", d["reason"]
    ),
    R.SAFE_IN_INPUTS: lambda d: extend(d["reason"], f"in {list_names(d['inputs'], 200)} alone it is safe"),
    R.OTHERWISE_IN_PARAMETERS: lambda d: extend(d["reason"], f"in its parameters alone it is {d['verdict']}"),
    R.SAFE_OTHERWISE: lambda d: extend(d["reason"], f"safe with {_name_configurations(d['configurations'])}"),
    R.IN_TRAINING_DTYPE: lambda d: qualify(f"in {d['dtype']}", d["reason"]),
    R.CPU_PATH_ONLY: lambda d: qualify(
        "on the CPU's path",
        d["reason"],
        f"the path of a GPU could not be run: {d['refusal'].line}",
        helps=(ON_GPU,),
    ),
    R.WITHOUT_PACKAGES: _tell_missing_packages,
    R.OF_OUTPUT: lambda d: qualify(f"in tensor {d['output']:.0f} of what it returns", d["reason"]),
    R.DETACHED_OUTPUTS: _tell_declared_outputs,
    R.NOTHING_MEASURED: Message("nothing was measured"),
    R.NOT_ALL_MEASURED: lambda d: Message(
        f"out of time before {format_count(len(d['configurations']), 'configuration')} of it could be measured",
        (f"not measured: {_name_configurations(d['configurations'])}", f"safe: {_name_configurations(d['safe'])}"),
        (TIMEOUT,),
    ),
    R.MEASURED: _tell_measured,
    R.SEEN_ON: lambda d: Message(f"seen on {shorten(d['configuration'], 90)}"),
    R.OUT_OF_TIME: Message("out of time"),
    R.NOT_PROBED_ON: lambda d: attach(f"not probed on {shorten(d['configuration'], 60)}", d["reason"]),
    R.STRIDES_MATTER: Message("it gives another output for strided inputs"),
    R.DTYPE_VERDICT: lambda d: Message(f"in {d['dtype']}: {d['verdict']}", (d["message"],) if d["message"] else ()),
    R.PARAMETERS_VERDICT: lambda d: Message(f"its parameters ({shorten(d['name'])}): {d['verdict']}"),
    R.MATH_PATH: Message(MATH_PATH),
    R.TORCH_BUG: lambda d: Message(
        "PyTorch's own operators give wrong gradients there, and right ones for contiguous operands",
        (f"on {d['configuration']}",),
    ),
    R.SHIMS_USED: lambda d: Message(
        f"ran on the {d['place']} with stand-ins for what this machine lacks", tuple(shim.head for shim in d["shims"])
    ),
    R.GPU_QUERIES: lambda d: Message(
        "its code asks for a GPU: this is the path that CPU tensors take", (f"it asks {list_names(d['queries'], 200)}",)
    ),
    R.CALLED_AS_RECORDED: lambda d: Message(f"called as {list_names(d['callers'], 80)} did", _note_cuts(d)),
    R.CALLED_AS_SHOWN: lambda d: Message(f"called as {list_names(d['callers'], 80)} does", _note_cuts(d)),
}

SHIMS: Mapping[R, Message | Callable[[Data], Message]] = {
    R.CUDA_ANSWERS: Message("stand-ins for torch.cuda"),
    R.ANSWERS_AS_GPU: lambda d: Message(f"{shorten(d['query'])} answering as on a GPU"),
    R.TENSORS_ON_CPU: Message("tensors made on the CPU where the code says cuda"),
    R.OPERATOR_ON_CPU: Message("a custom operator for CUDA registered for the CPU"),
    R.NO_CODEGEN: lambda d: Message(f"torch.compile's backend {shorten(d['backend'])} in place of inductor"),
    R.NO_PROGRAMS: Message("no other program to start"),
    R.TRITON_DRIVER: Message("a stand-in for Triton's GPU driver"),
    R.BLOCK_POINTERS: Message("block pointers, which this Triton has removed, by ordinary pointers"),
    R.BFLOAT16_ARITHMETIC: Message("bfloat16 arithmetic of Triton's interpreter put right"),
    R.NUMPY_LIBRARY: Message("NumPy in the place of CUDA's math library"),
    R.NUMPY_ASSEMBLY: Message("NumPy in the place of inline assembly"),
    R.FIRST_AUTOTUNED: Message("the first of each autotuner's configurations"),
    R.FULL_PRECISION: Message("float32 products of Triton's kernels to full precision"),
}

_WORDS: Mapping[str, str] = {
    Configuration.FIRST_SIZES: "the first sizes",
    Configuration.SMALLER_DEFAULTS: "smaller defaults",
    Configuration.EVALUATION_MODE: "evaluation mode",
    Configuration.DROPOUT: "dropout",
    Configuration.STRIDED_INPUTS: "strided inputs",
    Configuration.CAUSAL_MASK: "a causal mask",
    Configuration.ROUND_SIZES: "round sizes",
    Configuration.ODD_SIZES: "odd sizes",
    Configuration.LONGER_SEQUENCE: "a longer sequence",
    Configuration.PACKED_SEQUENCES: "packed sequences",
    Configuration.SHARED_KEYS: "shared keys",
    Configuration.OPTIONAL_ARGUMENTS: "its optional {}",
    Configuration.FLOATING_ARGUMENT: "its {} as an input",
    Configuration.SECOND_CALL: "a second call",
    Configuration.LATER_CALL: "a later call",
    Configuration.ALL_OUTPUTS: "all that it returns",
    Configuration.OUTPUT: "output {} of what it returns",
    Configuration.RECORDED_CALL: "the call by {}",
    Configuration.DTYPE: "{}",
    Configuration.POINT: "other numbers ({})",
    Configuration.SCALED_INPUTS: "inputs times {}",
    Configuration.MOVED_INPUTS: "inputs around large vectors ({})",
    Configuration.SCALED_PARAMETERS: "parameters times {}",
    Configuration.SCALED_GRADIENT: "a gradient times {}",
    Configuration.ONE_QUERY: "one query",
    Configuration.ONE_POSITION: "one position",
    Configuration.HEADS: "{} heads",
    Configuration.BATCH: "a batch of {}",
    Configuration.POSITIONS: "{} positions",
    Configuration.KEYS: "{} keys",
    Configuration.CHANNELS: "{} channels",
    Configuration.FUSED_KERNEL_SIZES: "sizes of a fused kernel",
}
"""By its code; braces stand where what belongs to it does."""

_LEARNED = f" + {Configuration.LEARNED}: "


def describe_configuration(label: str) -> str:
    """The words for a label of `label_configuration`; the configurations of ``theria.probe`` are words already."""
    plain, learned, names = label.rpartition(_LEARNED)
    if learned:
        return f"{describe_configuration(plain)}, with its {names} as inputs"
    code, colon, arguments = label.partition(": ")
    words = _WORDS.get(code, label)
    if "{}" in words:
        return words.replace("{}", arguments)
    return f"{words} ({arguments})" if colon and code in _WORDS else words


_NEGLIGIBLE = 1e-4
"""The relative error of a meta-gradient below which it is called right."""


def describe_run(run: Run) -> str:
    """What was measured: on which backend, where, how exactly and against what."""
    backend = "" if run.backend == AS_IT_IS else f" with the {run.backend} backend"
    device = "the CPU" if run.device == "cpu" else run.device
    oracle = "a reference attention" if run.oracle == "reference" else run.oracle
    return f"measured{backend} on {device} in {run.dtype}" + (f" against {oracle}" if oracle else "")


def describe_maml(figures: Mapping[str, Any]) -> str:
    """What meta-learning through the target would get."""
    error, difference = figures.get("meta_gradient_error"), figures.get("rel_diff")
    said = [_describe_error(error)] if isinstance(error, float) else []
    if isinstance(difference, float):
        said.append(f"second derivatives carry {format_percent(difference)} of it")
    if said:
        return ", and ".join(said)
    message = figures.get("error")
    return f"there is no meta-gradient: {message}" if message else "there is no meta-gradient"


def _describe_error(error: float) -> str:
    if error < _NEGLIGIBLE:
        return "the meta-gradient is right"
    return f"the meta-gradient is off by {format_percent(error)}"
