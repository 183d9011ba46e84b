"""Load rules from data: read and validate ``rules/<id>-<name>/rule.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Any
from theria_lint.errors import ReadError
from theria_lint.sources.source_text import read_up_to
from theria_lint.errors import RuleError
from collections.abc import Mapping
from functools import cache

_LARGEST = 256 * 1024
_FIELDS = ("token", "symbol", "detail")
SEVERITIES = ("error", "warning", "note")
KINDS = ("context", "decorator", "method", "attribute", "function")
CONDITIONS = ("always", "false", "not-true", "not-false", "of-autograd")
RECORDED = "recorded"
"""Attention code, but for the forwards of Functions: nothing is recorded in those anyway."""

CONSTRUCTION = "construction"
"""Attention code, and the constructors of the classes that run it."""

PLACES = ("attention", RECORDED, CONSTRUCTION, "autograd-function", "anywhere")
NEUTRALISERS = (
    "drop-decorator",
    "null-context",
    "drop-call",
    "drop-attribute",
    "first-argument",
    "math-backend",
    "non-reentrant",
    "keep-vars",
    "create-graph",
    "keep-loss",
    "kept-loss",
    "null-hook",
    "null-second-hook",
    "plain-attribute",
    "explicit-distance",
    "default-contexts",
    "torch-function",
    "as-nested-tensor",
    "recorded-copy",
    "reparametrised",
    "as-subclass",
    "set-flag",
)
# Uses of what was found that do no harm as a rule: a log, a truth value or index, an attribute that nobody reads, a maximum that is divided out,
# an output beside the result, what depends on sizes alone.
HARMLESS = ("logged", "discrete", "kept-aside", "row-maximum", "handed-out", "sizes", "moving-average")
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
    "new-parameter": frozenset(),
    "changed-gradient": frozenset(),
    "dropped-gradient": frozenset(),
}
_TEXTS = ("what-it-does", "why", "remedy")
_REQUIRED = ("id", "name", "severity", "detector", "message", *_TEXTS, "references")
_OPTIONAL = ("match", "messages", "remedies", "yields-to", "tokens", "harmless")
_MATCH_KEYS = ("kind", "names", "neutraliser", "when", "where", "message")
_ID = re.compile(r"[A-Z]{2,8}[0-9]{3}")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class RuleMatch:
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
    matches: tuple[RuleMatch, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    remedies: tuple[tuple[str, str], ...] = ()
    yields_to: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()
    data: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def collect_names(self, kind: str) -> frozenset[str]:
        """All names of this kind that the rule looks for."""
        return frozenset(name for match in self.matches if match.kind == kind for name in match.names)

    def get_values(self, key: str) -> frozenset[str]:
        """The detector's data under ``key``."""
        return frozenset(dict(self.data).get(key, ()))

    def format_message(self, variant: str | None, token: str, symbol: str, detail: str) -> str:
        """The message of a variant, the rule's own one where there is none, on a line of at most so many characters.

        Long names lose their middle. A detail that the message has no place for is what else the name may mean.
        """
        template = dict(self.messages).get(variant or "", self.message)
        from theria.wording import LONGEST_HEAD  # most files hold no suspect

        names = {"token": token, "symbol": symbol}
        if "{detail}" in template:
            return _fit(template, names | {"detail": detail})
        whole = template.format(**names) + (f" (it may mean {detail})" if detail else "")
        return whole if len(whole) <= LONGEST_HEAD else _fit(template + (" (ambiguous)" if detail else ""), names)

    def get_remedy(self, variant: str | None) -> str:
        """The remedy of a variant, the rule's own one where there is none."""
        return dict(self.remedies).get(variant or "", self.remedy)


def _fit(template: str, names: Mapping[str, str]) -> str:
    """A template with its names, the longest of them shortened as far as it takes for the line to be short enough."""
    from theria.wording import LONGEST_HEAD, shorten

    text = template.format(**names)
    shown = dict(names)
    while len(text) > LONGEST_HEAD and any(len(value) > 1 for value in shown.values()):
        longest = max(shown, key=lambda name: len(shown[name]))
        room = len(shown[longest]) - (len(text) - LONGEST_HEAD)
        others = sorted(len(value) for name, value in shown.items() if name != longest)
        least = max(room, others[-1] if others else 1, 1)
        shown[longest] = shorten(names[longest], min(least, len(shown[longest]) - 1))
        text = template.format(**shown)
    return text


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


