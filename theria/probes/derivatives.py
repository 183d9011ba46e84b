"""First and second derivatives of a function at a point, by every route that autograd offers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import Node

from theria.probes.point import Function, Point, call, isolated
from theria.verdicts import COTANGENT, Ground, Reason, find_coded_error


class Route(NamedTuple):
    """How the two differentiations are asked for.

    ``torch.autograd.grad`` and ``Tensor.backward`` disagree: ``grad`` prunes the error node of
    ``@once_differentiable``, ``backward`` runs it; reentrant checkpointing refuses ``grad`` and loses blocks under
    ``backward``. Some code raises only when the cotangent W requires grad.
    """

    first: str
    second: str
    cotangent_requires_grad: bool
    only: str | None = None
    """The one input that requires grad; None for all: some backwards take another path for a frozen input."""

    def __str__(self) -> str:
        """The route in the words of PyTorch's API."""
        names = {"grad": "autograd.grad", "backward": ".backward"}
        tail = "" if self.cotangent_requires_grad else ", constant cotangent"
        tail += f", only {self.only} requiring grad" if self.only else ""
        return f"{names[self.first]} then {names[self.second]}{tail}"


PRIMARY = Route("grad", "grad", True)
SECONDARY = (
    Route("grad", "backward", True),
    Route("grad", "grad", False),
    Route("backward", "grad", True),
    Route("backward", "backward", False),
)


def frozen_routes(names: Iterable[str]) -> tuple[Route, ...]:
    """Routes on which all inputs but one are frozen."""
    names = list(names)
    return tuple(Route("grad", "grad", True, name) for name in names) if len(names) > 1 else ()


class Failure(NamedTuple):
    """An exception that a differentiation raised: at which order, of what type, saying what; its ``reason``."""

    order: int
    kind: str
    message: str
    reason: Reason | None = None

    @classmethod
    def from_error(cls, order: int, error: BaseException) -> Failure:
        """What is to be known of an exception."""
        coded = find_coded_error(error)
        return cls(order, type(error).__name__, first_line(error), coded.reason if coded else None)

    def explain(self) -> Reason:
        """The reason that it gives itself, or that it was raised."""
        return self.reason or Reason(Ground.RAISED, {"kind": self.kind, "message": self.message})


@dataclass
class Derivatives:
    """What one route measured.

    ``gradients[a]`` is g_a = ∂L/∂a, None where autograd says that a is unused. ``rows[a, b]`` is ∂⟨u_a, g_a⟩/∂b, of
    b's shape, None where there is no path. On secondary routes ``rows["*", b]`` holds the sum over a. ``part_rows``
    has the rows of each part of an input, by its name and b: u_a is zero elsewhere.
    ``error_node``: the graph of the gradients holds the node that ``@once_differentiable`` leaves there.
    """

    output: Tensor
    in_graph: bool = True
    gradients: dict[str, Tensor | None] = field(default_factory=dict)
    rows: dict[tuple[str, str], Tensor | None] = field(default_factory=dict)
    part_rows: dict[tuple[str, str], Tensor | None] = field(default_factory=dict)
    failure: Failure | None = None
    error_node: bool = False

    def to(self, device: torch.device) -> Derivatives:
        """The same numbers on another device."""

        def move(tensors: Mapping[Any, Tensor | None]) -> dict[Any, Tensor | None]:
            return {key: None if tensor is None else tensor.to(device) for key, tensor in tensors.items()}

        moved = replace(self, output=self.output.to(device), gradients=move(self.gradients))
        return replace(moved, rows=move(self.rows), part_rows=move(self.part_rows))


