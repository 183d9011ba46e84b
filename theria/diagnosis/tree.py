"""What a diagnosis found, as a tree of modules that prints itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from theria.verdicts import Reason, Verdict
from theria.wording import describe


@dataclass(frozen=True)
class ModuleDiagnosis:
    """What was measured of one submodule, called as the model calls it.

    Attributes:
        name: its path in the model; "" is the model itself.
        kind: the name of its class.
        verdict: as `theria.probe` has it.
        reason: what the verdict rests on.
        lost: the share of its Hessian, along random directions, that autograd loses or gets wrong; None if not known.
        attention: whether it is an attention module by name, or calls attention of PyTorch's itself.
        file: where its class stands, if that is known.
        dtype: in which the verdict was measured.
        children: the submodules that were measured.
    """

    name: str
    kind: str
    verdict: Verdict
    reason: Reason
    lost: float | None = None
    attention: bool = False
    file: str | None = None
    dtype: str = "float64"
    children: tuple[ModuleDiagnosis, ...] = ()

    def walk(self) -> Iterator[ModuleDiagnosis]:
        """Yield it and what is below it, in the order in which the model calls them."""
        yield self
        for child in self.children:
            yield from child.walk()

    def to_json(self) -> dict[str, Any]:
        """The subtree as JSON data."""
        return {
            "name": self.name,
            "class": self.kind,
            "verdict": str(self.verdict),
            "reason": describe(self.reason),
            "reason_code": str(self.reason.code),
            "data": self.reason.to_json()["data"],
            "lost": self.lost,
            "attention": self.attention,
            "file": self.file,
            "dtype": self.dtype,
            "children": [child.to_json() for child in self.children],
        }


@dataclass(frozen=True)
class Diagnosis:
    """The tree of a model's modules, with what is to blame.

    Attributes:
        root: the model.
        culprits: the deepest unsafe modules, all of whose own submodules are safe, in the order of their calls.
        remedy: what to do about the first culprit; None where nothing is known to help.
        notes: what else was found out, such as submodules that were never called.
    """

    root: ModuleDiagnosis
    culprits: tuple[ModuleDiagnosis, ...] = ()
    remedy: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The verdict on the model."""
        return self.root.verdict

    @property
    def safe(self) -> bool:
        """Whether the model and every part that was measured can be differentiated twice."""
        return all(node.verdict is Verdict.SAFE for node in self.root.walk())

    @property
    def lost(self) -> float | None:
        """The share of the model's Hessian that is lost, along random directions; None if not known."""
        return self.root.lost

    @property
    def culprit(self) -> ModuleDiagnosis | None:
        """The first module to blame, if any."""
        return self.culprits[0] if self.culprits else None

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as JSON data."""
        return {
            "verdict": str(self.verdict),
            "lost": self.lost,
            "culprits": [node.name for node in self.culprits],
            "remedy": self.remedy,
            "notes": list(self.notes),
            "modules": self.root.to_json(),
        }

    def __str__(self) -> str:
        """The verdict, the tree, the culprit and the remedy."""
        lines = [self._headline(), *_draw([self.root], "", "")][: None if self.root.children else 1]
        for alike in _group(self.culprits):
            lines += _describe_culprits(alike)
        lines += [f"help: {self.remedy}"] if self.remedy else []
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _headline(self) -> str:
        words = f"{self.root.kind}: {self.verdict}"
        if self.verdict.unsafe and self.lost is not None:
            words += f", {_percent(self.lost)} of its Hessian is lost"
        return words


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


def _describe_culprits(alike: Sequence[ModuleDiagnosis]) -> Iterator[str]:
    """The modules of one class that fail in the same way."""
    first = alike[0]
    names = ", ".join(node.name or "the model itself" for node in alike[:MAX_NAMES])
    more = f" and {len(alike) - MAX_NAMES} more" if len(alike) > MAX_NAMES else ""
    yield f"culprit: {names}{more}: {first.kind}" + (f" ({first.file})" if first.file else "")
    yield f"  note: {describe(first.reason)}"


MAX_NAMES = 4
"""How many culprits of one kind are named."""


def _draw(alike: Sequence[ModuleDiagnosis], before: str, below: str, above: str = "") -> Iterator[str]:
    """One line for neighbours that came out alike, and below it what came out below the first of them."""
    first = alike[0]
    names = [_shorten(node.name, above) for node in (first, alike[-1])]
    label = f"{' … '.join(dict.fromkeys(names))} {first.kind}".lstrip()
    lost = f", lost {_percent(first.lost)}" if first.verdict.unsafe and first.lost is not None else ""
    told = f" in {first.dtype}" if first.verdict.unsafe and first.dtype != "float64" else ""
    count = f" ({len(alike)})" if len(alike) > 1 else ""
    yield f"{before}{label}: {first.verdict}{lost}{told}{count}"
    groups = list(_group(first.children))
    for index, group in enumerate(groups):
        branch, stem = ("└─ ", "   ") if index == len(groups) - 1 else ("├─ ", "│  ")
        yield from _draw(group, below + branch, below + stem, first.name)


def _shorten(name: str, above: str) -> str:
    return name.removeprefix(f"{above}.") if above else name


def _group(nodes: Sequence[ModuleDiagnosis]) -> Iterator[list[ModuleDiagnosis]]:
    """Neighbours of one class that came out alike, with what is below them, are one group."""
    for _, group in groupby(nodes, key=_summarise):
        yield list(group)


def _summarise(node: ModuleDiagnosis) -> tuple[Any, ...]:
    return node.kind, node.verdict, node.reason.code, tuple(map(_summarise, node.children))
