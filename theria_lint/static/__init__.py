"""The static stage: suspects and targets from the text of a file, without running it.

Importing this package loads neither libcst nor torch; each part is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from .errors import RuleError, SourceError

if TYPE_CHECKING:
    from pathlib import Path

    from ..model import Suspect, Target
    from .rules import Rule, RuleSet
    from .uses import Uses

__all__ = [
    "RuleError",
    "SourceError",
    "explain",
    "find_targets",
    "has_substitute",
    "load_rules",
    "may_hold_suspects",
    "neutralise",
    "parses",
    "read_uses",
    "scan",
    "scan_called",
    "syntax_check",
]


def load_rules(extra_paths: Sequence[Path | str] = (), extra_detach_names: Iterable[str] = ()) -> RuleSet:
    """The shipped rules and those of ``extra_paths``; `RuleError` says what is wrong with a rule file.

    ``extra_detach_names`` are dotted names of functions that cut the graph (``mypkg.stop_grad``): THL002 finds them.
    """
    from .rules import load_rules as load

    return load(extra_paths, extra_detach_names)


def may_hold_suspects(data: bytes, rules: RuleSet) -> bool:
    """Whether a file of these bytes can hold a suspect at all. Never False for one that `scan` finds a suspect in."""
    from .prefilter import may_hold_suspects as may

    return may(data, rules)


def scan(path: str, source: str, rules: RuleSet, *, prefilter: bool = True) -> tuple[Suspect, ...]:
    """The suspects of a file, sorted by place and rule.

    With ``prefilter`` only the code that can hold a suspect is parsed; the result is the same. `SourceError` for what
    does not parse, as far as it had to be parsed: `syntax_check` looks at the whole file.
    """
    from .scanner import scan as run

    return run(path, source, rules, prefilter=prefilter)


def scan_called(path: str, source: str, rules: RuleSet, roots: Collection[str]) -> tuple[Suspect, ...]:
    """The suspects of a file of which attention of other files runs the functions with the symbols ``roots``.

    Those of `scan` are among them. `SourceError` for what does not parse.
    """
    from .scanner import scan_called as run

    return run(path, source, rules, roots)


def read_uses(source: str) -> Uses:
    """What the functions and classes of a file take from other modules. `SourceError` for what does not parse."""
    from .uses import read

    return read(source)


def syntax_check(source: str) -> None:
    """Raise `SourceError` if a file is not valid Python."""
    from .syntax import syntax_check as check

    check(source)


def parses(source: bytes | str) -> bool:
    """Whether a file is valid Python."""
    from .syntax import parses as ask

    return ask(source)


def find_targets(path: str, source: str) -> tuple[Target, ...]:
    """The attention callables of a file that can be run, in source order."""
    from .targets import find_targets as find

    return find(path, source)


def neutralise(source: str, suspects: Iterable[Suspect], *, tidy: bool = False, substitute: bool = False) -> str:
    """The source with each suspect made to do nothing, every line of it where it was.

    A suspect whose ``neutraliser`` is None stays as it is, or with ``substitute`` gives way to a stand-in where it has
    one. Any subset of the suspects of a file may be given. With ``tidy`` the lines that fall empty are gone, and names
    that are needed are imported: as an author would write it.
    """
    from .rewriting import neutralise as rewrite

    return rewrite(source, suspects, tidy=tidy, substitute=substitute)


def has_substitute(source: str, suspect: Suspect) -> bool:
    """Whether a suspect that no rewrite neutralises has a stand-in: see ``dynamic/worker/substitutes.py``."""
    from .substitution import has_substitute as ask

    return ask(source, suspect)


def explain(rule: Rule) -> str:
    """What a rule finds, why, an example and the remedy, as Markdown."""
    from .explanation import explain as text

    return text(rule)
