"""Clear a target of PyTorch's own bugs: measure again with contiguous operands.

In torch 2.13 the gradient of some convolutions of batch-normed values is wrong for a batch of one. What an operator
computes does not depend on strides. So where a first derivative is wrong in a graph that PyTorch's own operators made,
give them contiguous operands: what is right then is no fault of the target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils._python_dispatch import TorchDispatchMode

from theria.probes.derivatives import graph_nodes
from theria.probes.point import call, copy_strided
from theria.probes.report import Report
from theria.verdicts import Verdict
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.worker.find_call.call_strategy import BoundCall

_FOREIGN = "CppNode"
"""Part of the name of a node that a C++ extension made."""


def retry_contiguous(
    report: Report, made: BoundCall, seed: int, measure: Callable[[], Report]
) -> tuple[Report, list[Reason]]:
    """The report, or where PyTorch is to blame for it what is measured with contiguous operands; and what to tell."""
    silent = report.verdict in (Verdict.SILENT_COLLAPSE, Verdict.SILENT_CORRUPTION)
    wrong = any(block.state in ("missing", "wrong") for block in report.gradients.values())
    if not (silent and wrong and _is_recorded_by_pytorch(made, seed)):
        return report, []
    with _ContiguousOperands():  # type: ignore[no-untyped-call]
        fair = measure()
    note = Reason(ReasonCode.TORCH_BUG, {"configuration": report.configuration})
    return (fair, [note]) if fair.verdict is Verdict.SAFE else (report, [])


def _is_recorded_by_pytorch(made: BoundCall, seed: int) -> bool:
    """Whether every node of the graph is PyTorch's own: code that brings a backward along answers for it."""
    leaves = {name: copy_strided(tensor).requires_grad_() for name, tensor in made.inputs.items()}
    output = call(made.compute_output, leaves, seed)
    foreign = (isinstance(node, BackwardCFunction) or _FOREIGN in node.name() for node in graph_nodes([output]))
    return output.grad_fn is not None and not any(foreign)


class _ContiguousOperands(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives PyTorch's operators contiguous copies of what they read, where they neither alias nor change it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Else the first call would import the compiler, for more than a second, to keep it away from this class."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.namespace == "aten" and not any(value.alias_info for value in func._schema.returns):
            args = tuple(map(_make_contiguous, args))
        return func(*args, **(kwargs or {}))


def _make_contiguous(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.contiguous()
    return [_make_contiguous(part) for part in value] if isinstance(value, list | tuple) else value