def find_builtin_folder() -> Path:
    """Where the shipped rules lie: inside an installed package, or at the root of a checkout."""
    room = Path(__file__).resolve().parent
    inside = room / "data"
    return inside if inside.is_dir() else room.parents[1] / "rules"


def load_rules(extra_paths: Sequence[Path | str] = (), extra_detach_names: Iterable[str] = ()) -> RuleSet:
    """The shipped rules, then those of ``extra_paths`` (each a folder of rule folders, or one rule folder).

    ``extra_detach_names`` are dotted names of functions that cut the graph: THL002 finds them too.
    """
    rules: dict[str, Rule] = {}
    for base in (find_builtin_folder(), *map(Path, extra_paths)):
        for folder in _list_rule_folders(base):
            rule = read_rule(folder / "rule.toml")
            if rule.id in rules:
                other = rules[rule.id].folder / "rule.toml"
                raise RuleError(f"{folder / 'rule.toml'}: key 'id': {rule.id} is taken by {other}; choose another")
            rules[rule.id] = rule
    names = tuple(sorted(set(extra_detach_names)))
    if names and "THL002" in rules:
        rules["THL002"] = _add_detach_names(rules["THL002"], names)
    _check_yields_to(rules)
    ordered = tuple(rules[rule_id] for rule_id in sorted(rules))
    return RuleSet(ordered, tuple(name.partition(".")[0] for name in names))


def _list_rule_folders(base: Path) -> list[Path]:
    single = (base / "rule.toml").is_file()
    folders = [base] if single else sorted(path.parent for path in base.glob("*/rule.toml")) if base.is_dir() else []
    if not folders:
        raise RuleError(f"{base}: no rule here; a rule path is a folder that holds rule.toml, or folders that do")
    inside = base.resolve()
    for folder in folders:
        if not (folder / "rule.toml").resolve().is_relative_to(inside):
            raise RuleError(f"{folder / 'rule.toml'}: a link leads out of {base}; name the place itself as a rule path")
    return folders


def _add_detach_names(rule: Rule, names: tuple[str, ...]) -> Rule:
    match = RuleMatch("function", frozenset(names), neutraliser="first-argument")
    tokens = (*rule.tokens, *(name.rpartition(".")[2] for name in names))
    return replace(rule, matches=(*rule.matches, match), tokens=tuple(sorted(set(tokens))))


def _check_yields_to(rules: Mapping[str, Rule]) -> None:
    for rule in rules.values():
        for other in rule.yields_to:
            if other not in rules:
                known = ", ".join(sorted(rules))
                raise RuleError(f"{rule.folder / 'rule.toml'}: key 'yields-to': no rule {other}; rules are {known}")


def read_rule(path: Path) -> Rule:
    """Read one ``rule.toml``; `RuleError` names the file, the key and the valid choices."""
    try:
        table = tomllib.loads(read_up_to(_LARGEST, str(path)).decode("utf-8"))
    except ReadError as error:
        raise RuleError(str(path), error) from None
    except ValueError as error:  # of the encoding, of TOML, or of a number that is too long
        raise RuleError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise RuleError(f"{path}: not valid TOML: it is nested too deeply") from None
    return _RuleReader(path, table).build_rule()


