"""Run one trial of a call, check that it is valid, and record how far it got where it failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from theria.probes.derivatives import first_line
from theria.probes.layouts import sequence_lengths
from theria.probes.point import call, copy_strided, isolated, trial
from theria.probes.report import Report
from theria.probes.rounding import relative_error
from theria.probes.sweep import attention_references
from theria.verdicts import Verdict
from theria_lint.reasons import CodedError, Ground, Reason, ReasonCode, find_coded_error, iter_texts
from theria_lint.worker.clock import read_clock
from theria_lint.worker.find_call.call_strategy import (
    CONSTRUCTOR_PREFIX,
    BoundCall,
    CallStrategy,
    TrialSpec,
    select_output,
)
from theria_lint.worker.find_call.signatures import NoSuchChoiceError
from theria_lint.worker.library_messages import (
    is_device_lost,
    is_in_place_on_leaf,
    is_invalid_gradient,
    is_misfit,
    is_out_of_memory,
)
from theria_lint.worker.shims.shim_log import ShimLog
from theria_lint.worker.triton_interpreter.bounds import FilledMemory


def downgrade_if_misfit(report: Report, oracle: str | None) -> Report:
    """The report, inconclusive where made-up arguments explain it as well as the target does.

    Nor does a measurement count by another oracle than the ``oracle`` that the configuration wants, if it wants one.
    """
    if report.verdict.unsafe and any(map(is_invalid_gradient, iter_texts(report.why))):
        return replace(report, verdict=Verdict.INCONCLUSIVE, why=Reason(ReasonCode.ARGUMENTS_MISFIT))
    if oracle == "reference" and report.oracle not in ("", oracle):
        return replace(report, verdict=Verdict.INCONCLUSIVE, why=Reason(ReasonCode.NOT_THE_REFERENCE))
    return report


_OWN_FOLDERS = (str(Path(__file__).parents[2]), str(Path(trial.__code__.co_filename).parents[1]))

_STABLE = 1e-3
"""The relative difference between two calls of an interpreted kernel from which it reads what nobody wrote."""

_FILL_NUMBERS = (0.7, -3.0)
"""What new memory is filled with for each of the two."""


class CannotCallError(Exception):
    """No way to call the target worked; the reason is what stopped the attempt that got furthest.

    ``complaint`` is what the target or a library said there, if anything was said; ``guessed``: the parameters that
    it was given a made-up value for; ``trial``: that attempt, None where there was none.
    """

    def __init__(
        self, reason: Reason, complaint: str = "", guessed: Iterable[str] = (), trial: FailedTrial | None = None
    ) -> None:
        """Keep what it is given."""
        super().__init__(str(reason.code), complaint)
        self.reason = reason
        self.complaint = complaint
        self.guessed = tuple(guessed)
        self.trial = trial


class OutsideGraphError(CannotCallError):
    """The target runs outside the graph wherever it is called: the other half of its work is an opaque backward."""

    def __init__(self) -> None:
        """Have one reason."""
        super().__init__(Reason(ReasonCode.OUTSIDE_GRAPH_ONLY))


class InvalidTrialError(CodedError, ValueError):
    """The target ran, and what it returned says nothing: the arguments that were made up do not fit it."""


INVALID_OUTPUT_STAGE = 2
"""How far an attempt got that returned numbers which say nothing."""


@dataclass(frozen=True)
class WorkingCall:
    """A way to call a target, and a spec in which it worked. ``agrees``: its forward is softmax attention.

    ``unused``: why the calls that were recorded are not those that worked, if there are any. ``log``: what it uses.
    """

    strategy: CallStrategy
    spec: TrialSpec
    agrees: bool
    unused: Reason | None = None
    log: ShimLog = field(default_factory=ShimLog, compare=False)

    def make_call(self, spec: TrialSpec | None = None) -> BoundCall:
        """The call, in the spec that worked or in another."""
        return self.strategy(spec or self.spec)


@dataclass(frozen=True)
class FailedTrial:
    """An attempt that raised: why, what was said of it, and how far it had come.

    ``progress`` holds 0 if it was raised while the call was made (a module was built), 1 in the forward,
    `INVALID_OUTPUT_STAGE` if that is what came out of it, 3 in the backward; and then the instruction at which each
    frame stood, from the outermost inwards: later instructions of the same code are further. ``lines`` has the file
    and the line of each frame. ``lacks_room``: there was no memory for it.
    """

    strategy: CallStrategy
    spec: TrialSpec
    reason: Reason
    complaint: str
    progress: tuple[int, ...]
    lines: tuple[tuple[str, int], ...] = ()
    lacks_room: bool = False

    def rank_progress(self) -> tuple[bool, tuple[int, ...], bool]:
        """Sort refusals by how far they got, and those with as many keys as queries after the others.

        What there was no room for says nothing of its arguments: it comes first.
        """
        return not self.lacks_room, self.progress, self.spec.shape.queries == self.spec.shape.keys


SLOW_TRIAL = 1.0
"""Seconds of an attempt that are too many: a dozen layers of a thousand channels are built and thrown away."""


@dataclass
class CallSearch:
    """The attempts so far. ``log``: what they use. ``interpreted``: Triton's interpreter ran a kernel of the target.

    ``counterfactual``: the target is a variant, in which code may write into parameters that no author would write to.
    ``shrinks``: defaults are made smaller once an attempt was slow, for there are dozens; ``longest``: its seconds.
    """

    deadline: float
    log: ShimLog
    failed_trials: list[FailedTrial] = field(default_factory=list)
    interpreted: bool = False
    counterfactual: bool = False
    shrinks: bool = False
    longest: float = 0.0

    def list_furthest(self) -> list[FailedTrial]:
        """The refusals, those that got furthest first; among equals those with as many keys as queries first."""
        return sorted(self.failed_trials, key=FailedTrial.rank_progress, reverse=True)

    def run_trial(self, strategy: CallStrategy, spec: TrialSpec) -> WorkingCall | None:
        """One forward and one backward; None where it raised. Code that was not written for us raises anything.

        A backward that fails for autograd's reasons is what the probe is there to tell, and no obstacle.

        Raises:
            CannotCallError: if there is no time left.
        """
        began = read_clock()
        if began > self.deadline:
            raise self.make_cannot_call_error(ReasonCode.SEARCH_TOO_SLOW)
        if self.shrinks and self.longest > SLOW_TRIAL:
            spec = replace(spec, small=True)
        before, stage = self.log.count_launches(), 0
        try:
            made = strategy(spec)
            stage = 1
            output = trial(made.compute_output, made.inputs, spec.seed)
            kernels = self.log.count_launches() > before
            stage = INVALID_OUTPUT_STAGE
            _check_output_is_valid(made, output, spec.seed, kernels)
            _check_sequences_stay_apart(made, output, spec)
            stage = 3
            _check_gradients_fit(made, spec.seed, kernels)
        except CannotCallError:
            raise
        except NoSuchChoiceError:
            return None
        except Exception as error:
            if is_device_lost(error):
                raise
            stage = INVALID_OUTPUT_STAGE if isinstance(error, InvalidTrialError) else stage
            frames = _list_frames(error)
            progress = (stage, *(trace.tb_lasti for trace in frames))
            lines = tuple((trace.tb_frame.f_code.co_filename, trace.tb_lineno) for trace in frames)
            why, complaint = _explain_trial_error(error)
            failed = FailedTrial(strategy, spec, why, complaint, progress, lines, is_out_of_memory(error))
            if is_in_place_on_leaf(failed.complaint) and not strategy.copying:
                return self.run_trial(strategy.call_on_copies(parameters=self.counterfactual), spec)
            self.failed_trials.append(failed)
            self.longest = max(self.longest, read_clock() - began)
            return None
        self.interpreted = self.interpreted or kernels
        return WorkingCall(strategy, spec, _agrees_with_reference(made, output), log=self.log)

    def check_had_room(self) -> None:
        """Make sure that there was memory for an attempt, if there were any.

        Raises:
            MemoryError: if there was not.
        """
        if self.failed_trials and all(failed.lacks_room for failed in self.failed_trials):
            raise MemoryError

    def make_cannot_call_error(self, otherwise: ReasonCode) -> CannotCallError:
        """What to raise where nothing worked: what stopped the attempt that got furthest."""
        if not self.failed_trials:
            return CannotCallError(Reason(otherwise))
        furthest = self.list_furthest()[0]
        guessed = furthest.strategy.free if furthest.strategy.unsure is None else furthest.strategy.unsure
        names = [name for name in guessed if not name.startswith(CONSTRUCTOR_PREFIX)]
        return CannotCallError(furthest.reason, furthest.complaint, names, furthest)


def compute_first_gradients(made: BoundCall, seed: int, beside: Sequence[Tensor] = ()) -> Mapping[str, Tensor | None]:
    """The gradients of a random combination of a call's outputs, by input; None where autograd says unused.

    ``beside`` are tensors whose gradients are computed as well, for what they cost.

    Raises:
        Exception: whatever the forward or the backward raises.
    """
    leaves = {name: copy_strided(tensor).requires_grad_() for name, tensor in made.inputs.items()}
    output = call(made.compute_output, leaves, seed)
    if not output.requires_grad:
        return dict.fromkeys(leaves)
    with isolated(seed):
        loss = (torch.randn_like(output) * output).sum()
        found = torch.autograd.grad(loss, [*leaves.values(), *beside], allow_unused=True)
    return dict(zip(leaves, found, strict=False))


def depends_on_inputs(working_call: WorkingCall) -> bool:
    """Whether a call gives other numbers for other inputs, and for another q and k; or takes none but its own."""
    return heeds_inputs(working_call.make_call(), working_call.spec.seed)


def heeds_inputs(made: BoundCall, seed: int) -> bool:
    """The same of a call that was made."""
    scores = {name: _move(tensor) for name, tensor in made.inputs.items() if name in ("q", "k")}
    moved = {name: _move(tensor) for name, tensor in made.inputs.items()}
    try:
        here, *others = (
            trial(made.compute_output, {**made.inputs, **change}, seed) for change in ({}, moved, scores or moved)
        )
    except Exception:  # code that was not written for us
        return True
    return not any(torch.equal(here, there) for there in others)


def _move(value: Tensor) -> Tensor:
    """Other numbers in the place of a tensor's."""
    return value + torch.linspace(0, 1, value.numel()).view(value.shape).to(value)


