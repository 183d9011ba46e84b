"""Substitutes for suspects that no rewrite removes: run a Function's forward where autograd records it.

A variant without a suspect needs code that does not contain it. Nobody would write the rewrite of an opaque backward,
or of a tensor that was saved off the graph. `ForwardAutograd` differentiates the forward instead of calling the
backward; `RegraphedSave` recomputes saved tensors on the graph. Neither is assumed to be exact: a substitute counts
only where it is measured to be safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionMeta
from torch.overrides import TorchFunctionMode

from theria_lint.reasons import CodedError, ReasonCode

_KEPT = "_theria_kept"
_MEMORY = "_theria_memory"
_PLAIN = "_theria_plain"

_CUTS = frozenset({torch.detach, torch.detach_, Tensor.detach, Tensor.detach_, Tensor.data.__get__})  # type: ignore[attr-defined]


class _UncutGraphMode(TorchFunctionMode):
    """Records through what switches recording off: inside a forward it did nothing, and would do harm here."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _CUTS:
            return args[0]
        return None if func is torch._C._set_grad_enabled else func(*args, **(kwargs or {}))


class _ForwardContext:
    """A ``ctx`` that keeps what a forward gives it."""

    def __init__(self, inputs: Sequence[Any]) -> None:
        self.needs_input_grad = tuple(isinstance(value, Tensor) and value.requires_grad for value in inputs)
        self.to_save: tuple[Any, ...] = ()
        self.constant: tuple[Any, ...] = ()

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return self.to_save

    def save_for_backward(self, *tensors: Any) -> None:
        self.to_save = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        self.constant = tensors

    def _ignore_arguments(self, *arguments: Any) -> None:
        """What concerns a backward that is not run."""

    mark_dirty = save_for_forward = set_materialize_grads = _ignore_arguments


def _record_forward(
    forward: Callable[..., Any], setup: Callable[..., Any] | None, inputs: Sequence[Any]
) -> tuple[Any, _ForwardContext]:
    """Run a forward, with its ``setup_context`` where it has one, as recorded code; the output and the context."""
    context = _ForwardContext(inputs)
    with _UncutGraphMode():
        if setup is None:
            return forward(context, *inputs), context
        output = forward(*inputs)
        setup(context, tuple(inputs), output)
    return output, context


def _find_setup_context(function: Any) -> Callable[..., Any] | None:
    """The ``setup_context`` of a Function that has one."""
    return None if function.setup_context is Function.setup_context else function.setup_context


