"""The outcomes of a target, variant by variant, and the types that rulings are made of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from theria.verdicts import Reason, Verdict, block_name, finite
from theria_lint.confirm.protocol import Outcome
from theria_lint.model import Disposition, Run, Suspect, judge_runs
from theria_lint.reasons import ReasonCode

_WORSE_FACTOR = 1.05
_WORSE_MARGIN = 1e-3

_RIGHT_STATES = ("right", "zero")
_LOUD_VERDICTS = (Verdict.HARD_STRUCTURAL, Verdict.FIRST_ORDER_ONLY)
_SILENT_VERDICTS = (Verdict.SILENT_COLLAPSE, Verdict.SILENT_CORRUPTION)

Ablation = frozenset[Suspect]
"""The suspects that are neutralised in a variant; none in the baseline."""


def get_worst_verdict(outcome: Outcome) -> Verdict:
    """The worst verdict among an outcome's runs, ``inconclusive`` when there is none."""
    return judge_runs(outcome.runs)


def get_worst_run(outcome: Outcome) -> Run | None:
    """The run that decided the outcome's verdict."""
    verdict = get_worst_verdict(outcome)
    return next((run for run in outcome.runs if run.verdict is verdict), None)


def get_reason(outcome: Outcome) -> Reason:
    """The reason of an outcome's verdict."""
    run = get_worst_run(outcome)
    return (outcome.reason if run is None else run.reason) or Reason(ReasonCode.NOTHING_MEASURED)


@dataclass(eq=False)
class Evidence:
    """A target's suspects, and the outcomes of the variants that have run; ``name`` is what the target is called.

    ``suspects`` can be neutralised by a rewrite, ``fixed`` cannot, but for some of these, ``replaceable``, there are
    stand-ins. ``executed`` says which suspects a variant executed, ``aside`` which of them in a backward or where no
    graph is recorded. Indexed by the suspects that are neutralised.
    """

    name: str
    suspects: Sequence[Suspect]
    fixed: Sequence[Suspect] = ()
    outcomes: dict[Ablation, Outcome] = field(default_factory=dict)
    replaceable: Sequence[Suspect] = ()
    executed: Callable[[Ablation], Collection[Suspect]] = lambda ablation: ()
    aside: Callable[[Ablation], Collection[Suspect]] = lambda ablation: ()

    def __getitem__(self, ablation: Ablation) -> Outcome:
        """The outcome of a variant that has run."""
        return self.outcomes[ablation]

    @property
    def baseline(self) -> Outcome:
        """The target as its author wrote it."""
        return self.outcomes[frozenset()]

    def get_verdict(self, ablation: Ablation) -> Verdict:
        """What the target is in a variant that has run; one that was called in another way tells nothing.

        In some configurations it is called with more inputs than in others: those of one hold those of the other.
        """
        before, now = (_collect_input_names(self.outcomes[some]) for some in (frozenset[Suspect](), ablation))
        is_alike = not before or not now or before <= now or now <= before
        return get_worst_verdict(self.outcomes[ablation]) if is_alike else Verdict.INCONCLUSIVE

    def is_safe(self, ablation: Ablation) -> bool:
        """Whether a variant has run and is safe."""
        return ablation in self.outcomes and self.get_verdict(ablation) is Verdict.SAFE

    def has_right_gradients(self, ablation: Ablation) -> bool:
        """Whether the first derivatives are right wherever a variant is unsafe, and its blocks show the damage."""
        runs = [run for run in self.outcomes[ablation].runs if run.verdict.unsafe]
        right = (run.gradients and all(run.states.get(name) in _RIGHT_STATES for name in run.gradients) for run in runs)
        return all(right) and all(any(state not in _RIGHT_STATES for state in run.states.values()) for run in runs)

    def allow_substitutes(self) -> Evidence:
        """The same with stand-ins for rewrites: what has one can be neutralised."""
        fixed = [suspect for suspect in self.fixed if suspect not in self.replaceable]
        return replace(self, suspects=[*self.suspects, *self.replaceable], fixed=fixed, replaceable=())

    def is_broken(self, ablation: Ablation) -> bool:
        """Whether a variant fails loudly where the target as it is fails in silence."""
        return self.get_verdict(ablation) in _LOUD_VERDICTS and self.get_verdict(frozenset()) in _SILENT_VERDICTS


