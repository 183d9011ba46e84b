"""Rules as data: ``rules/<id>-<name>/rule.toml``, read and validated."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Any

from theria_lint.sources.source_text import ReadError, read_up_to
from theria_lint.errors import RuleError

_LARGEST = 256 * 1024
_FIELDS = ("token", "symbol", "detail")
SEVERITIES = ("error", "warning", "note")
KINDS = ("context", "decorator", "method", "attribute", "function")
CONDITIONS = ("always", "false", "not-false")
RECORDED = "recorded"
"""Attention code, but for the forwards of Functions: nothing is recorded in those anyway."""

PLACES = ("attention", RECORDED, "autograd-function", "anywhere")
NEUTRALISERS = (
    "drop-decorator",
    "null-context",
    "drop-call",
    "drop-attribute",
    "first-argument",
    "math-backend",
    "non-reentrant",
    "create-graph",
    "null-hook",
)
# One detector a kind of syntax; the keys are what its rules may say in data beside what every rule says.
DETECTORS: Mapping[str, frozenset[str]] = {
    "names": frozenset(),
    "once-differentiable": frozenset(),
    "opaque-backward": frozenset(),
    "saved-intermediate": frozenset({"copies"}),
    "inner-grad": frozenset(),
    "checkpoint": frozenset(),
    "fused": frozenset({"safe-contexts", "safe-backends"}),
    "compile": frozenset(),
    "graph-escape": frozenset(),
    "hook": frozenset({"lossy"}),
    "straight-through": frozenset(),
}
_TEXTS = ("what-it-does", "why", "remedy")
_REQUIRED = ("id", "name", "severity", "detector", "message", *_TEXTS, "references")
_OPTIONAL = ("match", "messages", "yields-to", "tokens")
_MATCH_KEYS = ("kind", "names", "neutraliser", "when", "where", "message")
_ID = re.compile(r"[A-Z]{2,8}[0-9]{3}")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Match:
    """Names that a rule looks for: ``kind`` says how they are used, ``where`` in which code, ``when`` with what."""

    kind: str
    names: frozenset[str]
    neutraliser: str | None = None
    when: str = "always"
    where: str = "attention"
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of suspect. ``tokens``: a file without any of these words cannot hold one."""

    id: str
    name: str
    severity: str
    detector: str
    message: str
    what: str
    why: str
    remedy: str
    references: tuple[str, ...]
    tokens: tuple[str, ...]
    folder: Path
    matches: tuple[Match, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    yields_to: tuple[str, ...] = ()
    data: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def names(self, kind: str) -> frozenset[str]:
        """All names of this kind that the rule looks for."""
        return frozenset(name for match in self.matches if match.kind == kind for name in match.names)

    def values(self, key: str) -> frozenset[str]:
        """The detector's data under ``key``."""
        return frozenset(dict(self.data).get(key, ()))

    def message_for(self, variant: str | None, token: str, symbol: str, detail: str) -> str:
        """The message of a variant, the rule's own one where there is none; a detail it has no place for follows."""
        template = dict(self.messages).get(variant or "", self.message)
        text = template.format(token=token, symbol=symbol, detail=detail)
        return text if "{detail}" in template else text + detail


@dataclass(frozen=True, slots=True, eq=False)
class RuleSet:
    """The rules in force, by id. Compared by identity: it is looked up for every file."""

    rules: tuple[Rule, ...]
    # Names that only a user's settings know make a file interesting even if it never says "torch".
    extra_roots: tuple[str, ...] = ()

    def __getitem__(self, rule_id: str) -> Rule:
        for rule in self.rules:
            if rule.id == rule_id:
                return rule
        raise KeyError(rule_id)

    @property
    def tokens(self) -> tuple[str, ...]:
        """Every word of which a file must hold one to be of interest, in a fixed order."""
        return tuple(sorted({token for rule in self.rules for token in rule.tokens}))


def builtin_folder() -> Path:
    """Where the shipped rules lie: inside an installed package, or at the root of a checkout."""
    room = Path(__file__).resolve().parent
    inside = room / "data"
    return inside if inside.is_dir() else room.parents[1] / "rules"


def load_rules(extra_paths: Sequence[Path | str] = (), extra_detach_names: Iterable[str] = ()) -> RuleSet:
    """The shipped rules, then those of ``extra_paths`` (each a folder of rule folders, or one rule folder).

    ``extra_detach_names`` are dotted names of functions that cut the graph: THL002 finds them too.
    """
    rules: dict[str, Rule] = {}
    for base in (builtin_folder(), *map(Path, extra_paths)):
        for folder in _rule_folders(base):
            rule = read_rule(folder / "rule.toml")
            if rule.id in rules:
                other = rules[rule.id].folder / "rule.toml"
                raise RuleError(f"{folder / 'rule.toml'}: key 'id': {rule.id} is taken by {other}; choose another")
            rules[rule.id] = rule
    names = tuple(sorted(set(extra_detach_names)))
    if names and "THL002" in rules:
        rules["THL002"] = _with_cuts(rules["THL002"], names)
    _check_yields(rules)
    ordered = tuple(rules[rule_id] for rule_id in sorted(rules))
    return RuleSet(ordered, tuple(name.partition(".")[0] for name in names))


def _rule_folders(base: Path) -> list[Path]:
    if (base / "rule.toml").is_file():
        return [base]
    folders = sorted(path.parent for path in base.glob("*/rule.toml")) if base.is_dir() else []
    if not folders:
        raise RuleError(f"{base}: no rule here; a rule path is a folder that holds rule.toml, or folders that do")
    return folders


def _with_cuts(rule: Rule, names: tuple[str, ...]) -> Rule:
    match = Match("function", frozenset(names), neutraliser="first-argument")
    tokens = (*rule.tokens, *(name.rpartition(".")[2] for name in names))
    return replace(rule, matches=(*rule.matches, match), tokens=tuple(sorted(set(tokens))))


def _check_yields(rules: Mapping[str, Rule]) -> None:
    for rule in rules.values():
        for other in rule.yields_to:
            if other not in rules:
                known = ", ".join(sorted(rules))
                raise RuleError(f"{rule.folder / 'rule.toml'}: key 'yields-to': no rule {other}; rules are {known}")


def read_rule(path: Path) -> Rule:
    """Read one ``rule.toml``; `RuleError` names the file, the key and the valid choices."""
    try:
        table = tomllib.loads(read_up_to(_LARGEST, str(path), f"the {_LARGEST // 2**10} kB of a rule").decode("utf-8"))
    except ReadError as error:
        raise RuleError(f"{path}: {error.message.rstrip('.')}") from None
    except ValueError as error:  # of the encoding, of TOML, or of a number that is too long
        raise RuleError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise RuleError(f"{path}: not valid TOML: it is nested too deeply") from None
    return _Reader(path, table).rule()


class _Reader:
    """Turns the table of one file into a `Rule`, key by key."""

    def __init__(self, path: Path, table: dict[str, Any]) -> None:
        self.path = path
        self.table = table

    def fail(self, key: str, problem: str) -> RuleError:
        return RuleError(f"{self.path}: key '{key}': {problem}")

    def rule(self) -> Rule:
        detector = self.choice(self.table, "detector", tuple(DETECTORS))
        extra = DETECTORS[detector]
        self.keys(self.table, (*_REQUIRED, *_OPTIONAL, *sorted(extra)), "")
        rule_id = self.pattern("id", _ID, "three or more capitals and three digits, as THL001")
        matches = tuple(self.match(number, entry) for number, entry in enumerate(self.tables("match")))
        tokens = set(self.strings(self.table, "tokens", ()))
        tokens |= {name.rpartition(".")[2] for match in matches for name in match.names}
        if not tokens:
            raise self.fail(
                "tokens", "a rule needs [[match]] names or tokens: words that a file must hold to be of interest"
            )
        return Rule(
            id=rule_id,
            name=self.pattern("name", _NAME, "lower-case words joined by '-'"),
            severity=self.choice(self.table, "severity", SEVERITIES),
            detector=detector,
            message=self.template("message", self.text("message")),
            what=self.text("what-it-does"),
            why=self.text("why"),
            remedy=self.text("remedy"),
            references=self.strings(self.table, "references", None),
            tokens=tuple(sorted(tokens)),
            folder=self.path.parent,
            matches=matches,
            messages=self.messages(),
            yields_to=self.strings(self.table, "yields-to", ()),
            data=tuple((key, self.strings(self.table, key, None)) for key in sorted(extra)),
        )

    def keys(self, table: Mapping[str, Any], valid: Sequence[str], prefix: str) -> None:
        for key in table:
            if key not in valid:
                raise self.fail(prefix + key, f"unknown; valid keys are {', '.join(sorted(valid))}")

    def require(self, table: Mapping[str, Any], key: str) -> Any:
        if key not in table:
            raise self.fail(key, "missing")
        return table[key]

    def choice(self, table: Mapping[str, Any], key: str, valid: Sequence[str]) -> str:
        value = self.require(table, key)
        if value not in valid:
            raise self.fail(key, f"{value!r} is not valid; choose one of {', '.join(valid)}")
        return str(value)

    def text(self, key: str) -> str:
        value = self.require(self.table, key)
        if not isinstance(value, str) or not value.strip():
            raise self.fail(key, "must be a text that is not empty")
        return value.strip()

    def pattern(self, key: str, pattern: re.Pattern[str], form: str) -> str:
        value = self.text(key)
        if not pattern.fullmatch(value):
            raise self.fail(key, f"{value!r} is not valid; it must be {form}")
        return value

    def strings(self, table: Mapping[str, Any], key: str, default: tuple[str, ...] | None) -> tuple[str, ...]:
        value = self.require(table, key) if default is None else table.get(key, default)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self.fail(key, "must be a list of texts")
        return tuple(value)

    def tables(self, key: str) -> list[Any]:
        value = self.table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.fail(key, f"must be an array of tables, written [[{key}]]")
        return value

    def messages(self) -> tuple[tuple[str, str], ...]:
        value = self.table.get("messages", {})
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.fail("messages", "must be a table of texts")
        return tuple(sorted((name, self.template("messages", text)) for name, text in value.items()))

    def template(self, key: str, text: str) -> str:
        try:
            fields = [part[1:] for part in Formatter().parse(text) if part[1] is not None]
        except ValueError:
            fields = [("", "", None)]
        for name, form, conversion in fields:
            if not name:
                raise self.fail(key, "a brace that stands for itself is written twice")
            if name not in _FIELDS or form or conversion:
                raise self.fail(key, f"{{{name}}} is not known; use {', '.join(f'{{{field}}}' for field in _FIELDS)}")
        return text

    def match(self, number: int, entry: dict[str, Any]) -> Match:
        self.keys(entry, _MATCH_KEYS, f"match[{number}].")
        neutraliser = self.choice(entry, "neutraliser", NEUTRALISERS) if "neutraliser" in entry else None
        message = entry.get("message")
        if message is not None and message not in self.table.get("messages", {}):
            raise self.fail(f"match[{number}].message", f"no text {message!r} under [messages]")
        return Match(
            kind=self.choice(entry, "kind", KINDS),
            names=frozenset(self.strings(entry, "names", None)),
            neutraliser=neutraliser,
            when=self.choice(entry, "when", CONDITIONS) if "when" in entry else "always",
            where=self.choice(entry, "where", PLACES) if "where" in entry else "attention",
            message=message,
        )