class ForwardAutograd(FunctionMeta):
    """The metaclass of a Function whose ``apply`` runs its forward as recorded code: its backward is never run."""

    def __init__(self, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        """Replace ``apply``."""
        super().__init__(name, bases, namespace)  # type: ignore[no-untyped-call]
        self.apply = classmethod(_apply_forward)


def _apply_forward(function: Any, *inputs: Any) -> Any:
    output, context = _record_forward(function.forward, _find_setup_context(function), inputs)
    constant = {id(tensor) for tensor in context.constant}
    if isinstance(output, tuple):
        return tuple(value.detach() if id(value) in constant else value for value in output)
    return output.detach() if id(output) in constant else output


def mark_kept(value: Any) -> Any:
    """The same tensor, known as one that a backward is to find on the graph."""
    if not isinstance(value, Tensor):
        return value
    alias = value.view_as(value)
    setattr(alias, _KEPT, True)
    return alias


def _is_kept(value: Any) -> bool:
    return hasattr(value, _KEPT)


class RegraphedSave(FunctionMeta):
    """The metaclass of a Function whose backward finds on the graph what `mark_kept` marks: recomputed from inputs."""

    def __init__(self, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        """Wrap what keeps tensors and what unpacks them."""
        super().__init__(name, bases, namespace)  # type: ignore[no-untyped-call]
        _wrap_methods(self)


def _wrap_methods(function: Any) -> None:
    """Wrap the methods of a Function; those that it inherits may be wrapped already."""
    forward, backward, setup = (
        _unwrap_method(function.forward),
        _unwrap_method(function.backward),
        _unwrap_method(_find_setup_context(function)),
    )
    if setup is None:
        function.forward = _save_inputs_in_forward(forward)
    else:
        function.forward = staticmethod(forward)
        function.setup_context = _save_inputs_in_setup(setup)
    function.backward = _regraph_in_backward(forward, setup, backward)


def _unwrap_method(method: Any) -> Any:
    return getattr(method, _PLAIN, method)


def _make_static_wrapper(plain: Callable[..., Any], wrapped: Callable[..., Any]) -> Any:
    """A static method that says what it wraps: whoever calls it may read the signature."""
    setattr(wrapped, _PLAIN, plain)
    return staticmethod(wraps(plain)(wrapped))


def _save_inputs_in_forward(forward: Callable[..., Any]) -> Any:
    def remembered(ctx: Any, *inputs: Any) -> Any:
        output = forward(ctx, *inputs)
        _save_inputs(ctx, inputs)
        return output

    return _make_static_wrapper(forward, remembered)


def _save_inputs_in_setup(setup: Callable[..., Any]) -> Any:
    def remembered(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        setup(ctx, inputs, output)
        _save_inputs(ctx, inputs)

    return _make_static_wrapper(setup, remembered)


def _regraph_in_backward(
    forward: Callable[..., Any], setup: Callable[..., Any] | None, backward: Callable[..., Any]
) -> Any:
    def unpacked(ctx: Any, *gradients: Any) -> Any:
        return backward(_RegraphedContext(ctx, forward, setup), *gradients)

    return _make_static_wrapper(backward, unpacked)


@dataclass
class _SavedInputs:
    """How to find the inputs of a forward behind the tensors that it saved, and which of those are marked."""

    saved: int
    marked: tuple[int, ...]
    constants: tuple[Any, ...]
    places: tuple[int, ...]

    def list_inputs(self, tensors: Sequence[Any]) -> list[Any]:
        """The inputs, from all that was saved."""
        inputs = list(self.constants)
        for place, tensor in zip(self.places, tensors[self.saved :], strict=True):
            inputs[place] = tensor
        return inputs


def _save_inputs(ctx: Any, inputs: Sequence[Any]) -> None:
    """Save the inputs behind what was saved already."""
    saved = tuple(getattr(ctx, "to_save", None) or ())
    places = tuple(place for place, value in enumerate(inputs) if isinstance(value, Tensor))
    constants = tuple(None if place in places else value for place, value in enumerate(inputs))
    marked = tuple(index for index, value in enumerate(saved) if _is_kept(value))
    setattr(ctx, _MEMORY, _SavedInputs(len(saved), marked, constants, places))
    ctx.save_for_backward(*saved, *(inputs[place] for place in places))


class _RegraphedContext:
    """The ``ctx`` of a backward that finds on the graph what is marked, as long as a graph is made."""

    def __init__(self, ctx: Any, forward: Callable[..., Any], setup: Callable[..., Any] | None) -> None:
        self.__dict__.update(_ctx=ctx, _forward=forward, _setup=setup)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        memory, tensors = getattr(self._ctx, _MEMORY), self._ctx.saved_tensors
        saved = list(tensors[: memory.saved])
        for index in memory.marked if torch.is_grad_enabled() else ():
            saved[index] = _check_same_values(self._again.to_save[index], saved[index])
        return tuple(saved)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._ctx, name)
        parts = value if isinstance(value, tuple | list) else (value,)
        if not (torch.is_grad_enabled() and any(map(_is_kept, parts))):
            return value
        again = getattr(self._again, name)
        if _is_kept(value):
            return _check_same_values(again, value)
        return type(value)(
            _check_same_values(new, old) if _is_kept(old) else old for new, old in zip(again, value, strict=True)
        )

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._ctx, name, value)

    @property
    def _again(self) -> _ForwardContext:
        """The context of another run of the forward, on the inputs as they are on the graph."""
        inputs = getattr(self._ctx, _MEMORY).list_inputs(self._ctx.saved_tensors)
        return _record_forward(self._forward, self._setup, inputs)[1]


def _check_same_values(new: Any, old: Any) -> Any:
    if not torch.equal(new, old):
        raise CodedError(ReasonCode.FORWARD_CHANGES)
    return new
