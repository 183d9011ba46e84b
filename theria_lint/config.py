"""Settings: one table of keys, read from the command line and the configuration file, each with its source."""

# No `from __future__ import annotations`: a named tuple compiles each annotation that is text, at each start.
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from theria_lint.errors import ReadError, UserError, suggest_name
from theria_lint.sources.source_text import read_up_to

DEVICES = ("auto", "cpu", "cuda")
DEVICE_PATTERN = "(auto|cpu|cuda|cuda:(0|[1-9][0-9]{0,2}))"
LOCAL = "local"
SLURM = "slurm"
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
EXECUTOR_PATTERN = rf"({LOCAL}|{SLURM}|dask://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):{_PORT})"
FAIL_ON = ("confirmed", "unconfirmed", "unsafe", "error", "unused-ignore", "none")
FAIL_ON_DEFAULT = ("confirmed", "unconfirmed", "unsafe", "error")
LAYOUTS = ("BHTD", "BTHD", "BTD", "TD", "THD", "HTD", "1THD", "1HTD", "BHTD:BTD", "BTHD:BTD", "BHTD:BGTD", "BTHD:BTGD")
DTYPES = ("float64", "float32", "bfloat16", "float16")
ORACLES = ("reference", "finite differences")
MOST_SECONDS = 7 * 24 * 3600
MOST_JOBS = 1024
CALLS = ("both", "recorded", "guessed")
CALLS_DIR = os.path.join(".theria", "calls")
FORMATS = ("text", "concise", "json", "github", "gitlab", "sarif", "junit", "html")


class Settings(NamedTuple):
    """Everything a run needs to know. Paths are absolute; patterns are relative to ``root``.

    ``jobs`` 0 means one per CPU, ``max_time`` 0 no limit; ``python`` None means: choose one that has torch;
    ``python_by_project``: it is not the user who has named it; ``linted``: the root, and what is to be linted;
    ``calls_dir`` None means `CALLS_DIR` in the root. ``targets`` holds the tables ``[[tool.theria-lint.targets]]``,
    each with ``target`` and some of `TARGET_KEYS`.
    """

    root: str = "."
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()
    exclude: tuple[str, ...] = ()
    respect_gitignore: bool = True
    rule_paths: tuple[str, ...] = ()
    detach_names: tuple[str, ...] = ()
    confirm: bool = True
    python: str | None = None
    device: str = "auto"
    timeout: float = 30.0
    max_time: float = 0.0
    jobs: int = 0
    executor: str = LOCAL
    fail_on: tuple[str, ...] = FAIL_ON_DEFAULT
    baseline: str | None = None
    cache: bool = True
    cache_dir: str | None = None
    output_format: str = "text"
    targets: tuple[dict[str, Any], ...] = ()
    adapters: tuple[str, ...] = ()
    calls: str = "both"
    calls_dir: str | None = None
    python_by_project: bool = False
    linted: tuple[str, ...] = ()


# A reader turns a raw value into the setting, or raises ValueError with what was expected.
ValueReader = Callable[[Any, str], Any]


def _read_string(value: Any, root: str) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected a non-empty string")
    return value


def _read_program(value: Any, root: str) -> str:
    """A program by its name, to be looked up on PATH, or by its path."""
    name = _read_string(value, root)
    return _read_path(name, root) if os.path.dirname(name) else name


def _read_path(value: Any, root: str) -> str:
    return os.path.normpath(os.path.join(root, os.path.expanduser(_read_string(value, root))))


