"""The data model: frozen dataclasses that pass from the static stage to the report.

``docs/architecture.md`` explains the vocabulary, ``docs/verdicts.md`` the verdicts. Imports neither libcst nor torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from theria.verdicts import Reason, Verdict, worst

STATES = ("missing", "wrong", "unclear", "right", "zero")
"""How a gradient or a block may compare with the oracle's."""

AS_IT_IS = "self"
"""The backend of the run of a target as it is, with none put under it."""

ELSEWHERE = (0, 0)
"""The reach of a suspect in what a module makes of things of other files: none of its lines run when it is called."""


class Disposition(StrEnum):
    """What a suspect is, once its targets have run."""

    CONFIRMED = "confirmed"
    CLEARED = "cleared"
    UNCONFIRMED = "unconfirmed"


class TargetKind(StrEnum):
    """How a target is called."""

    FUNCTION = "function"
    AUTOGRAD_FUNCTION = "autograd_function"
    MODULE = "module"
    WRAPPER = "wrapper"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A place in a source file: 1-based lines and columns (in characters), the end column exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """A place in attention code that may cut or corrupt the autograd graph.

    ``symbol`` is the qualified name of the innermost enclosing function or class (``Attention.forward``),
    ``reach`` the inclusive line range whose execution means that the suspect acted (for a decorator, the body of
    what it decorates), ``neutraliser`` the rewrite that makes the suspect do nothing, None where no rewrite can.
    In a notebook ``cell`` is the 1-based number of the cell, and the lines count from its top. ``variant`` is which of
    its rule's messages it has, None for the rule's own.
    """

    rule: str
    name: str
    severity: str
    path: str
    span: Span
    symbol: str
    message: str
    remedy: str
    reach: tuple[int, int]
    neutraliser: str | None
    cell: int | None = None
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """An attention callable that can be run.

    ``reaches``: symbols of the same file that the target may execute, itself included; ``beyond``: those of other
    files, each with the path of its file. The suspects that it can confirm or clear stand in those.
    ``needs``: of what is a target only if something of another file attends, the imports that may; none of others.
    ``left_to_bases``: the methods of it that may hold a suspect, and that a base in another file may call, while its
    own file does not.
    """

    path: str
    line: int
    symbol: str
    kind: TargetKind
    reaches: frozenset[str] = frozenset()
    beyond: frozenset[tuple[str, str]] = frozenset()
    needs: frozenset[str] = frozenset()
    left_to_bases: frozenset[str] = frozenset()

    def may_execute(self, suspect: Suspect) -> bool:
        """Whether a suspect stands in code that the target may execute, by its text."""
        if suspect.path == self.path:
            return suspect.symbol in self.reaches
        return (suspect.path, suspect.symbol) in self.beyond


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that the static stage has read: what it found there, and the text it read."""

    path: str
    source: str
    suspects: tuple[Suspect, ...] = ()
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One probe of a target, on one backend: a row of ``targets[].runs`` in the JSON.

    ``states`` says of each gradient (``"q"``) and block (``"q,k"``) how it compares with the oracle's: one of
    ``STATES``.
    """

    backend: str
    device: str
    dtype: str
    oracle: str
    status: str
    verdict: Verdict
    reason: Reason | None = None
    error: str | None = None
    gradients: dict[str, float | None] = field(default_factory=dict)
    blocks: dict[str, dict[str, float | None]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    maml: dict[str, Any] | None = None
    notes: tuple[Reason, ...] = ()


def judge_runs(runs: Sequence[Run]) -> Verdict:
    """The worst verdict among runs of a target, ``inconclusive`` when there is none.

    What could not be judged as it is does not become safe by what is put under it.
    """
    verdict = worst(run.verdict for run in runs)
    unjudged = any(run.backend == AS_IT_IS and run.verdict is Verdict.INCONCLUSIVE for run in runs)
    return Verdict.INCONCLUSIVE if unjudged and verdict is Verdict.SAFE else verdict


@dataclass(frozen=True, slots=True)
class TargetResult:
    """A target, its worst conclusive verdict and the runs behind it.

    ``blames_others``: ``reason`` names confirmed suspects in files that were not linted. ``configuration``: the flag
    that was turned for these runs, as in ``use_flash=True``; empty for the target as its defaults have it.
    """

    target: Target
    verdict: Verdict
    reason: Reason
    runs: tuple[Run, ...] = ()
    blames_others: bool = False
    configuration: str = ""

    @property
    def name(self) -> str:
        """What was measured: the target, with the flag that was turned."""
        return name_configuration(self.target.symbol, self.configuration)


def name_configuration(symbol: str, configuration: str) -> str:
    """A target as its defaults have it, or in another configuration."""
    return f"{symbol} with {configuration}" if configuration else symbol


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A rewrite of the source that was run: with it ``symbol``, the target that was measured, is safe.

    ``files`` pairs the path of every changed file with its whole new text. Nothing writes it to the user's files.
    """

    symbol: str
    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """A suspect with its disposition, and the rewrite that was seen to mend a target of it, if there is one."""

    suspect: Suspect
    disposition: Disposition
    verdict: Verdict | None
    reason: Reason
    rewrite: Rewrite | None = None


class Configuration(StrEnum):
    """What a target is measured in; `label_configuration` adds what belongs to it, and a report has the words."""

    FIRST_SIZES = "first_sizes"
    SMALLER_DEFAULTS = "smaller_defaults"
    EVALUATION_MODE = "evaluation_mode"
    DROPOUT = "dropout"
    STRIDED_INPUTS = "strided_inputs"
    CAUSAL_MASK = "causal_mask"
    ROUND_SIZES = "round_sizes"
    ODD_SIZES = "odd_sizes"
    LONGER_SEQUENCE = "longer_sequence"
    PACKED_SEQUENCES = "packed_sequences"
    SHARED_KEYS = "shared_keys"
    OPTIONAL_ARGUMENTS = "optional_arguments"
    FLOATING_ARGUMENT = "floating_argument"
    LEARNED = "learned"
    SECOND_CALL = "second_call"
    LATER_CALL = "later_call"
    ALL_OUTPUTS = "all_outputs"
    OUTPUT = "output"
    RECORDED_CALL = "recorded_call"
    DTYPE = "dtype"
    POINT = "point"
    SCALED_INPUTS = "scaled_inputs"
    MOVED_INPUTS = "moved_inputs"
    SCALED_PARAMETERS = "scaled_parameters"
    SCALED_GRADIENT = "scaled_gradient"
    ONE_QUERY = "one_query"
    ONE_POSITION = "one_position"
    HEADS = "heads"
    BATCH = "batch"
    POSITIONS = "positions"
    KEYS = "keys"
    CHANNELS = "channels"
    FUSED_KERNEL_SIZES = "fused_kernel_sizes"


def label_configuration(code: Configuration, *arguments: object) -> str:
    """The name of a configuration in the data of reasons: its code, and what belongs to it."""
    return f"{code}: {', '.join(map(str, arguments))}" if arguments else str(code)