def is_in_graph(made: BoundCall, seed: int) -> bool:
    """Whether the output requires grad if every input does."""
    leaves = {name: copy_strided(tensor).requires_grad_() for name, tensor in made.inputs.items()}
    return call(made.compute_output, leaves, seed).requires_grad


def is_raised_by_autograd(error: Exception) -> bool:
    """Whether autograd itself refused a differentiation, and not code of the target in a backward of its own."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("torch.autograd")


def _check_output_is_valid(made: BoundCall, output: Tensor, seed: int, kernels: bool) -> None:
    if not bool(torch.isfinite(output).all()):
        raise InvalidTrialError(ReasonCode.OUTPUT_NOT_FINITE)
    if not kernels:
        return
    outputs = []
    for number in _FILL_NUMBERS:
        with FilledMemory(number):
            outputs.append(trial(made.compute_output, made.inputs, seed))
    if outputs[0].shape != outputs[1].shape or not relative_error(outputs[0], outputs[1]) < _STABLE:
        raise InvalidTrialError(ReasonCode.MEMORY_NOT_WRITTEN)


def _check_sequences_stay_apart(made: BoundCall, output: Tensor, spec: TrialSpec) -> None:
    if not spec.packed:
        return
    moved = {name: move_middle_sequence(tensor, spec) for name, tensor in made.inputs.items()}
    if not keeps_sequences_apart(output, trial(made.compute_output, moved, spec.seed), spec):
        raise InvalidTrialError(ReasonCode.SEQUENCES_MIXED, "sequences")


def _check_gradients_fit(made: BoundCall, seed: int, kernels: bool) -> None:
    try:
        gradients = compute_first_gradients(made, seed)
    except Exception as error:
        if is_misfit(error):
            raise
        return
    if kernels and not all(bool(torch.isfinite(g).all()) for g in gradients.values() if g is not None):
        raise InvalidTrialError(ReasonCode.GRADIENTS_NOT_FINITE)


def _agrees_with_reference(made: BoundCall, output: Tensor) -> bool:
    if made.layout is None or tuple(output.shape) != made.expected or set(made.inputs) != {"q", "k", "v"}:
        return False
    inputs = {name: tensor.to(torch.float64) for name, tensor in made.inputs.items()}
    return any(
        relative_error(output, reference.function(**inputs)) < 3e-2 for reference in attention_references(made.layout)
    )


def _list_frames(error: BaseException) -> list[TracebackType]:
    """The frames below ours in which an exception was raised, from the outermost inwards."""
    found, trace = [], error.__traceback__
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_OWN_FOLDERS):
            found.append(trace)
        trace = trace.tb_next
    return found


def _explain_trial_error(error: Exception) -> tuple[Reason, str]:
    """Why a trial failed, and what was said of it."""
    coded = find_coded_error(error)
    if coded is not None:
        return coded.reason, coded.about
    kind, message = type(error).__name__, first_line(error)[:240]
    return Reason(Ground.RAISED, {"kind": kind, "message": message}), f"{kind}: {message}"


def check_depends_on_inputs(function: Callable[..., Any], values: Sequence[Tensor]) -> Any:
    """What the function returns for some tensors, once it is known to depend on them.

    Raises:
        GarbageError: if it does not.
    """
    moved = [_move(value) for value in values]
    if torch.equal(_run_on_copies(function, values, values[0]), _run_on_copies(function, moved, values[0])):
        raise InvalidTrialError(ReasonCode.INPUTS_IGNORED, "output inputs")
    return function(*values)


def check_mixes_positions(function: Callable[[Tensor], Any], x: Tensor, features: int) -> Any:
    """What the function returns for ``x``, once it is known that something attends.

    Some positions are moved, in several patterns, and the output has to change at another: an attention that is
    switched off leaves the layers around it, which say nothing of it. An output of another shape has positions of its
    own and tells nothing.

    Args:
        function: a module as a function of ``x`` alone, with the random numbers of the present state.
        x: its input, features along one axis, positions along the others.
        features: that axis.

    Raises:
        GarbageError: if the output changes nowhere but where ``x`` does.
    """
    output = _run_on_copies(function, [x], x)
    if _list_position_sizes(output, features) != _list_position_sizes(x, features):
        return function(x)
    for moved in _list_position_patterns(x, features):
        changed = (_run_on_copies(function, [torch.where(moved, x + 1.0, x)], x) != output).any(dim=features)
        if bool((changed & ~moved.select(features, 0)).any()):
            return function(x)
    raise InvalidTrialError(ReasonCode.POSITIONS_APART, "position output input")


def _run_on_copies(function: Callable[..., Any], values: Sequence[Tensor], like: Tensor) -> Tensor:
    """The output for some tensors alone, with the random numbers of the present state kept.

    The call that counts comes after all of these: a module may write into what an earlier call has saved, its cache.
    """
    leaves = [value.detach().clone().requires_grad_(value.requires_grad) for value in values]
    with torch.random.fork_rng([]):
        return select_output(function(*leaves), like.shape, leaves).detach()


def _list_position_sizes(tensor: Tensor, features: int) -> list[int]:
    shape = list(tensor.shape)
    if -len(shape) <= features < len(shape):
        del shape[features]
    return shape


def _list_position_patterns(x: Tensor, features: int) -> Iterator[Tensor]:
    """Positions of the first sequence, as masks of ``x``'s shape: along each axis either half, then every other one.

    Between halves everything attends but windows, between neighbours everything but what is dilated.
    """
    first, *others = [axis for axis in range(x.dim()) if axis != features % x.dim()]
    for axis in others or [first]:
        length = x.shape[axis]
        for chosen in (slice(0, length // 2), slice(length // 2, None), slice(0, None, 2), slice(1, None, 2)):
            moved = torch.zeros_like(x, dtype=torch.bool)
            sequence = moved.narrow(first, 0, 1) if others else moved
            sequence.movedim(axis, 0)[chosen] = True
            yield moved


def move_middle_sequence(tensor: Tensor, spec: TrialSpec) -> Tensor:
    """A packed tensor with another first position of the middle sequence."""
    spread, changed = spec.spread, tensor.clone()
    for count in {spread.queries, spread.keys} & set(tensor.shape):
        position = changed.select(tensor.shape.index(count), sequence_lengths(count)[0])
        position.add_(torch.linspace(0.5, 1.0, position.numel()).view(position.shape).to(position))
    return changed


def keeps_sequences_apart(output: Tensor, moved: Tensor, spec: TrialSpec) -> bool:
    """Whether the first position of the middle sequence is felt by others of that sequence, and nowhere else.

    What ignores the borders, or takes another axis for that of positions, was not called as it wants to be.

    Args:
        output: of the target.
        moved: its output where that position is another.
        spec: in which both were computed.
    """
    ends = torch.tensor(sequence_lengths(spec.spread.queries)).cumsum(0).tolist()
    axis = next((i for i, size in enumerate(output.shape) if size == ends[-1]), None)
    if axis is None or moved.shape != output.shape:
        return False
    difference = (moved - output).movedim(axis, 0).flatten(1).abs().amax(1)
    felt = (difference > 1e-6 * output.abs().max()).nonzero().flatten().tolist()
    return len(felt) > 1 and all(ends[0] <= position < ends[1] for position in felt)
