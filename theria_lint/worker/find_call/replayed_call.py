"""Call a target as a recorded call did: the same structure, numbers drawn anew."""

from __future__ import annotations

import base64
import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from theria_lint.calls.call_tree import FEW, LARGEST_NUMBER, LostArgumentError, Tree, TreeReader
from theria_lint.model import TargetKind
from theria_lint.reasons import ReasonCode
from theria_lint.worker.find_call.call_strategy import (
    CONSTRUCTOR_PREFIX,
    RECORDED,
    BoundCall,
    CallStrategy,
    Cut,
    TrialSpec,
)
from theria_lint.worker.find_call.choose_arguments import read_enums
from theria_lint.worker.find_call.indices_in_floats import find_indices, holds_whole_numbers
from theria_lint.worker.find_call.named_modules import load_named_modules
from theria_lint.worker.find_call.prepared_module import perturb_parameters, turn_attributes
from theria_lint.worker.find_call.run_trial import (
    InvalidTrialError,
)
from theria_lint.worker.find_call.signatures import POSITIONAL, read_parameters
from theria_lint.worker.parameter_vector import PARAMETERS, as_function_of_parameters

OFF = 0.03
"""How far numbers are moved that were all the same, as a test gives zeros or ones: there, much cannot be seen.

Upwards, for what was zero may be a sum of squares, of which a root or a logarithm is taken.
"""


def make_replayed_strategy(target: Any, kind: TargetKind, calls: Sequence[Mapping[str, Any]]) -> CallStrategy:
    """The way to call a target as it was recorded; which call, the trial's choice says."""
    replays = [_Replay(target, kind, call) for call in calls]

    def make(spec: TrialSpec, choice: Mapping[str, int]) -> BoundCall:
        return replays[choice.get(RECORDED, 0)].make_call(spec)

    callers = tuple(replay.caller for replay in replays)
    shown = any("kept" in call for call in calls)
    home, switches = getattr(target, "__module__", "") or "", tuple(_list_causal_switches(target, kind))
    return CallStrategy(make, (), switches, home=home, callers=callers, shown=shown)


def _list_causal_switches(target: Any, kind: TargetKind) -> Iterator[str]:
    """The parameters, of the call and of the constructor, that turn a causal mask on, by their places."""
    called = inspect.isclass(target) and kind is not TargetKind.AUTOGRAD_FUNCTION
    entry = getattr(target, "forward", None) or target.__call__ if called else target
    for prefix, function in (("", entry), *(((CONSTRUCTOR_PREFIX, target),) if called else ())):
        with suppress(TypeError, ValueError):  # it has no signature
            yield from (f"{prefix}{name}" for name in read_parameters(function) if "causal" in name.lower())