class _RuleReader:
    """Turns the table of one file into a `Rule`, key by key."""

    def __init__(self, path: Path, table: dict[str, Any]) -> None:
        self.path = path
        self.table = table

    def make_error(self, key: str, problem: str) -> RuleError:
        return RuleError(f"{self.path}: key '{key}': {problem}")

    def build_rule(self) -> Rule:
        detector = self.read_choice(self.table, "detector", tuple(DETECTORS))
        extra = DETECTORS[detector]
        self.check_keys(self.table, (*_REQUIRED, *_OPTIONAL, *sorted(extra)), "")
        rule_id = self.read_pattern("id", _ID, "three or more capitals and three digits, as THL001")
        matches = tuple(self.read_match(number, entry) for number, entry in enumerate(self.read_tables("match")))
        tokens = set(self.read_strings(self.table, "tokens", ()))
        tokens |= {name.rpartition(".")[2] for match in matches for name in match.names}
        if not tokens:
            raise self.make_error(
                "tokens", "a rule needs [[match]] names or tokens: words that a file must hold to be of interest"
            )
        return Rule(
            id=rule_id,
            name=self.read_pattern("name", _NAME, "lower-case words joined by '-'"),
            severity=self.read_choice(self.table, "severity", SEVERITIES),
            detector=detector,
            message=self.check_template("message", self.read_string("message")),
            what=self.read_string("what-it-does"),
            why=self.read_string("why"),
            remedy=self.read_string("remedy"),
            references=self.read_strings(self.table, "references", None),
            tokens=tuple(sorted(tokens)),
            folder=self.path.parent,
            matches=matches,
            messages=self.read_messages(),
            remedies=tuple(sorted(self.read_texts("remedies").items())),
            yields_to=self.read_strings(self.table, "yields-to", ()),
            harmless=self.read_harmless(),
            data=tuple((key, self.read_strings(self.table, key, None)) for key in sorted(extra)),
        )

    def check_keys(self, table: Mapping[str, Any], valid: Sequence[str], prefix: str) -> None:
        for key in table:
            if key not in valid:
                raise self.make_error(prefix + key, f"unknown; valid keys are {', '.join(sorted(valid))}")

    def require_key(self, table: Mapping[str, Any], key: str) -> Any:
        if key not in table:
            raise self.make_error(key, "missing")
        return table[key]

    def read_choice(self, table: Mapping[str, Any], key: str, valid: Sequence[str]) -> str:
        value = self.require_key(table, key)
        if value not in valid:
            raise self.make_error(key, f"{value!r} is not valid; choose one of {', '.join(valid)}")
        return str(value)

    def read_string(self, key: str) -> str:
        value = self.require_key(self.table, key)
        if not isinstance(value, str) or not value.strip():
            raise self.make_error(key, "must be a text that is not empty")
        return value.strip()

    def read_pattern(self, key: str, pattern: re.Pattern[str], form: str) -> str:
        value = self.read_string(key)
        if not pattern.fullmatch(value):
            raise self.make_error(key, f"{value!r} is not valid; it must be {form}")
        return value

    def read_strings(self, table: Mapping[str, Any], key: str, default: tuple[str, ...] | None) -> tuple[str, ...]:
        value = self.require_key(table, key) if default is None else table.get(key, default)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self.make_error(key, "must be a list of texts")
        return tuple(value)

    def read_tables(self, key: str) -> list[Any]:
        value = self.table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.make_error(key, f"must be an array of tables, written [[{key}]]")
        return value

    def read_harmless(self) -> tuple[str, ...]:
        found = self.read_strings(self.table, "harmless", ())
        for kind in found:
            if kind not in HARMLESS:
                raise self.make_error("harmless", f"{kind!r} is not valid; choose of {', '.join(HARMLESS)}")
        return found

    def read_messages(self) -> tuple[tuple[str, str], ...]:
        found = self.read_texts("messages")
        return tuple(sorted((name, self.check_template("messages", text)) for name, text in found.items()))

    def read_texts(self, key: str) -> dict[str, str]:
        value = self.table.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.make_error(key, "must be a table of texts")
        return value

    def check_template(self, key: str, text: str) -> str:
        try:
            fields = [part[1:] for part in Formatter().parse(text) if part[1] is not None]
        except ValueError:
            fields = [("", "", None)]
        for name, form, conversion in fields:
            if not name:
                raise self.make_error(key, "a brace that stands for itself is written twice")
            if name not in _FIELDS or form or conversion:
                raise self.make_error(key, f"{{{name}}} is not known; use {', '.join(f'{{{field}}}' for field in _FIELDS)}")
        return text

    def read_match(self, number: int, entry: dict[str, Any]) -> RuleMatch:
        self.check_keys(entry, _MATCH_KEYS, f"match[{number}].")
        neutraliser = self.read_choice(entry, "neutraliser", NEUTRALISERS) if "neutraliser" in entry else None
        message = entry.get("message")
        if message is not None and message not in self.table.get("messages", {}):
            raise self.make_error(f"match[{number}].message", f"no text {message!r} under [messages]")
        return RuleMatch(
            kind=self.read_choice(entry, "kind", KINDS),
            names=frozenset(self.read_strings(entry, "names", None)),
            neutraliser=neutraliser,
            when=self.read_choice(entry, "when", CONDITIONS) if "when" in entry else "always",
            where=self.read_choice(entry, "where", PLACES) if "where" in entry else "attention",
            message=message,
        )


def find_rule_link(rule_id: str) -> str | None:
    """The address for a shipped rule; None for another."""
    return _list_links().get(rule_id)


@cache
def _list_links() -> Mapping[str, str]:
    return {rule.id: rule.references[0] for rule in load_rules().rules if rule.references}
