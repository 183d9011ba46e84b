"""Call a target as a recorded call did: the same structure, numbers drawn anew, smaller where that is slow."""

from __future__ import annotations

import base64
import inspect
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import product, zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from theria_lint.calls.call_file import SHORTEST
from theria_lint.calls.call_tree import FEW, LARGEST_NUMBER, LostArgumentError, Tree, TreeReader, iter_tensors
from theria_lint.model import TargetKind
from theria_lint.reasons import ReasonCode
from theria_lint.worker.clock import read_clock
from theria_lint.worker.find_call.call_strategy import ATTRIBUTE, CONSTRUCTOR_PREFIX, BoundCall, CallStrategy, TrialSpec
from theria_lint.worker.find_call.choose_arguments import read_enums
from theria_lint.worker.find_call.computation import describe_computation
from theria_lint.worker.find_call.indices_in_floats import find_indices, holds_whole_numbers
from theria_lint.worker.find_call.module_calls import perturb_parameters
from theria_lint.worker.find_call.named_modules import load_named_modules
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
"""How far numbers are moved that were all the same, as a test gives zeros or ones: there, much cannot be seen.

Upwards, for what was zero may be a sum of squares, of which a root or a logarithm is taken.
"""

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


FAST = 0.02
"""Seconds of processor time for a forward and a backward that leave a call as it is: a probe makes some hundreds."""

SLOW = 0.06
"""Seconds from which a call is measured along directions alone, where it cannot be made smaller."""

LONG_TABLE = 1 << 12
"""The least number in a constructor that is taken for the length of a table."""

FACTORS = (2, 4, 8, 16, 32, 64)
"""By how much sizes are cut."""


def run_recorded_call(
    search: CallSearch, strategy: CallStrategy, spec: TrialSpec, document: Mapping[str, Any]
) -> WorkingCall | None:
    """A recorded call at its full size or, where not all of it was kept or there is no room for it, a smaller one.

    None where it raised.

    Raises:
        CannotCallError: if there is no time left.
        MemoryError: if there is no room for it at any size.
    """
    kept, roomy = _find_kept_sizes(document), True
    widths = _list_width_choices(document)
    for cut_widths in widths if kept else (False,):
        found = search.run_trial(strategy, replace(spec, cut=kept, cut_widths=cut_widths))
        if found is not None:
            return found
        roomy = roomy and not any(failed.lacks_room for failed in search.failed_trials[-1:])
    if roomy:
        return None
    for cut_widths, sizes, factor in product(widths, _list_groups(document), FACTORS):
        smaller = replace(spec, cut=_cut_sizes(sizes, factor, kept), cut_widths=cut_widths)
        found = search.run_trial(strategy, smaller)
        if found is not None:
            return found
    raise MemoryError


def _find_kept_sizes(document: Mapping[str, Any]) -> dict[int, int]:
    """How much is left of each size along which the beginnings of tensors alone were kept."""
    found: dict[int, int] = {}
    for told in iter_tensors([document[name] for name in ("args", "kwargs")] + _list_constructors(document)):
        for size, left in zip(told["shape"], told.get("corner") or told["shape"], strict=True):
            if left < size:
                found[size] = min(left, found.get(size, size))
    return found


def _list_constructors(document: Mapping[str, Any]) -> list[Any]:
    return [document[name] for name in ("constructor", "factory") if document.get(name)]


def _list_built_numbers(tree: Any) -> Iterator[int]:
    """The whole numbers in what a constructor was given."""
    if isinstance(tree, dict):
        if type(tree.get("value")) is int:
            yield tree["value"]
        tree = list(tree.values())
    for part in tree if isinstance(tree, list) else ():
        yield from _list_built_numbers(part)


def _list_width_choices(document: Mapping[str, Any]) -> tuple[bool, ...]:
    """Whether the numbers of a constructor are cut, too: first without that, and with it where there is one."""
    return (False, True) if _list_constructors(document) else (False,)