def _read_flag(value: Any, root: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _read_seconds(value: Any, root: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_SECONDS:
        raise ValueError(f"expected a number of seconds above 0, {MOST_SECONDS} at most")
    return float(value)


def _read_budget(value: Any, root: str) -> float:
    try:
        return 0.0 if type(value) in (int, float) and value == 0 else _read_seconds(value, root)
    except ValueError:
        raise ValueError(f"expected a number of seconds, {MOST_SECONDS} at most, or 0 for no limit") from None


def _read_count(value: Any, root: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_JOBS:
        raise ValueError(f"expected a whole number up to {MOST_JOBS}, 0 for one per CPU")
    return value


def _make_list_reader(reader: ValueReader) -> ValueReader:
    def read(value: Any, root: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError("expected a list")
        return tuple(reader(item, root) for item in value)

    return read


def _make_choice_reader(*choices: str) -> ValueReader:
    def read(value: Any, root: str) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return read


def _make_pattern_reader(pattern: str, expected: str) -> ValueReader:
    def read(value: Any, root: str) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"expected {expected}")
        return value

    return read


def _read_occasions(value: Any, root: str) -> tuple[Any, ...]:
    """What makes a run fail. Nothing at all may be a variable that is empty: that nothing does is said in a word."""
    found: tuple[Any, ...] = _make_list_reader(_make_choice_reader(*FAIL_ON))(value, root)
    if not found:
        raise ValueError(f"expected some of {', '.join(FAIL_ON)}")
    return found


def _read_per_file_ignores(value: Any, root: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise ValueError("expected a table from a file pattern to a list of rules")
    return tuple((pattern, _make_list_reader(_read_string)(rules, root)) for pattern, rules in value.items())


def _read_arguments(value: Any, root: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("expected a table of keyword arguments")
    return value


def _read_target_table(value: Any, root: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("expected a table for each target")
    for key in value:
        if key not in TARGET_KEYS:
            near = suggest_name(key, TARGET_KEYS)
            raise ValueError(f"unknown key {key!r}{near}; a target knows {', '.join(TARGET_KEYS)}")
    if "target" not in value:
        raise ValueError('a target needs target = "package.module:symbol"')
    return {key: _read_nested_value(key, TARGET_KEYS[key], item, root) for key, item in value.items()}


def _read_target_name(value: Any, root: str) -> str:
    """``package.module:symbol``; the module may be written as a path, or left out."""
    module, _, symbol = _read_string(value, root).rpartition(":")
    if not symbol:
        raise ValueError("expected package.module:symbol, path/to/file.py:symbol or symbol")
    module = module.removesuffix(".py").strip("./").replace("\\", "/").replace("/", ".")
    return f"{module}:{symbol}" if module else symbol


def list_named_symbols(tables: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """The module, or nothing, and the symbol that each table of ``targets`` names."""
    parts = [str(table.get("target", "")).rpartition(":") for table in tables]
    return tuple((module, symbol) for module, _, symbol in parts)


def names_file(module: str, path: str) -> bool:
    """Whether a dotted module name, or nothing, fits a path."""
    dotted = name_module(path)
    return not module or dotted == module or dotted.endswith("." + module)


def name_module(path: str) -> str:
    """The dotted name that a path would have if every folder on it were a package."""
    return os.path.splitext(path)[0].replace(os.sep, ".").removesuffix(".__init__")


def _read_nested_value(key: str, reader: ValueReader, value: Any, root: str) -> Any:
    try:
        return reader(value, root)
    except ValueError as error:
        raise ValueError(f"{key} = {value!r}: {error}") from None


TARGET_KEYS: dict[str, ValueReader] = {
    "target": _read_target_name,
    "layout": _make_choice_reader(*LAYOUTS),
    "kwargs": _read_arguments,
    "device": _make_pattern_reader(DEVICE_PATTERN, f"one of {', '.join(DEVICES)}, cuda:N"),
    "dtype": _make_choice_reader(*DTYPES),
    "oracle": _make_choice_reader(*ORACLES),
    "skip": _read_flag,
}

# The keys of the configuration, as they are written there.
KEYS: dict[str, ValueReader] = {
    "select": _make_list_reader(_read_string),
    "ignore": _make_list_reader(_read_string),
    "per-file-ignores": _read_per_file_ignores,
    "exclude": _make_list_reader(_read_string),
    "respect-gitignore": _read_flag,
    "rule-paths": _make_list_reader(_read_path),
    "detach-names": _make_list_reader(_read_string),
    "confirm": _read_flag,
    "python": _read_program,
    "device": _make_pattern_reader(DEVICE_PATTERN, f"one of {', '.join(DEVICES)}, cuda:N"),
    "timeout": _read_seconds,
    "max-time": _read_budget,
    "jobs": _read_count,
    "executor": _make_pattern_reader(EXECUTOR_PATTERN, f"{LOCAL}, {SLURM} or dask://HOST:PORT"),
    "fail-on": _read_occasions,
    "baseline": _read_path,
    "cache": _read_flag,
    "cache-dir": _read_path,
    "output-format": _make_choice_reader(*FORMATS),
    "targets": _make_list_reader(_read_target_table),
    "adapters": _make_list_reader(_read_path),
    "calls": _make_choice_reader(*CALLS),
    "calls-dir": _read_path,
}


def read_values(raw: dict[str, Any], root: str, source: str) -> dict[str, Any]:
    """The fields of ``Settings`` that ``raw`` sets; relative paths count from ``root``.

    Raises UserError that names ``source``, the key, the value and what is valid.
    """
    return {key.replace("-", "_"): _read_value(key, value, root, source) for key, value in raw.items()}


def _read_value(key: str, value: Any, root: str, source: str) -> Any:
    if key not in KEYS:
        known = (*KEYS, EXTEND)
        raise UserError(f"{source}: unknown key {key!r}{suggest_name(key, known)}; the keys are {', '.join(known)}.")
    try:
        return KEYS[key](value, root)
    except ValueError as error:
        raise UserError(f"{source}: {key} = {value!r}: {error}.") from None


def find_rule_prefix(code: str, known: Mapping[str, str]) -> str | None:
    """The id, or the prefix of ids, that a code in any case names; None for no rule. ``known``: the names, by id."""
    prefix = code.strip().upper()
    if any(rule.startswith(prefix) for rule in known):
        return prefix
    word = code.strip().lower().replace("_", "-")
    return next((rule for rule, name in known.items() if name == word), None)


def check_rules(settings: Settings, known: Mapping[str, str], sources: dict[str, str]) -> None:
    """Raise UserError when ``select``, ``ignore`` or ``per-file-ignores`` names no rule, by a prefix of its id or name.

    ``known``: the names of the rules, by id.
    """
    named = {"select": settings.select, "ignore": settings.ignore}
    named["per-file-ignores"] = tuple(code for _, codes in settings.per_file_ignores for code in codes)
    for key, codes in named.items():
        for code in codes:
            if find_rule_prefix(code, known) is None:
                where, near = sources.get(key, "command line"), suggest_name(code, (*known, *known.values()))
                told = f"{where}: {key}: no rule starts with {code!r}{near}"
                raise UserError(f"{told}; the rules are {', '.join(known)}.")


OWN_FILE = "theria-lint.toml"
SHARED_FILE = "pyproject.toml"
_LARGEST = 1024 * 1024
DEFAULT = "default"
COMMAND_LINE = "command line"
ENVIRONMENT_PREFIX = "THERIA_LINT_"
EXTEND = "extend"
"""The key of a file that names another, whose values hold where this one is silent."""
_LONGEST_CHAIN = 10
_TABLES = ("per-file-ignores", "targets")
"""Keys whose values a line of text cannot hold."""


class ResolvedSettings(NamedTuple):
    """Settings, and for each key of the configuration the place that set it."""

    settings: Settings
    sources: dict[str, str]


def resolve_settings(
    paths: Sequence[str], options: dict[str, Any], config: str | None, isolated: bool
) -> ResolvedSettings:
    """Settings from the defaults, the configuration file, the environment and the command line, the last word last.

    ``options`` has the configuration's keys; ``config`` names a file instead of the nearest, ``isolated`` reads none.
    """
    chosen, variables = _read_environment()
    by_variable = chosen.pop("config", None)
    source = None if isolated else config or by_variable or find_nearest_config(find_common_directory(paths))
    root = os.path.dirname(os.path.abspath(source)) if source else os.getcwd()
    values, sources = _read_file(source, root) if source else ({}, {})
    for key, option in _KEPT_WITHIN.items():
        if key not in options and key not in chosen and (value := values.get(key.replace("-", "_"))):
            for path in value if isinstance(value, tuple) else (value,):
                _check_within(
                    path, root, f"{sources[key]}: {key}", f"name such a place on the command line, with {option}"
                )
    if "executor" not in {*options, *chosen} and values.get("executor", LOCAL) not in (LOCAL, SLURM):
        remedy = "name it with --executor, or in THERIA_LINT_EXECUTOR"
        raise UserError(f"{sources['executor']}: executor: who answers at an address may run code here; {remedy}.")
    for key, value in chosen.items():
        values |= read_values({key: value}, os.getcwd(), variables[key])
    values |= read_values(options, os.getcwd(), COMMAND_LINE)
    by_project = bool(values.get("python")) and "python" not in options and "python" not in chosen
    sources |= variables | dict.fromkeys(options, COMMAND_LINE)
    return ResolvedSettings(Settings(root=root, python_by_project=by_project, linted=(root, *paths), **values), sources)


def _read_environment() -> tuple[dict[str, Any], dict[str, str]]:
    """What variables of ours say, by key, and the name of each variable. Raises UserError."""
    if not any(name.startswith(ENVIRONMENT_PREFIX) for name in os.environ):
        return {}, {}
    from theria_lint.config_environment import read_environment  # few have any

    defaults = {key: getattr(Settings(), key.replace("-", "_")) for key in KEYS if key not in _TABLES}
    return read_environment(os.environ, ENVIRONMENT_PREFIX, defaults | {"config": None}, _TABLES)


def _read_file(source: str, root: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields that a file and those that it extends set, and which file has set each key. Raises UserError."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    seen: list[str] = []
    next_file: str | None = source
    while next_file:
        shown, folder = _display_path(next_file), os.path.dirname(os.path.abspath(next_file))
        seen.append(os.path.realpath(next_file))
        table = _load_table(next_file) or {}
        extended = table.pop(EXTEND, None)
        values = read_values(table, folder, shown) | values
        sources = dict.fromkeys(table, shown) | sources
        next_file = _find_extended(extended, folder, root, shown) if extended is not None else None
        if next_file and (os.path.realpath(next_file) in seen or len(seen) == _LONGEST_CHAIN):
            why = "again" if os.path.realpath(next_file) in seen else f"more than {_LONGEST_CHAIN} files in turn"
            raise UserError(f"{shown}: extend leads to {_display_path(next_file)}, {why}; end the chain before.")
    return values, sources


def _find_extended(value: Any, folder: str, root: str, shown: str) -> str:
    try:
        path: str = _read_path(value, folder)
    except ValueError as error:
        raise UserError(f"{shown}: {EXTEND} = {value!r}: {error}.") from None
    _check_within(path, root, f"{shown}: {EXTEND}", "copy what it says, or name that file with --config")
    return path


# What a configuration file may name in its own project only, with the option that may name any.
_KEPT_WITHIN = {
    "cache-dir": "--cache-dir",
    "calls-dir": "--calls-dir",
    "baseline": "--baseline",
    "rule-paths": "--rule-path",
}


def _check_within(path: str, root: str, named: str, remedy: str) -> None:
    """Raise UserError for a place out of the project: what a project brings decides about nothing but itself."""
    from theria_lint.sources.owned_folder import is_within

    if not is_within(path, root):
        raise UserError(f"{named} leads out of the project, to {os.path.realpath(path)}; {remedy}.")


def find_common_directory(paths: Sequence[str]) -> str:
    """The deepest directory that holds all ``paths``; the working directory for none."""
    if not paths:
        return os.getcwd()
    absolute = [os.path.abspath(path) for path in paths]
    try:
        common = os.path.commonpath(absolute)
    except ValueError:  # on Windows: two drives
        return os.getcwd()
    return common if os.path.isdir(common) else os.path.dirname(common)


def find_nearest_config(directory: str) -> str | None:
    """The first configuration file upwards from ``directory``; of two in one directory, ``theria-lint.toml``.

    Raises UserError for one that is a link out of its folder: complaints would show what is in there.
    """
    while True:
        own = os.path.join(directory, OWN_FILE)
        if os.path.isfile(own):
            return _not_outside(own)
        shared = os.path.join(directory, SHARED_FILE)
        if os.path.isfile(shared) and _load_table(shared) is not None:
            return _not_outside(shared)
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def _not_outside(path: str) -> str:
    """The path of a file that nobody has named, if no link leads from it to somebody else's. Raises UserError."""
    folder = os.path.join(os.path.realpath(os.path.dirname(path)), "")
    if not os.path.realpath(path).startswith(folder):
        raise UserError(
            f"{_display_path(path)}: is a link out of its folder; name the file with --config, or use --isolated."
        )
    return path


def _load_table(path: str) -> dict[str, Any] | None:
    """The linter's table of a file, None for a ``pyproject.toml`` without one."""
    try:
        data = read_up_to(_LARGEST, path)
    except ReadError as error:
        raise UserError(_display_path(path), error) from None
    shared = os.path.basename(path) == SHARED_FILE
    if shared and b"theria-lint" not in data:
        return None
    document = _parse_toml(path, data)
    tools = document.get("tool", {})
    table = (tools.get("theria-lint") if isinstance(tools, dict) else None) if shared else document
    if table is not None and not isinstance(table, dict):
        raise UserError(f"{_display_path(path)}: [tool.theria-lint] must be a table.")
    return table


def _parse_toml(path: str, data: bytes) -> dict[str, Any]:
    import tomllib  # most runs read no configuration

    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except ValueError as error:  # of the encoding, of TOML, or of a number that is too long
        raise UserError(f"{_display_path(path)}: is not valid TOML: {error}.") from None
    except RecursionError:
        raise UserError(f"{_display_path(path)}: is not valid TOML: it is nested too deeply.") from None


def _display_path(path: str) -> str:
    return os.path.relpath(path).replace(os.sep, "/")


def format_settings(resolved: ResolvedSettings) -> str:
    """The settings as TOML, each with the place it came from: what ``--show-settings`` prints."""
    lines = []
    for key in KEYS:
        value = getattr(resolved.settings, key.replace("-", "_"))
        value = dict(value) if key == "per-file-ignores" else value
        written = f"# {key} is not set" if value is None else f"{key} = {_format_toml_value(value)}"
        lines.append(f"{written}  # {resolved.sources.get(key, DEFAULT)}")
    return "\n".join(lines) + "\n"


def _format_toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_format_toml_value, value))}]"
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{_format_toml_value(key)} = {_format_toml_value(item)}" for key, item in value.items())
            + "}"
        )
    if isinstance(value, str):
        import json  # a JSON string is a TOML string

        return json.dumps(value, ensure_ascii=False)
    return repr(value)
