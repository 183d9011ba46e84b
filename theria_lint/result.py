"""The report of a run. Apart from ``theria_lint.model``, so that a run over clean files need not load the rest.

What is here is made of named tuples: dataclasses are compiled from text at each start, which takes ten times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from theria.verdicts import Reason
    from theria_lint.errors import FileError
    from theria_lint.model import Finding, Suspect, Target, TargetResult


Progress = Callable[[str, int, int], None]
"""Called with what runs now, how many runs are done and how many are known of."""


class LintError(NamedTuple):
    """Something that kept a file from being checked, or is wrong with a comment in it."""

    path: str
    line: int | None
    reason: Reason
    cell: int | None = None


def make_file_error(path: str, error: FileError, line: int | None = None, cell: int | None = None) -> LintError:
    """What is wrong with a file, on the line that the error names unless another is given."""
    from theria.verdicts import Reason  # few files are wrong

    return LintError(path, error.line if line is None else line, Reason(error.code, error.data), cell)


class ScannedFile(NamedTuple):
    """What the static stage found in a file; ``texts`` by cell (None for a plain file), for the later stages.

    ``candidates`` are targets if what they take from other files attends; ``roots`` are the symbols of what runs of
    those that are.
    """

    path: str
    suspects: tuple[Suspect, ...] = ()
    targets: tuple[Target, ...] = ()
    texts: Mapping[int | None, str] = {}
    errors: tuple[LintError, ...] = ()
    candidates: tuple[Target, ...] = ()
    roots: tuple[str, ...] = ()


class Environment(NamedTuple):
    """The interpreter that ran the kernels; None for what it lacks or where nothing was run."""

    python: str | None = None
    torch: str | None = None
    triton: str | None = None
    device: str | None = None


class LintReport(NamedTuple):
    """Everything that a run of the linter found, sorted by path and place.

    ``ignored`` and ``baselined`` count the findings that an ignore comment, the settings or the baseline took out;
    ``protections`` names what kept the code that was run in its place, with None where it held, else why it did not.
    ``accepted`` holds (path, symbol) of the unsafe targets that only such findings explain. ``sources`` has the text
    of every (path, cell) with a finding, and of the files that a finding's rewrite changes. ``interrupted``: the user
    ended the run before every target had run. ``linted`` are the paths of all files, clean ones too.
    ``silenced`` are the findings that were taken out, cleared ones aside.
    ``unmeasured`` counts the attention callables that were seen, and nothing of their files was run;
    None where nobody looked for them.
    ``failure``: why the executor that was asked for could not be used, so that nothing was run.
    ``seconds`` says how long the runs of a target took, by path and symbol; what was kept from earlier runs took none.
    """

    environment: Environment
    files: int
    findings: tuple[Finding, ...]
    targets: tuple[TargetResult, ...]
    errors: tuple[LintError, ...]
    notes: tuple[Reason, ...] = ()
    unused_ignores: tuple[LintError, ...] = ()
    ignored: int = 0
    baselined: int = 0
    accepted: frozenset[tuple[str, str]] = frozenset()
    protections: Mapping[str, Reason | None] = {}
    sources: Mapping[tuple[str, int | None], str] = {}
    interrupted: bool = False
    linted: tuple[str, ...] = ()
    silenced: tuple[Finding, ...] = ()
    unmeasured: int | None = 0
    failure: Reason | None = None
    seconds: Mapping[tuple[str, str], float] = {}

    @property
    def defaults(self) -> tuple[TargetResult, ...]:
        """The targets as their defaults have them."""
        return tuple(result for result in self.targets if not result.configuration)

    @property
    def configurations(self) -> tuple[TargetResult, ...]:
        """The targets with a flag turned, each in a row of its own among ``targets``."""
        return tuple(result for result in self.targets if result.configuration)