def _collect_input_names(outcome: Outcome) -> set[str]:
    """The names of what a target was differentiated in, its parameters left out: they are asked now and then."""
    return {name for run in outcome.runs for name in run.gradients} - {"p"}


def list_worsened_blocks(worse: Outcome, better: Outcome) -> list[tuple[str, float, float]]:
    """The gradients and blocks in which an outcome is worse than another on the same backend, with both errors."""
    found: dict[str, tuple[str, float, float]] = {}
    others = {run.backend: dict(_iter_errors(run)) for run in better.runs}
    for run in worse.runs:
        before = others.get(run.backend, {})
        for name, error in _iter_errors(run):
            if name in before and error > _WORSE_FACTOR * before[name] + _WORSE_MARGIN:
                found.setdefault(name, (name, error, before[name]))
    return list(found.values())


def encode_changes(found: Sequence[tuple[str, float, float]]) -> list[dict[str, Any]]:
    """Changes as the data of a reason."""
    return [{"block": name, "before": finite(old), "after": finite(new)} for name, old, new in found]


def _iter_errors(run: Run) -> Iterator[tuple[str, float]]:
    for key, block in run.blocks.items():
        yield block_name(*key.split(",")), _read_error(block.get("error"))
    for key, error in run.gradients.items():
        yield f"∂L/∂{key}", _read_error(error)


def _read_error(error: float | None) -> float:
    return float("inf") if error is None else error


_Answer = TypeVar("_Answer")
AttributionPlan = Generator[list[Ablation], None, _Answer]

MAX_SETS_PER_SIZE = 10
"""How many sets of suspects of one size are tried before the rest is left alone."""


@dataclass(frozen=True)
class SuspectRuling:
    """The disposition of a suspect in one target, and the evidence."""

    disposition: Disposition
    reason: Reason


def rule(disposition: Disposition, code: ReasonCode, **data: Any) -> SuspectRuling:
    """A ruling for a reason of a code with its data."""
    return SuspectRuling(disposition, Reason(code, data))


SuspectRulings = dict[Suspect, SuspectRuling]


@dataclass(frozen=True)
class Attribution:
    """The rulings on a target's suspects; ``mended``: the confirmed ones, if the target was safe without them."""

    rulings: Mapping[Suspect, SuspectRuling] = field(default_factory=dict)
    mended: Ablation = frozenset()


_FORWARD_CUTS = ("drop-call", "drop-attribute", "first-argument", "null-context", "torch-function", "as-nested-tensor")
_HOOK_RULE = "hook-cut"
_FUSED_RULE = "fused-attention"
_RECURRENT = ("no-double-backward", "recurrent")


def cuts_forward(suspect: Suspect) -> bool:
    """Whether a suspect acts where it stands; what a hook does it does in a backward, wherever it is registered."""
    return suspect.neutraliser in _FORWARD_CUTS and suspect.name != _HOOK_RULE


def needs_gpu(suspect: Suspect, outcome: Outcome) -> bool:
    """Whether a suspect does what it is one for on a GPU alone, where its target did not run."""
    return (suspect.name, suspect.variant) == _RECURRENT and all(run.device == "cpu" for run in outcome.runs)


def is_exercised(suspect: Suspect, outcome: Outcome) -> bool:
    """Whether what a suspect may do could be seen: a call that may reach a fused kernel did reach one."""
    return suspect.name != _FUSED_RULE or not any(
        note.code == ReasonCode.MATH_PATH for run in outcome.runs for note in run.notes
    )


def encode_suspects(suspects: Iterable[Suspect]) -> list[dict[str, Any]]:
    """Suspects as the data of a reason."""
    return [{"rule": s.rule, "line": s.span.line, "path": s.path} for s in suspects]
