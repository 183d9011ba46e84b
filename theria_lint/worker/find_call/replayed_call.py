"""Call a target as a recorded call did: the same structure, numbers drawn anew, smaller where that is slow."""

from __future__ import annotations

import base64
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from theria_lint.calls.call_tree import LARGEST_NUMBER, LostArgumentError, Tree, TreeReader, iter_tensors
from theria_lint.model import TargetKind
from theria_lint.reasons import ReasonCode
from theria_lint.worker.clock import read_clock
from theria_lint.worker.find_call.call_strategy import ATTRIBUTE, CONSTRUCTOR_PREFIX, BoundCall, CallStrategy, TrialSpec
from theria_lint.worker.find_call.choose_arguments import read_enums
from theria_lint.worker.find_call.computation import describe_computation
from theria_lint.worker.find_call.module_calls import perturb_parameters
from theria_lint.worker.find_call.run_trial import (
    CallSearch,
    CannotCallError,
    InvalidTrialError,
    WorkingCall,
    compute_first_gradients,
)
from theria_lint.worker.find_call.signatures import POSITIONAL, read_parameters
from theria_lint.worker.parameter_vector import PARAMETERS, as_function_of_parameters

RECORDED = "recorded:"
"""The name in a trial's choice under which the number of a recorded call stands."""

OFF = 0.03
"""How far numbers are moved that were all the same, as a test gives zeros or ones: there, much cannot be seen."""

Cut = Mapping[int, int]
"""What becomes of the axes of a size, by that size."""


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

        def draw(name: str, told: Tree) -> Tensor:
            tensor = self._draw(name, told, spec, spec.cut)
            if not _is_differentiable(tensor):
                constants[name] = tensor
            elif tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
                inputs[name] = tensor = tensor + OFF * spec.draw_tensor(name, tensor.shape).to(tensor)
            else:
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
            reader = TreeReader(lambda name, told: given[name], self._home, modules, spec.cut)
            args, kwargs = _turn(*reader.read_arguments(self._document), parameters, turned)
            return function(*args, **kwargs)

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
        """What is called, with the module that was built for it."""
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
        for name, value in spec.list_turned(ATTRIBUTE).items():
            setattr(built, name, value)
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
            numbers = cut_tensor(self._get_kept(told["kept"]).expand(told["shape"]), cut or {})
        else:
            normal = spec.draw_tensor(name, cut_shape(told["shape"], cut or {})).double()
            numbers = (told["mean"] + told["std"] * normal).clamp(told["low"], told["high"])
        return _arrange(numbers.to(spec.device, wanted), told["stride"])

    def _get_kept(self, name: str) -> Tensor:
        if name not in self._kept:
            raise LostArgumentError(ReasonCode.NO_SUCH_NAME, kind="tensor", name=name)
        return self._kept[name]

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


def _is_differentiable(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return False
    return bool(tensor.abs().max() < LARGEST_NUMBER)


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


def cut_tensor(tensor: Tensor, cut: Cut) -> Tensor:
    """The beginning of a tensor along each axis that is cut; whole numbers that point beyond it point into it."""
    for axis, size in enumerate(tensor.shape):
        tensor = tensor.narrow(axis, 0, cut.get(size, size))
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


FAST = 0.02
"""Seconds of processor time for a forward and a backward that leave a call as it is: a probe makes some hundreds."""

SLOW = 0.06
"""Seconds from which a call is measured along directions alone, where it cannot be made smaller."""

SHORTEST = 8
"""Nothing is cut below this."""


FACTORS = (2, 4, 8, 16, 32, 64)
"""By how much sizes are cut."""


def settle_size(search: CallSearch, found: WorkingCall, document: Mapping[str, Any]) -> WorkingCall:
    """A recorded call that works, at sizes at which it can be probed; along directions where none is fast enough.

    The numbers that a constructor was given are cut where cutting the arguments alone was not enough: a width then is
    that of the inputs still.
    """
    fastest, least = found, _time_call(found)
    if least <= FAST:
        return found
    spent = least
    for cut_widths in (False, True) if document["constructor"] or document.get("factory") else (False,):
        smaller = _cut_call(search, found, document, spent, cut_widths=cut_widths)
        seconds = spent if smaller is None else _time_call(smaller)
        if smaller is not None and seconds <= SLOW:
            return smaller
        if smaller is not None and seconds < least:
            fastest, least = smaller, seconds
    return replace(fastest, spec=replace(fastest.spec, directional=True))


def _time_call(found: WorkingCall) -> float:
    """Seconds of processor time for a forward and a backward; of the second, for the first one may set things up."""
    made, spent = found.make_call(), 0.0
    for _ in range(2):
        began = read_clock()
        compute_first_gradients(made, found.spec.seed)
        spent = read_clock() - began
        if spent <= FAST:
            break
    return spent


def _cut_call(
    search: CallSearch, found: WorkingCall, document: Mapping[str, Any], spent: float, *, cut_widths: bool
) -> WorkingCall | None:
    """The call with the first of some groups of sizes cut that it bears, so that it is fast if that is possible.

    The factor is tried first that would make it fast if its time, ``spent``, went with its sizes: what is large takes
    long to try. Then larger ones if that is not enough, smaller ones if that is too much.
    """
    computed = _name_operations(found, found.spec)
    likely = next((place for place, factor in enumerate(FACTORS) if factor * FAST >= spent), len(FACTORS) - 1)
    for sizes in _list_groups(document):
        smaller: WorkingCall | None = None
        for factor in (*FACTORS[likely:], *reversed(FACTORS[:likely])):
            cut = {size: max(size // factor, SHORTEST) for size in sizes if size > SHORTEST}
            if smaller is not None and (
                cut == smaller.spec.cut or factor < FACTORS[likely] or _time_call(smaller) <= FAST
            ):
                break
            tried = _try_spec(search, found, replace(found.spec, cut=cut, cut_widths=cut_widths))
            if tried is not None and _name_operations(found, tried.spec) == computed:
                smaller = tried
        if smaller is not None:
            return smaller
    return None


def _try_spec(search: CallSearch, found: WorkingCall, spec: TrialSpec) -> WorkingCall | None:
    """The call at other sizes; None where it does not bear them, or no time is left: it works as it is."""
    try:
        return search.run_trial(found.strategy, spec)
    except CannotCallError:
        return None


def _list_groups(document: Mapping[str, Any]) -> Iterator[Sequence[int]]:
    """The sizes that may be cut together: all but those of last axes alone, all, and each alone, the largest first."""
    shapes = [told["shape"] for tree in _list_arguments(document) for told in iter_tensors(tree)]
    features = {shape[-1] for shape in shapes if shape} - {size for shape in shapes for size in shape[:-1]}
    known = sorted({size for shape in shapes for size in shape if size > SHORTEST}, reverse=True)
    groups = [[size for size in known if size not in features], known, *([size] for size in known)]
    yield from (group for group in groups if group)


def _list_arguments(document: Mapping[str, Any]) -> Iterable[Tree]:
    return (*document["args"], *document["kwargs"].values())


def _name_operations(found: WorkingCall, spec: TrialSpec) -> set[str] | None:
    """The kinds of operations that a call records, to the second order: a smaller one is to compute the same."""
    described = describe_computation(found, spec)
    return None if described is None else {re.sub(r"\d+", "", name) for name in described[0]}
