"""The configuration file: which one applies, what it says, and where each setting came from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from theria_lint.errors import UserError
from theria_lint.reading import ReadError, read_up_to
from theria_lint.settings import KEYS, Settings, read_values

OWN_FILE = "theria-lint.toml"
SHARED_FILE = "pyproject.toml"
_LARGEST = 1024 * 1024
DEFAULT = "default"
COMMAND_LINE = "command line"
PYTHON_VARIABLE = "THERIA_LINT_PYTHON"


class Resolved(NamedTuple):
    """Settings, and for each key of the configuration the place that set it."""

    settings: Settings
    sources: dict[str, str]


def resolve(paths: Sequence[str], options: dict[str, Any], config: str | None, isolated: bool) -> Resolved:
    """Settings from the defaults, the configuration file, the environment and the command line, the last word last.

    ``options`` has the configuration's keys; ``config`` names a file instead of the nearest, ``isolated`` reads none.
    """
    chosen = {"python": os.environ[PYTHON_VARIABLE]} if os.environ.get(PYTHON_VARIABLE) else {}
    source = None if isolated else config or nearest(common_directory(paths))
    root = os.path.dirname(os.path.abspath(source)) if source else os.getcwd()
    table = _table(source) if source else {}
    shown = _shown(source) if source else ""
    values = read_values(table or {}, root, shown)
    if "cache_dir" in values and "cache-dir" not in options:
        _check_within(values["cache_dir"], root, shown)
    values |= read_values(chosen, os.getcwd(), PYTHON_VARIABLE) | read_values(options, os.getcwd(), COMMAND_LINE)
    sources = dict.fromkeys(table or {}, shown) | dict.fromkeys(chosen, PYTHON_VARIABLE)
    sources |= dict.fromkeys(options, COMMAND_LINE)
    by_project = sources.get("python", COMMAND_LINE) not in (COMMAND_LINE, PYTHON_VARIABLE)
    return Resolved(Settings(root=root, python_by_project=by_project, **values), sources)


def _check_within(cache_dir: str, root: str, source: str) -> None:
    """Raise UserError for a place out of the project: what a project brings decides about nothing but itself."""
    from theria_lint.folders import is_within

    if not is_within(cache_dir, root):
        raise UserError(
            f"{source}: cache-dir leads out of the project, to {os.path.realpath(cache_dir)}; "
            "name such a folder on the command line, with --cache-dir."
        )


def common_directory(paths: Sequence[str]) -> str:
    """The deepest directory that holds all ``paths``; the working directory for none."""
    if not paths:
        return os.getcwd()
    absolute = [os.path.abspath(path) for path in paths]
    try:
        common = os.path.commonpath(absolute)
    except ValueError:  # on Windows: two drives
        return os.getcwd()
    return common if os.path.isdir(common) else os.path.dirname(common)


def nearest(directory: str) -> str | None:
    """The first configuration file upwards from ``directory``; of two in one directory, ``theria-lint.toml``.

    Raises UserError for one that is a link out of its folder: complaints would show what is in there.
    """
    while True:
        own = os.path.join(directory, OWN_FILE)
        if os.path.isfile(own):
            return _not_outside(own)
        shared = os.path.join(directory, SHARED_FILE)
        if os.path.isfile(shared) and _table(shared) is not None:
            return _not_outside(shared)
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def _not_outside(path: str) -> str:
    """The path of a file that nobody has named, if no link leads from it to somebody else's. Raises UserError."""
    folder = os.path.join(os.path.realpath(os.path.dirname(path)), "")
    if not os.path.realpath(path).startswith(folder):
        raise UserError(f"{_shown(path)}: is a link out of its folder; name the file with --config, or use --isolated.")
    return path


def _table(path: str) -> dict[str, Any] | None:
    """The linter's table of a file, None for a ``pyproject.toml`` without one."""
    try:
        data = read_up_to(_LARGEST, path, f"the {_LARGEST // 2**20} MB that a configuration may have.")
    except ReadError as error:
        raise UserError(f"{_shown(path)}: {error.message}") from None
    shared = os.path.basename(path) == SHARED_FILE
    if shared and b"theria-lint" not in data:
        return None
    document = _parse(path, data)
    tools = document.get("tool", {})
    table = (tools.get("theria-lint") if isinstance(tools, dict) else None) if shared else document
    if table is not None and not isinstance(table, dict):
        raise UserError(f"{_shown(path)}: [tool.theria-lint] must be a table.")
    return table


def _parse(path: str, data: bytes) -> dict[str, Any]:
    import tomllib  # most runs read no configuration

    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except ValueError as error:  # of the encoding, of TOML, or of a number that is too long
        raise UserError(f"{_shown(path)}: is not valid TOML: {error}.") from None
    except RecursionError:
        raise UserError(f"{_shown(path)}: is not valid TOML: it is nested too deeply.") from None


def _shown(path: str) -> str:
    return os.path.relpath(path).replace(os.sep, "/")


def show(resolved: Resolved) -> str:
    """The settings as TOML, each with the place it came from: what ``--show-settings`` prints."""
    lines = []
    for key in KEYS:
        value = getattr(resolved.settings, key.replace("-", "_"))
        value = dict(value) if key == "per-file-ignores" else value
        written = f"# {key} is not set" if value is None else f"{key} = {_toml(value)}"
        lines.append(f"{written}  # {resolved.sources.get(key, DEFAULT)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        import json  # a JSON string is a TOML string

        return json.dumps(value, ensure_ascii=False)
    return repr(value)