class _Replay:
    """One recorded call, bound to a target."""

    def __init__(self, target: Any, kind: TargetKind, held: Mapping[str, Any]) -> None:
        """``held`` has the document of a call, and ``tensors`` (safetensors, base64) or those ``kept`` themselves."""
        self._target, self._kind, self._document = target, kind, held["document"]
        self._held = held
        self._home = getattr(target, "__module__", "") or ""
        self.caller = str(self._document["caller"])
        self._indices: frozenset[str] | None = None
        load_named_modules(self._document, self._home)

    @cached_property
    def _kept(self) -> dict[str, Tensor]:
        if "kept" in self._held:
            return dict(self._held["kept"])
        return _load_tensors(base64.b64decode(self._held["tensors"])) if self._held["tensors"] else {}

    def make_call(self, spec: TrialSpec) -> BoundCall:
        """The call in a spec: its dtype, device and seed count, its sizes are the recorded ones.

        Raises:
            InvalidTrialError: if the arguments do not fit the signature, or something that they name is not there.
        """
        try:
            return self._make_call(spec)
        except LostArgumentError as error:
            raise InvalidTrialError(ReasonCode.LOST_ARGUMENT, reason=error.reason) from None

    def _make_call(self, spec: TrialSpec) -> BoundCall:
        function, module = self._build(spec)
        inputs: dict[str, Tensor] = {}
        constants: dict[str, Tensor] = {}
        masked: dict[str, tuple[Tensor, Tensor]] = {}
        whole: dict[str, Tensor] = {}

        def draw(name: str, told: Tree) -> Tensor:
            tensor = self._draw(name, told, spec, spec.cut)
            fixed = _find_fixed_numbers(tensor)
            if bool(fixed.all()) or name in (self._indices or ()):
                constants[name] = tensor
                return tensor
            if bool(fixed.any()):
                masked[name] = fixed, tensor
                inputs[name] = tensor.masked_fill(fixed, float(tensor[~fixed].mean()))
                return tensor
            if holds_whole_numbers(tensor):
                whole[name] = tensor
            if tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
                tensor = tensor + OFF * spec.draw_tensor(name, tensor.shape).abs().to(tensor)
            inputs[name] = tensor
            return tensor

        modules: dict[str, nn.Module] = {}
        turned = spec.list_turned()
        args, kwargs = TreeReader(draw, self._home, modules, spec.cut).read_arguments(self._document)
        for given in modules.values():
            self._settle(given, spec)
        parameters = self._bind_parameters(function, args, kwargs)
        names = list(inputs)

        def call(*values: Tensor) -> Any:
            given = dict(zip(names, values, strict=True)) | {n: t.clone() for n, t in constants.items()}
            given |= {n: torch.where(fixed, before, given[n]) for n, (fixed, before) in masked.items()}
            reader = TreeReader(lambda name, told: given[name], self._home, modules, spec.cut)
            args, kwargs = _turn(*reader.read_arguments(self._document), parameters, turned)
            return function(*args, **kwargs)

        if self._indices is None:
            with suppress(Exception):  # what stops it stops the trial as well
                self._indices = find_indices(BoundCall(call, inputs), whole, spec.seed)
            if self._indices:
                return self._make_call(spec)
        if modules and module is None:  # what it is given weighs as much as what it has
            module = nn.ModuleList(modules.values())
        if not inputs:  # of tokens, say: what it has learned is all that there is to differentiate in
            joint = as_function_of_parameters(module, call) if module is not None else None
            if joint is None:
                raise LostArgumentError(ReasonCode.NO_TENSOR_GIVEN)
            return BoundCall(joint.function, {PARAMETERS: joint.vector}, sizes={PARAMETERS: joint.sizes})
        return BoundCall(call, {_rename(n, parameters): tensor for n, tensor in inputs.items()}, module=module)

    @staticmethod
    def _settle(module: nn.Module, spec: TrialSpec) -> None:
        """Give a module the spec's dtype and device, and no parameter a special value."""
        module.to(spec.device, spec.dtype)
        perturb_parameters(dict(module.named_parameters()), spec)

    def _build(self, spec: TrialSpec) -> tuple[Any, nn.Module | None]:
        """What is called, with the module that was built for it, whose weights depend on nothing but the seed."""
        torch.default_generator.manual_seed(spec.seed)
        if self._kind is TargetKind.AUTOGRAD_FUNCTION:
            return self._target.apply, None
        given = self._document["constructor"] or self._document.get("factory")
        if given is None:
            return self._target, None
        cut = spec.cut if spec.cut_widths else {}
        reader = TreeReader(lambda name, told: self._draw(name, told, spec, cut), self._home, cut=cut)
        args, kwargs = reader.read_arguments(given)
        turned = spec.list_turned(CONSTRUCTOR_PREFIX)
        if turned:
            parameters = read_parameters(self._target)
            args, kwargs = _turn(args, kwargs, list(parameters), read_enums(turned, parameters))
        built = self._target(*args, **kwargs)
        if not callable(built):
            raise LostArgumentError(ReasonCode.NOT_A_FUNCTION, kind=type(built).__name__)
        turn_attributes(built, spec)
        if not isinstance(built, nn.Module):
            return built, None
        built.train(bool(self._document.get("training", True)) and not spec.evaluating)
        self._settle(built, spec)
        return built, built

    def _draw(self, name: str, told: Tree, spec: TrialSpec, cut: Cut | None = None) -> Tensor:
        """A tensor as it was: whole where it was kept, else numbers of the same mean, spread and bounds."""
        dtype = getattr(torch, told["dtype"])
        if dtype.is_complex and "kept" not in told:
            parts = dict(told, shape=[*told["shape"], 2], stride=[*(2 * n for n in told["stride"]), 1], dtype="float64")
            return torch.view_as_complex(self._draw(name, parts, spec, cut).double()).to(spec.dtype.to_complex())
        wanted = spec.dtype if dtype.is_floating_point else spec.dtype.to_complex() if dtype.is_complex else dtype
        if "kept" in told:
            numbers = self._read_kept(told, cut or {})
        else:
            normal = spec.draw_tensor(name, cut_shape(told["shape"], cut or {})).double()
            numbers = (told["mean"] + told["std"] * normal).clamp(told["low"], told["high"])
        return _arrange(numbers.to(spec.device, wanted), told["stride"])

    def _read_kept(self, told: Tree, cut: Cut) -> Tensor:
        """A tensor that was kept whole, or the beginning of which was."""
        name, shape = told["kept"], cut_shape(told["shape"], cut)
        if name not in self._kept:
            raise LostArgumentError(ReasonCode.NO_SUCH_NAME, kind="tensor", name=name)
        kept = told.get("corner") or told["shape"]
        if any(wanted > left for wanted, left in zip(shape, kept, strict=True)):
            raise LostArgumentError(ReasonCode.TENSOR_TOO_LARGE, numbers=math.prod(told["shape"]))
        return cut_tensor(self._kept[name].expand(kept), cut, shape)

    def _bind_parameters(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
        """The names of the parameters that take the positional arguments, as far as there are names."""
        called = self._target.forward if self._kind is TargetKind.AUTOGRAD_FUNCTION else function
        called = called.forward if isinstance(called, nn.Module) else called
        given = (None, *args) if self._kind is TargetKind.AUTOGRAD_FUNCTION else args
        try:
            signature = inspect.signature(called)
            signature.bind(*given, **kwargs)
        except TypeError as error:
            raise InvalidTrialError(ReasonCode.STALE_CALL, caller=self.caller, message=str(error)) from None
        except ValueError:  # it has no signature
            return []
        names = [name for name, parameter in signature.parameters.items() if parameter.kind in POSITIONAL]
        return names[1:] if self._kind is TargetKind.AUTOGRAD_FUNCTION else names


def _turn(
    args: list[Any], kwargs: dict[str, Any], names: Sequence[str], turned: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments with other values for some; ``names`` are those of the parameters by position."""
    places = {name: place for place, name in enumerate(names[: len(args)])}
    args = [turned.get(name, value) for name, value in zip_longest(names[: len(args)], args)]
    return args, kwargs | {name: value for name, value in turned.items() if name not in places}


def _load_tensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a recorded call.

    Raises:
        LostArgumentError: if they are not there, or safetensors is not.
    """
    try:
        from safetensors.torch import load  # the environment of the target may lack it: only recorded calls need it

        return load(data)
    except ImportError:
        raise LostArgumentError(ReasonCode.TENSORS_UNREADABLE, kind=ImportError.__name__) from None
    except Exception as error:  # a file that is none
        raise LostArgumentError(ReasonCode.TENSORS_UNREADABLE, kind=type(error).__name__) from None


def _arrange(tensor: Tensor, stride: Sequence[int]) -> Tensor:
    """The tensor with its axes in memory as they were, where that is an order of axes."""
    order = sorted(range(tensor.dim()), key=lambda axis: -stride[axis])
    if order == list(range(tensor.dim())) or 0 in stride:
        return tensor.contiguous()
    inverse = [order.index(axis) for axis in range(tensor.dim())]
    return tensor.permute(order).contiguous().permute(inverse)


def _find_fixed_numbers(tensor: Tensor) -> Tensor:
    """The places that nobody differentiates in: those of what stands for infinity, and all where that is a mask's."""
    if not tensor.is_floating_point():
        return torch.ones_like(tensor, dtype=torch.bool)
    fixed = ~(tensor.abs() < LARGEST_NUMBER)
    mask = bool(fixed.any()) and len(torch.unique(tensor[~fixed])) <= FEW
    return torch.ones_like(fixed) if mask else fixed


def _rename(name: str, parameters: Sequence[str]) -> str:
    """What an input is called in a report: a positional argument has the name of its parameter."""
    place = re.match(r"\d+", name)
    if place is None:
        return name
    index = int(place[0])
    return (parameters[index] if index < len(parameters) else f"arg{index}") + name[place.end() :]


def cut_shape(shape: Sequence[int], cut: Cut) -> tuple[int, ...]:
    """A shape with some of its sizes cut."""
    return tuple(cut.get(size, size) for size in shape)


def cut_tensor(tensor: Tensor, cut: Cut, shape: Sequence[int] | None = None) -> Tensor:
    """The beginning of a tensor along each axis that is cut; whole numbers that point beyond it point into it.

    ``shape`` is that of what is left, where the tensor itself is a beginning already.
    """
    for axis, left in enumerate(cut_shape(tensor.shape, cut) if shape is None else shape):
        tensor = tensor.narrow(axis, 0, left)
    if tensor.dtype is torch.bool or tensor.is_floating_point() or tensor.is_complex() or not tensor.numel():
        return tensor
    for size, left in sorted(cut.items()):
        largest = int(tensor.max())
        if largest == size:  # lengths of whole sequences, or the ends of packed ones
            ends = tensor.dim() == 1 and int(tensor[0]) == 0 and bool((tensor.diff() >= 0).all())
            return tensor * left // size if ends else tensor.clamp(max=left)
        if left <= largest < size:
            return tensor % left
    return tensor