def _cut_sizes(sizes: Iterable[int], factor: int, before: Cut) -> dict[int, int]:
    """What is left of some sizes, of which ``before`` may leave less than there was."""
    left = {size: before.get(size, size) for size in sizes}
    return {**before, **{size: max(now // factor, SHORTEST) for size, now in left.items() if now > SHORTEST}}


def settle_size(search: CallSearch, found: WorkingCall, document: Mapping[str, Any]) -> WorkingCall:
    """A recorded call that works, at sizes at which it can be probed; along directions where none is fast enough.

    The numbers that a constructor was given are cut where cutting the arguments alone was not enough: a width then is
    that of the inputs still.
    """
    fastest, spent = found, time_call(found)
    if spent <= FAST:
        return found
    least, enough = spent, SLOW if found.make_call().module is None else FAST  # parameters are measured part by part
    for smaller in _list_smaller_calls(search, found, document, spent):
        seconds = time_call(smaller)
        if seconds <= enough:
            return smaller
        if seconds < least:
            fastest, least = smaller, seconds
    return fastest if least <= SLOW else replace(fastest, spec=replace(fastest.spec, directional=True))


def time_call(found: WorkingCall) -> float:
    """Seconds of processor time for a forward and a backward, in parameters as well as inputs: both are measured.

    Of the second, for the first one may set things up.
    """
    made, spent = found.make_call(), 0.0
    parameters = [p for p in made.module.parameters() if p.requires_grad] if made.module is not None else []
    for _ in range(2):
        began = read_clock()
        with suppress(Exception):  # what a backward raises, the probe tells
            compute_first_gradients(made, found.spec.seed, parameters)
        spent = read_clock() - began
        if spent <= FAST:
            break
    return spent


def _list_smaller_calls(
    search: CallSearch, found: WorkingCall, document: Mapping[str, Any], spent: float
) -> Iterator[WorkingCall]:
    """The call with groups of sizes cut: the first group that it bears, then with the constructor's numbers cut too.

    There, if that is not fast enough, all sizes together: the weights of wide layers take longer than short inputs.
    The length of a table of tokens comes last.
    """
    computed = _name_operations(found, found.spec)
    for cut_widths in _list_width_choices(document):
        found_any = False
        for sizes in _list_groups(document):
            if found_any and (len(sizes) == 1 or (_list_constructors(document) and not cut_widths)):
                break
            spec = replace(found.spec, cut_widths=cut_widths or found.spec.cut_widths)
            smaller, computed = _cut_sizes_of_call(search, replace(found, spec=spec), sizes, spent, computed)
            if smaller is not None:
                found_any = True
                yield smaller
    table = max(_list_built_numbers(_list_constructors(document)), default=0)
    if table >= LONG_TABLE:  # the weights of a vocabulary take longer than anything else, and no input is as long
        sizes = [*next(_list_groups(document), ()), table]
        wide = replace(found, spec=replace(found.spec, cut_widths=True))
        smaller, _ = _cut_sizes_of_call(search, wide, sizes, spent, computed)
        if smaller is not None:
            yield smaller


def _cut_sizes_of_call(
    search: CallSearch, found: WorkingCall, sizes: Sequence[int], spent: float, computed: set[str] | None
) -> tuple[WorkingCall | None, set[str] | None]:
    """The call with some sizes cut so that it is fast, if that is possible, and None if it bears no cut.

    The factor is tried first that would make it fast if its time, ``spent``, went with its sizes: what is large takes
    long to try. Then larger ones if that is not enough, smaller ones if that is too much. ``computed`` are the
    operations that it has to name; those of the first where nobody knows, for they took more memory than there is.
    """
    likely = next((place for place, factor in enumerate(FACTORS) if factor * FAST >= spent), len(FACTORS) - 1)
    smaller: WorkingCall | None = None
    for factor in (*FACTORS[likely:], *reversed(FACTORS[:likely])):
        cut = _cut_sizes(sizes, factor, found.spec.cut)
        if smaller is not None and (cut == smaller.spec.cut or factor < FACTORS[likely] or time_call(smaller) <= FAST):
            break
        tried = _try_spec(search, found, replace(found.spec, cut=cut))
        operations = None if tried is None else _name_operations(found, tried.spec)
        computed = computed or operations
        if tried is not None and operations == computed:
            smaller = tried
    return smaller, computed


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
