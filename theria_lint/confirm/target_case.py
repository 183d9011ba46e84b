"""The state of one target while its suspects are being ruled on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from theria.verdicts import Verdict
from theria_lint.config import list_named_symbols, names_file
from theria_lint.confirm.call_hints import RecordedHints
from theria_lint.confirm.evidence import Ablation, get_reason, get_worst_verdict
from theria_lint.confirm.protocol import Flag, Outcome, TargetRequest
from theria_lint.model import AS_IT_IS, SourceFile, Suspect, Target, TargetResult, name_configuration
from theria_lint.reasons import Reason, ReasonCode


@dataclass(eq=False)
class TargetCase:
    """One target: ``reached`` grows as neutralised variants get further, ``outcomes`` with each that has run.

    ``candidates`` are the suspects that it may execute, by the text. ``flag`` is the one that is turned, if one is:
    each such configuration is a case of its own, beside the ``default`` one, which has them as ``configurations``.
    """

    file: SourceFile
    target: Target
    hints: dict[str, Any]
    outcomes: dict[Ablation, Outcome]
    candidates: Sequence[Suspect] = ()
    reached: list[Suspect] = field(default_factory=list)
    flag: Flag | None = None
    default: TargetCase | None = None
    configurations: Sequence[TargetCase] = ()

    @property
    def name(self) -> str:
        """The target, with the flag that is turned."""
        return name_configuration(self.target.symbol, self.configuration)

    @property
    def configuration(self) -> str:
        """What is turned, empty where nothing is."""
        return self.flag.label if self.flag else ""

    @property
    def is_told_by_default(self) -> bool:
        """Whether the suspects of a configuration are ruled on where nothing is turned: it reaches no others."""
        return (
            self.default is not None
            and self.default.verdict.unsafe
            and all(suspect in self.default.reached for suspect in self.reached)
        )

    @property
    def baseline(self) -> Outcome:
        """The target as its author wrote it."""
        return self.outcomes[frozenset()]

    def build_request(self, *, counterfactual: bool) -> TargetRequest:
        """What to ask of the worker: of a counterfactual, no backend that told only what the reference did."""
        hints = self.hints | ({"flag": asdict(self.flag)} if self.flag else {})
        if counterfactual:
            told = {run.backend: run.verdict for run in self.baseline.runs}
            spare = [name for name, verdict in told.items() if name != AS_IT_IS and verdict is told.get("reference")]
            hints = hints | {
                "maml": False,
                "backends": [name for name in told if name not in spare or name == "reference"],
            }
        return TargetRequest(self.target.symbol, str(self.target.kind), hints)

    @property
    def verdict(self) -> Verdict:
        """What the target is, as its author wrote it."""
        return get_worst_verdict(self.baseline)

    @property
    def neutralisable(self) -> list[Suspect]:
        """The reached suspects that a rewrite can neutralise."""
        return [s for s in self.reached if s.neutraliser is not None]

    @property
    def fixed(self) -> list[Suspect]:
        """The reached suspects that no rewrite can neutralise."""
        return [s for s in self.reached if s.neutraliser is None]

    @property
    def unreached(self) -> list[Suspect]:
        """The suspects that the target may execute, by the text, and did not."""
        return [suspect for suspect in self.candidates if suspect not in self.reached]

    def build_result(self) -> TargetResult:
        """The target's row of the report; where it could not be judged, with the configurations in which it is safe."""
        verdict, why = self.verdict, get_reason(self.baseline)
        safe = [case.configuration for case in self.configurations if case.verdict is Verdict.SAFE]
        if verdict is Verdict.INCONCLUSIVE and safe:
            why = Reason(ReasonCode.SAFE_OTHERWISE, {"reason": why, "configurations": safe})
        return TargetResult(self.target, verdict, why, self.baseline.runs, configuration=self.configuration)

    def make_configuration_cases(self) -> list[TargetCase]:
        """A case for each flag that the baseline found worth turning, not yet run."""
        unknown = Outcome(-1, self.target.symbol, reason=Reason(ReasonCode.SKIPPED))
        self.configurations = [
            replace(self, outcomes={frozenset(): unknown}, reached=[], flag=flag, default=self, configurations=())
            for flag in self.baseline.flags
        ]
        return list(self.configurations)


class Variant(NamedTuple):
    """A case and the suspects that are neutralised in it; ``tidy`` as in `ablate_suspects`."""

    case: TargetCase
    ablation: Ablation = frozenset()
    tidy: bool = False


def make_cases(
    files: Iterable[SourceFile],
    tables: Iterable[Mapping[str, Any]],
    adapters: Sequence[str] = (),
    recorded: RecordedHints | None = None,
) -> list[TargetCase]:
    """A case for every target, not yet run.

    ``tables`` are the configuration's ``[[tool.theria-lint.targets]]``, ``adapters`` its files of functions that call
    targets; ``recorded`` what is known of their calls.
    """
    files, tables = list(files), list(tables)
    suspects = {file.path: file.suspects for file in files}
    common = {"adapters": list(adapters)} if adapters else {}
    return [
        TargetCase(
            file,
            target,
            common | (recorded or {}).get((file.path, target.symbol), {}) | _find_hints(file, target, tables),
            {frozenset(): Outcome(-1, target.symbol, reason=Reason(ReasonCode.SKIPPED))},
            _list_candidates(target, suspects),
        )
        for file in files
        for target in file.targets
    ]


def _list_candidates(target: Target, suspects: Mapping[str, Sequence[Suspect]]) -> list[Suspect]:
    paths = sorted({target.path, *(path for path, _ in target.beyond)})
    return [suspect for path in paths for suspect in suspects.get(path, ()) if target.may_execute(suspect)]


def _find_hints(file: SourceFile, target: Target, tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    for table in tables:
        ((module, symbol),) = list_named_symbols([table])
        if symbol == target.symbol and names_file(module, file.path):
            return {key: value for key, value in table.items() if key != "target"}
    return {}
