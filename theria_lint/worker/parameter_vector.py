"""Probe a module's parameters as one more input: what is safe in x need not be safe in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from theria.probes.compare import NEGLIGIBLE
from theria.probes.measure import measure
from theria.probes.report import Report
from theria.verdicts import COTANGENT, Status, Verdict
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.worker.failure_messages import explain_error
from theria_lint.worker.find_call.call_strategy import BoundCall, TrialSpec
from theria_lint.worker.fresh_state import FreshCall
from theria_lint.worker.library_messages import is_device_lost, is_for_leaves_alone, is_out_of_memory

PARAMETERS = "p"
"""The name of a module's parameters, laid end to end, among the inputs of a probe."""


MAX_PARTS = 8
"""In how many parts the vector is looked at: each costs a backward."""


class FunctionOfParameters(NamedTuple):
    """A function of one more argument, the vector of a module's parameters; that vector, and the lengths of its parts.

    A part is one parameter or, where there are many, some that follow each other.
    """

    function: Callable[..., Any]
    vector: Tensor
    sizes: list[int]


def as_function_of_parameters(
    module: nn.Module, function: Callable[..., Any], fresh: FreshCall | None = None
) -> FunctionOfParameters | None:
    """A function that runs the module, as one of its parameters too.

    None for a module without parameters. The parts of the vector stay in the module until it is called again, for a
    backward may run it once more; ``fresh`` gives it its state back before that.
    """
    if fresh is not None:
        fresh.renew()  # a call may have turned the gradient of some off
    parameters = {n: p for n, p in module.named_parameters() if p.is_floating_point() and p.requires_grad}
    if not parameters:
        return None
    sizes = [p.numel() for p in parameters.values()]
    places = [
        (part._parameters, name, id(p))
        for part in module.modules()
        for name, p in part._parameters.items()
        if p is not None
    ]

    padding: dict[int, int] = {}
    for part in module.modules():
        if isinstance(row := getattr(part, "padding_idx", None), int):
            padding[id(getattr(part, "weight", None))] = row

    def run(inputs: list[Tensor], vector: Tensor, *, as_leaves: bool) -> Any:
        parts = torch.split(vector, sizes)
        replaced = {
            id(p): _make_substitute_parameter(p, part, padding.get(id(p)))
            for p, part in zip(parameters.values(), parts, strict=True)
        }
        if fresh is not None:
            fresh.prepare()
        for held, name, known in places:
            if known in replaced:
                held[name] = replaced[known]  # type: ignore[assignment]
        with (
            fresh.hold() if fresh else nullcontext(),
            _ActingAsLeaves(replaced.values()) if as_leaves else nullcontext(),
        ):
            return function(*inputs)

    def joint(*values: Tensor) -> Any:
        *inputs, vector = values
        try:
            return run(inputs, vector, as_leaves=False)
        except RuntimeError as error:
            if not is_for_leaves_alone(str(error)):
                raise
        return run(inputs, vector, as_leaves=True)

    vector = torch.cat([p.detach().reshape(-1) for p in parameters.values()])
    many = -(-len(sizes) // MAX_PARTS)
    return FunctionOfParameters(joint, vector, [sum(sizes[i : i + many]) for i in range(0, len(sizes), many)])


class _ActingAsLeaves(TorchFunctionMode):
    """Allow code what PyTorch allows with parameters, which are leaves, with what stands in for them.

    A parameter whose gradient is turned off has none from then on, and its deep copy is a parameter of its own: both
    take it off the graph.
    """

    def __init__(self, substitutes: Iterable[Tensor]) -> None:
        super().__init__()
        self._substitutes = list(substitutes)

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if args and any(args[0] is one for one in self._substitutes):
            if function in (Tensor.requires_grad_, Tensor.requires_grad.__set__):  # type: ignore[attr-defined]
                wanted = [*args[1:], *(kwargs or {}).values(), True][0]
                return args[0] if wanted else args[0].detach_()
            if function is Tensor.__deepcopy__:
                copied = args[0].detach().clone().requires_grad_()
                args[1][id(args[0])] = copied
                return copied
        return function(*args, **(kwargs or {}))


def _make_substitute_parameter(parameter: nn.Parameter, part: Tensor, padding: int | None) -> Tensor:
    """A part of the vector in a parameter's shape, with the hooks that change the parameter's gradient.

    A tensor of its own: code may write into a parameter, and may not into one of several views. The row of an
    embedding that stands for ``padding`` stays what it is: no gradient reaches it, by its author's word.
    """
    made = part.view(parameter.shape).clone()
    made._is_param = True  # by which PyTorch's isinstance tells a parameter
    if padding is not None:
        made[padding] = parameter.detach()[padding]
    for hook in (parameter._backward_hooks or {}).values() if made.requires_grad else ():
        made.register_hook(hook)  # type: ignore[no-untyped-call]
    for hook in (parameter._post_accumulate_grad_hooks or {}).values() if made.requires_grad else ():
        made.register_hook(partial(_let_accumulate, hook, parameter))  # type: ignore[no-untyped-call]
    return made


def _let_accumulate(hook: Callable[[nn.Parameter], Any], parameter: nn.Parameter, gradient: Tensor) -> Tensor | None:
    """The gradient that a hook leaves a parameter which has received one, None where it takes it away."""
    parameter.grad = gradient.clone()
    hook(parameter)
    left, parameter.grad = parameter.grad, None
    return left


def measure_with_parameters(
    made: BoundCall,
    spec: TrialSpec,
    configuration: str,
    measure_inputs: Callable[[], Report],
    *,
    first: bool,
    both: bool,
    cpu_twin: BoundCall | None = None,
) -> Report:
    """The report on a module's inputs or, where that is safe, on inputs and parameters together if those are not safe.

    What could not be told of its parameters is as little safe as what is wrong in them. Where the verdicts differ the
    reason gives both.

    Args:
        made: the call, whose module has the parameters.
        spec: what it was made from.
        configuration: its name.
        measure_inputs: measures the inputs alone.
        first: whether they are measured alone before anything else. Where the module is known to be safe in another
            configuration both are measured together first, and the inputs alone only where that is not enough.
        both: whether the parameters of an unsafe module are asked too.
        cpu_twin: the same call on the CPU, of one on a GPU.
    """
    found = _make_function(made)
    if found is None:
        return measure_inputs()
    joint = None if first else _measure_jointly(found, made, spec, configuration, cpu_twin)
    if joint is not None and joint.verdict is Verdict.SAFE:
        shown = _leave_out_parameters(joint)
        if _holds_no_faint_block(shown):
            return _add_parameters_verdict(shown, joint.verdict)
    report = measure_inputs()
    if report.verdict is Verdict.INCONCLUSIVE:
        return report
    if report.verdict is Verdict.SAFE:
        joint = joint or _measure_jointly(found, made, spec, configuration, cpu_twin)
        if joint.verdict is not Verdict.SAFE:  # what is not known to be safe in all that is learned is not called safe
            told = {"reason": joint.why, "inputs": list(made.inputs)}
            raised = joint.why.code == ReasonCode.PARAMETERS_RAISE
            seen = replace(report, verdict=joint.verdict) if raised else joint
            return replace(seen, why=Reason(ReasonCode.SAFE_IN_INPUTS, told))
        return _add_parameters_verdict(report, joint.verdict)
    if not both:
        return report
    constants = [tensor.detach() for tensor in made.inputs.values()]
    try:
        alone = measure(lambda p: found.function(*constants, p), {PARAMETERS: found.vector}, routes=(), seed=spec.seed)
    except Exception:  # the target's own forward; what is known of its inputs is known all the same
        return report
    if alone.verdict in (report.verdict, Verdict.INCONCLUSIVE):
        return report
    told = {"reason": report.why, "verdict": str(alone.verdict)}
    return replace(report, why=Reason(ReasonCode.OTHERWISE_IN_PARAMETERS, told))


def _make_function(made: BoundCall) -> FunctionOfParameters | None:
    return as_function_of_parameters(made.module, made.compute_output, made.fresh) if made.module is not None else None


def _measure_jointly(
    found: FunctionOfParameters, made: BoundCall, spec: TrialSpec, configuration: str, cpu_twin: BoundCall | None
) -> Report:
    """The report on inputs and parameters together, inconclusive where the code does not run with a vector of them."""
    inputs = {**made.inputs, PARAMETERS: found.vector}
    same = _make_function(cpu_twin) if cpu_twin else None
    try:
        return measure(
            found.function,
            inputs,
            cpu_twin=same.function if same else None,
            sizes={PARAMETERS: found.sizes},
            seed=spec.seed,
            configuration=configuration,
        )
    except Exception as error:  # code that was not written for tensors in the place of its parameters
        if is_out_of_memory(error) or is_device_lost(error):
            raise
        why = Reason(ReasonCode.PARAMETERS_RAISE, {"reason": explain_error(error)})
        return Report(Status.OK, Verdict.INCONCLUSIVE, why)


def _holds_no_faint_block(shown: Report) -> bool:
    """Whether a safe report, of which parameters were left out, says of the inputs all that one on them alone would.

    There are many parameters: beside their blocks one of an input may pass for zero, which it is not beside its kind.
    """
    by_kind = [list(shown.gradients.values()), [], []]
    for key, block in shown.blocks.items():
        by_kind[1 + key.endswith(COTANGENT)].append(block)
    return all(
        block.state != "zero"
        or max(block.norm or 0.0, block.oracle_norm) <= NEGLIGIBLE * max(other.oracle_norm for other in blocks)
        for blocks in by_kind
        for block in blocks
    )


def _leave_out_parameters(joint: Report) -> Report:
    """What a report on inputs and parameters says of the inputs."""
    return replace(
        joint,
        gradients={name: block for name, block in joint.gradients.items() if name != PARAMETERS},
        blocks={key: block for key, block in joint.blocks.items() if PARAMETERS not in key.split(",")},
    )


def _add_parameters_verdict(report: Report, verdict: Verdict) -> Report:
    note = Reason(ReasonCode.PARAMETERS_VERDICT, {"name": PARAMETERS, "verdict": str(verdict)})
    return replace(report, remarks=(*report.remarks, note))