def differentiate(function: Function, point: Point, route: Route, dtype: torch.dtype | None = None) -> Derivatives:
    """Measure the function's derivatives at a point; exceptions of the function's own forward pass through."""
    arguments = point.leaves(dtype)
    leaves = {name: leaf for name, leaf in arguments.items() if route.only in (None, name)}
    for name in arguments.keys() - leaves.keys():
        arguments[name].requires_grad_(False)
    output = call(function, arguments, point.seed)
    result = Derivatives(output.detach(), in_graph=output.requires_grad)
    if not output.requires_grad:
        return result
    cotangent = point.cotangent.detach().clone().requires_grad_(route.cotangent_requires_grad)
    order = 1
    try:
        with isolated(point.seed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # .backward(create_graph=True) warns of a cycle that is broken below
            result.gradients = _first(_loss(output, cotangent), leaves, route)
            order = 2
            result.error_node = holds_error_node(result.gradients.values())
            variables = {**leaves, COTANGENT: cotangent} if route.cotangent_requires_grad else leaves
            for source, scalars in _scalars(result.gradients, point, route):
                rows = {part: _second(scalar, variables, route) for part, scalar in scalars.items()}
                result.rows |= {(source, b): _sum(row[b] for row in rows.values()) for b in variables}
                result.part_rows |= {(part, b): row[b] for part, row in rows.items() for b in row if part != source}
    except Exception as error:
        result.failure = Failure.from_error(order, error)
    finally:
        for leaf in (*leaves.values(), cotangent):
            leaf.grad = None
    result.gradients = {name: None if g is None else g.detach() for name, g in result.gradients.items()}
    return result


def second_of_all(output: Tensor, leaves: Mapping[str, Tensor], point: Point, route: Route) -> None:
    """Differentiate an output twice by a route, and let through whatever that raises."""
    cotangent = point.cotangent.detach().clone().requires_grad_(route.cotangent_requires_grad)
    with isolated(point.seed):
        gradients = _first(_loss(output, cotangent), leaves, route)
        for _, scalars in _scalars(gradients, point, route):
            for scalar in scalars.values():
                _second(scalar, {**leaves, COTANGENT: cotangent}, route)


def differentiates_once(function: Function, point: Point) -> bool:
    """Whether the first derivative can be had where nobody asks for a graph of it."""
    arguments = point.leaves()
    try:
        with isolated(point.seed):
            output = call(function, arguments, point.seed)
            loss = _loss(output, point.cotangent.detach())
            torch.autograd.grad(loss, list(arguments.values()), allow_unused=True)
    except Exception:  # autograd, or the function's own backward, refuses
        return False
    return True


def _loss(output: Tensor, cotangent: Tensor) -> Tensor:
    """The scalar ⟨W, output⟩."""
    return (cotangent * output.to(cotangent.dtype)).sum()


def _first(loss: Tensor, leaves: Mapping[str, Tensor], route: Route) -> dict[str, Tensor | None]:
    if route.first == "grad":
        gradients = torch.autograd.grad(loss, list(leaves.values()), create_graph=True, allow_unused=True)
        return dict(zip(leaves, gradients, strict=True))
    torch.autograd.backward(loss, create_graph=True)
    return {name: leaf.grad for name, leaf in leaves.items()}


def _scalars(
    gradients: Mapping[str, Tensor | None], point: Point, route: Route
) -> Iterator[tuple[str, dict[str, Tensor | None]]]:
    """The scalars ⟨u_a, g_a⟩ to differentiate again: on the primary route those of each input, else the sum of all.

    Of an input there is one for each of its parts, by their names.
    """
    terms = {
        name: point.directions[name] * g.to(torch.float64)
        for name, g in gradients.items()
        if g is not None and g.requires_grad
    }
    if route != PRIMARY:
        yield "*", {"*": torch.stack([term.sum() for term in terms.values()]).sum() if terms else None}
        return
    for name in gradients:
        parts = point.parts(name) if name in terms else {}
        yield (
            name,
            {part: terms[name][place].sum() for part, place in parts.items()}
            or {name: terms[name].sum() if name in terms else None},
        )


def _sum(rows: Iterable[Tensor | None]) -> Tensor | None:
    found = [row for row in rows if row is not None]
    return reduce(torch.add, found) if found else None


def _second(scalar: Tensor | None, variables: Mapping[str, Tensor], route: Route) -> dict[str, Tensor | None]:
    if scalar is None:
        return dict.fromkeys(variables)
    if route.second == "grad":
        rows = torch.autograd.grad(scalar, list(variables.values()), retain_graph=True, allow_unused=True)
        return {name: None if r is None else r.detach() for name, r in zip(variables, rows, strict=True)}
    for leaf in variables.values():
        leaf.grad = None
    torch.autograd.backward(scalar, retain_graph=True)
    return {name: leaf.grad for name, leaf in variables.items()}


def holds_error_node(gradients: Iterable[Tensor | None]) -> bool:
    """Whether ``@once_differentiable`` left its error node in the graph behind the gradients."""
    return any(node.name().rpartition("::")[2] == "Error" for node in graph_nodes(gradients))


def graph_nodes(tensors: Iterable[Tensor | None]) -> Iterator[Node]:
    """The nodes of the graph behind some tensors, each once."""
    stack = [tensor.grad_fn for tensor in tensors if tensor is not None and tensor.grad_fn is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        yield node
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)


def list_leaves(tensors: Iterable[Tensor | None]) -> list[Tensor]:
    """The tensors that the graph behind some tensors begins with."""
    return [node.variable for node in graph_nodes(tensors) if hasattr(node, "variable")]


def first_line(error: BaseException) -> str:
    """What an exception says, in one line; of a Triton kernel that does not compile, what its compiler complains of.

    Triton's own message begins with the place in the kernel, and lacks the complaint where that is in a helper.
    """
    lines = str(error).strip().splitlines() or ["no message"]
    if type(error).__name__ != "CompilationError":
        return lines[0][:300]
    inner = error.__cause__
    if inner is None:  # the complaint, if any, stands below the mark under the place
        return (lines[0] if lines[-1].strip() == "^" else lines[-1])[:300]
    return first_line(inner) if type(inner) is type(error) else f"{type(inner).__name__}: {first_line(inner)}"
