"""The nouns of the linter, as frozen data: what flows from the static stage to the report.

Vocabulary and the verdicts' definitions: ``docs/architecture.md``. Nothing here imports libcst or torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from theria.verdicts import Verdict


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
    In a notebook ``cell`` is the 1-based number of the cell, and the lines count from its top.
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


@dataclass(frozen=True, slots=True)
class Target:
    """An attention callable that can be run.

    ``calls_sdpa``: its code, or a helper it calls in the same file, calls PyTorch's scaled_dot_product_attention.
    ``reaches``: symbols of the same file that the target may execute, itself included: the suspects that it can
    confirm or clear stand in those.
    """

    path: str
    line: int
    symbol: str
    kind: TargetKind
    calls_sdpa: bool = False
    reaches: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that the static stage has read: what it found there, and the text it read."""

    path: str
    source: str
    suspects: tuple[Suspect, ...] = ()
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One probe of a target, on one backend: a row of ``targets[].runs`` in the JSON."""

    backend: str
    device: str
    dtype: str
    oracle: str
    status: str
    verdict: Verdict
    reason: str = ""
    error: str | None = None
    gradients: dict[str, float | None] = field(default_factory=dict)
    blocks: dict[str, dict[str, float | None]] = field(default_factory=dict)
    maml: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetResult:
    """A target, its worst conclusive verdict and the runs behind it."""

    target: Target
    verdict: Verdict
    reason: str
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A suspect with its disposition: what the report prints."""

    suspect: Suspect
    disposition: Disposition
    verdict: Verdict | None
    reason: str


@dataclass(frozen=True, slots=True)
class LintError:
    """Something that kept a file from being checked, in one sentence that says what to do."""

    path: str
    line: int | None
    message: str
    cell: int | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """The interpreter that ran the kernels; None for what it lacks or where nothing was run."""

    python: str | None = None
    torch: str | None = None
    triton: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a run of the linter found, sorted by path and place.

    ``ignored`` and ``baselined`` count the findings that an ignore comment, the settings or the baseline took out;
    ``accepted`` holds (path, symbol) of the unsafe targets that only such findings explain. ``sources`` has the text
    of every (path, cell) with a finding.
    """

    environment: Environment
    files: int
    findings: tuple[Finding, ...]
    targets: tuple[TargetResult, ...]
    errors: tuple[LintError, ...]
    notes: tuple[str, ...] = ()
    unused_ignores: tuple[LintError, ...] = ()
    ignored: int = 0
    baselined: int = 0
    accepted: frozenset[tuple[str, str]] = frozenset()
    sources: dict[tuple[str, int | None], str] = field(default_factory=dict)
