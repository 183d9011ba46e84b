"""Look at what a call computes: its outputs, in the graph or lost to it, and the operations that autograd records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from theria.probes.derivatives import graph_nodes, list_leaves
from theria.probes.point import copy_strided, isolated
from theria_lint.worker.find_call.call_strategy import BoundCall, TrialSpec, list_tensors
from theria_lint.worker.find_call.run_trial import WorkingCall
from theria_lint.worker.shims.no_codegen import run_uncompiled


@dataclass(frozen=True)
class Outputs:
    """The tensors of real numbers that a target returns, by their numbers from 0.

    ``recorded`` ones are in the graph. ``lost`` ones depend on the inputs and are not in the graph; so do the
    ``declared`` ones, of which the author says so: by ``mark_non_differentiable``, or by detaching them as they are.
    """

    recorded: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    declared: tuple[int, ...] = ()


def look_at_outputs(working_call: WorkingCall) -> Outputs:
    """What a call returns, seen for two inputs; nothing where it does not run a second time."""
    try:
        with run_uncompiled():
            made = working_call.make_call()
            declared = _DeclaredTensors()
            with declared.watch():
                here = _list_returned(made, working_call.spec.seed, lambda value: value)
            there = _list_returned(made, working_call.spec.seed, lambda value: value * 0.75 + 0.1)
    except Exception:  # code that was not written for us, called once more
        return Outputs()
    if len(here) != len(there):
        return Outputs(tuple(i for i, tensor in enumerate(here) if tensor.requires_grad))
    found: dict[str, list[int]] = {"recorded": [], "lost": [], "declared": []}
    for number, (tensor, other) in enumerate(zip(here, there, strict=True)):
        if tensor.requires_grad:
            found["recorded"].append(number)
        elif tensor.shape == other.shape and not torch.equal(tensor, other):
            found["declared" if declared.holds(tensor) else "lost"].append(number)
    return Outputs(**{name: tuple(numbers) for name, numbers in found.items()})


def _list_returned(made: BoundCall, seed: int, change: Callable[[Tensor], Tensor]) -> list[Tensor]:
    leaves = [change(tensor.detach().clone()).requires_grad_() for tensor in made.inputs.values()]
    with isolated(seed):
        return list(list_tensors(made.function(*leaves)))


_COPIES = frozenset(
    (
        *("clone", "contiguous", "to", "float", "double", "half", "bfloat16", "cpu", "type_as", "type", "__getitem__"),
        *("view", "reshape", "flatten", "unflatten", "transpose", "permute", "squeeze", "unsqueeze", "expand"),
    )
)
"""Functions by whose result a tensor is still the one that was detached."""


@dataclass
class _DeclaredTensors:
    """The tensors that code detaches, and those that a ``Function`` marks as not differentiable."""

    detached: dict[int, Tensor] = field(default_factory=dict)
    marked: list[Tensor] = field(default_factory=list)

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is one of these."""
        return id(tensor) in self.detached or any(
            tensor.data_ptr() == other.data_ptr() and tensor.numel() == other.numel() for other in self.marked
        )

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Record them while it lasts."""
        mark, marked = FunctionCtx.mark_non_differentiable, self.marked

        def mark_and_record(context: Any, *tensors: Tensor) -> Any:
            marked.extend(tensors)
            return mark(context, *tensors)

        FunctionCtx.mark_non_differentiable = mark_and_record  # type: ignore[method-assign, assignment]
        try:
            with _DetachRecorder(self.detached):
                yield
        finally:
            FunctionCtx.mark_non_differentiable = mark  # type: ignore[method-assign]


class _DetachRecorder(TorchFunctionMode):
    def __init__(self, found: dict[int, Tensor]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        returned = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        tensors = [argument for argument in args if isinstance(argument, Tensor)]
        copied = name in _COPIES and tensors and all(id(tensor) in self._found for tensor in tensors)
        if isinstance(returned, Tensor) and (name in ("detach", "detach_") or copied):
            self._found[id(returned)] = returned
        return returned


Description = tuple[list[str], list[Tensor]]
"""The nodes of the graphs of a call and of its gradients, by name, and all numbers to the second order."""


def describe_computation(
    working_call: WorkingCall,
    spec: TrialSpec,
    derivatives: int = 2,
    settle: Callable[[BoundCall, int], None] = lambda made, seed: None,
) -> Description | None:
    """What a call computes, and how, up to the derivatives of an order; None where it does not run.

    ``settle`` is given the call before it is made, with the spec's seed.
    """
    try:
        with run_uncompiled(), isolated(spec.seed):
            made = working_call.make_call(spec)
            settle(made, spec.seed)
            return _describe_derivatives(made, derivatives)
    except Exception:  # code that was not written for us
        return None


def reads_numbers(working_call: WorkingCall, derivatives: int) -> bool:
    """Whether Python sees a number of a tensor in a call and its derivatives, or a size that depends on numbers.

    Where it sees none the same code runs whatever the numbers are.
    """
    recorder = _ReadingRecorder()
    try:
        with run_uncompiled(), isolated(working_call.spec.seed):
            made = working_call.make_call()
            _describe_derivatives(made, 0)  # the first call is looked at by us, too
            with recorder, _EscapeRecorder(recorder):
                _describe_derivatives(made, derivatives)
    except Exception:  # code that was not written for us
        return True
    return recorder.found


_READING_TAGS = frozenset((torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape))


class OperatorRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hears of the operators that PyTorch runs; what it does with them is its heirs' ``__torch_dispatch__``."""

    def __init__(self) -> None:
        """Hear of none yet."""
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here: to keep the compiler off would import it, in a second and more."""
        return False


class _ReadingRecorder(OperatorRecorder):  # type: ignore[no-untyped-call]
    """Hears of the operators that PyTorch says to depend on numbers in what Python sees of them."""

    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.found = self.found or not _READING_TAGS.isdisjoint(func.tags)
        return func(*args, **(kwargs or {}))


class _EscapeRecorder(TorchFunctionMode):
    """Hears of the ways by which numbers leave PyTorch without an operator."""

    def __init__(self, recorder: _ReadingRecorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._recorder.found = self._recorder.found or getattr(func, "__name__", "") in _ESCAPES
        return func(*args, **(kwargs or {}))


_ESCAPES = frozenset(
    ("numpy", "tolist", "data_ptr", "storage", "untyped_storage", "__array__", "__dlpack__", "__cuda_array_interface__")
)


def _describe_derivatives(made: BoundCall, derivatives: int) -> Description:
    leaves = [copy_strided(tensor).requires_grad_() for tensor in made.inputs.values()]
    learned = [p for p in made.module.parameters() if p.requires_grad] if made.module is not None else []
    outputs = list(list_tensors(made.function(*leaves)))
    # What is learned beside the module's parameters too: a file may keep some, and what it has computed of them.
    variables = list(dict.fromkeys([*leaves, *learned, *list_leaves(outputs)]))
    nodes, numbers = [], [output.detach() for output in outputs]
    for _ in range(derivatives):
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
