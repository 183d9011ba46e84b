"""Describe what a call computes, to the second order, so that two calls can be told apart."""

from __future__ import annotations

import torch
from torch import Tensor

from theria.probes.derivatives import graph_nodes
from theria.probes.point import copy_strided, isolated
from theria_lint.worker.find_call.call_strategy import BoundCall, list_tensors
from theria_lint.worker.find_call.run_trial import WorkingCall
from theria_lint.worker.find_call.trial_spec import TrialSpec
from theria_lint.worker.shims.no_codegen import run_uncompiled

Description = tuple[list[str], list[Tensor]]
"""The nodes of the graphs of a call and of its gradients, by name, and all numbers to the second order."""


def describe_computation(working_call: WorkingCall, spec: TrialSpec) -> Description | None:
    """What a call computes, and how; None where it does not run."""
    try:
        with run_uncompiled(), isolated(spec.seed):
            made = working_call.make_call(spec)
            return _describe_derivatives(made)
    except Exception:  # code that was not written for us
        return None


def _describe_derivatives(made: BoundCall) -> Description:
    leaves = [copy_strided(tensor).requires_grad_() for tensor in made.inputs.values()]
    variables = (
        [*leaves, *(p for p in made.module.parameters() if p.requires_grad)] if made.module is not None else leaves
    )
    outputs = list(list_tensors(made.function(*leaves)))
    nodes, numbers = [], [output.detach() for output in outputs]
    for _ in range(2):
        outputs = [output for output in outputs if output.requires_grad]
        nodes += sorted(node.name() for node in graph_nodes(outputs))
        if not outputs:
            break
        loss = torch.stack(
            [(o.double() * torch.linspace(0.5, 1.5, o.numel()).view(o.shape).to(o)).sum() for o in outputs]
        ).sum()
        try:
            found = torch.autograd.grad(loss, variables, create_graph=True, allow_unused=True)
        except Exception as error:  # a derivative that cannot be had is a fact like any other
            nodes.append(f"{type(error).__name__}: {error}")
            break
        outputs = [g for g in found if g is not None]
        nodes.append(str([g is None for g in found]))
        numbers += [g.detach() for g in outputs]
    return nodes, numbers


def are_alike(one: Description, other: Description) -> bool:
    """Whether two calls compute the same in the same way."""
    (nodes, numbers), (others, values) = one, other
    if nodes != others or len(numbers) != len(values):
        return False
    return not any(not torch.equal(a, b) for a, b in zip(numbers, values, strict=True))
