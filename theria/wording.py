"""Says in words what a measurement rests its verdict on. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from theria.verdicts import Ground, Reason

Data = Mapping[str, Any]


def describe(reason: Reason) -> str:
    """One sentence for a reason of a probe, without a full stop."""
    return _SENTENCES[Ground(reason.code)](reason.data)


def _describe_signal_lost(data: Data) -> str:
    count, unclear = len(data["blocks"]), data["unclear"]
    if count == 1:
        told = "nothing raises, and the one Hessian block that carries signal is missing"
    else:
        carry = "may carry" if unclear else "carry"
        told = f"nothing raises, and all {count} Hessian blocks that {carry} signal are missing"
    return told + _describe_gradients(data)


def _describe_blocks_lost(data: Data) -> str:
    parts = [f"missing {', '.join(data['missing'])}"] if data["missing"] else []
    if data["wrong"]:
        parts.append(f"wrong {', '.join(data['wrong'])} (off by {_number(data['error'])} of its norm at worst)")
    return ("nothing raises, but " + "; ".join(parts) if parts else "nothing raises") + _describe_gradients(data)


def _describe_curvature(data: Data) -> str:
    parts = []
    for word in ("missing", "wrong"):
        names = data[word]
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        parts += [f"{word} for {_names(names[:4])}{more}"] if names else []
    share = _number(data["share"])
    return f"nothing raises, but the Hessian-vector product is {'; '.join(parts)} (off by {share} of its norm)"


def _describe_gradients(data: Data) -> str:
    if not data["gradients"]:
        return ""
    worst = _number(data["gradient_error"])
    return f"; the gradient of {', '.join(data['gradients'])} is wrong already (off by {worst} of its norm)"


def _describe_raising(data: Data) -> str:
    order = "second" if data["order"] == 2 else "first"
    wanted = " where its graph is asked for" if data["once"] else ""
    where = f" ({'; '.join(data['routes'])})" if data["routes"] else ""
    message = data["message"] or "its node is in the graph, pruned by autograd.grad"
    told = f"the {order} differentiation raises{wanted}{where}: {message}"
    if data["lost"] is not None:
        told += f"; autograd.grad does not raise but loses {_count(data['lost'], 'block')}"
    return told + (f"; {' and '.join(data['silent'])} loses every block in silence" if data["silent"] else "")


def _describe_raised(data: Data) -> str:
    return f"{data['kind']}: {data['message']}" if data["message"] else str(data["kind"])


def _describe_not_probed(data: Data) -> str:
    return f"not probed on {data['configuration']}: {data['kind']}: {data['message']}"


def _number(value: float | None, form: str = ".2g") -> str:
    return "inf" if value is None else format(value, form)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names)


_SENTENCES: Mapping[Ground, Callable[[Data], str]] = {
    Ground.ALL_AGREE: lambda d: (
        f"all gradients and blocks agree with the oracle (largest relative error {_number(d['largest_error'], '.1e')})"
    ),
    Ground.SIGNAL_LOST: _describe_signal_lost,
    Ground.BLOCKS_LOST: _describe_blocks_lost,
    Ground.ROUTE_LOST: lambda d: (
        f"by {d['route']}, nothing raises, but derivatives of the gradients in {_names(d['variables'])} "
        "are lost or wrong"
    ),
    Ground.CURVATURE_LOST: _describe_curvature,
    Ground.GRADIENT_WRONG: lambda d: (
        f"nothing raises, but the gradient is not that of the forward (off by {_number(d['error'])} along a direction)"
    ),
    Ground.DIFFERENTIATION_RAISES: _describe_raising,
    Ground.NEVER_DIFFERENTIABLE: lambda d: f"the first differentiation raises: {d['message']}",
    Ground.INPUT_UNUSED: lambda d: (
        f"autograd says that {_names(d['inputs'])} is unused, and the true gradient is not zero "
        f"(norm {_number(d['norm'], '.3g')})"
    ),
    Ground.OUTPUT_OUTSIDE_GRAPH: lambda d: (
        "the output is outside the graph: it does not require grad although every input does"
    ),
    Ground.BACKWARD_NOT_RUNNABLE: lambda d: f"its backward could not be run here: {d['kind']}: {d['message']}",
    Ground.FORWARD_NOT_FINITE: lambda d: "its forward returns numbers that are not finite",
    Ground.FORWARD_NOT_FINITE_NEARBY: lambda d: (
        "its forward is not finite a short way from where it was probed; give other arguments or an oracle"
    ),
    Ground.FORWARD_NOT_REPEATABLE: lambda d: (
        "its forward gives another output when it is called again with the same inputs"
    ),
    Ground.NO_DEPENDENCE: lambda d: (
        "its output does not depend on its inputs as it was called: there is no derivative to lose"
    ),
    Ground.ORACLE_DOUBTFUL: lambda d: (
        f"its forward is too coarse or too steep for finite differences to judge {_names(d['judged'])}; give an oracle"
    ),
    Ground.RAISED: _describe_raised,
    Ground.OTHER_CONFIGURATION: lambda d: f"{d['configuration']}: {d['verdict']}",
    Ground.NOT_PROBED: _describe_not_probed,
}
