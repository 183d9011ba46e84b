"""The command line of ``theria-lint record``: run the user's command, keep how it calls the targets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any

import click

from theria_lint.calls.call_file import MOST_CALLS, BadCallError, check_document, name_target_folder
from theria_lint.config import CALLS_DIR, Settings, resolve_settings
from theria_lint.confirm.protocol import read_reason
from theria_lint.errors import ReadError, UserError
from theria_lint.reasons import Reason
from theria_lint.report.command_messages import say_kept_calls, say_lost_call, say_never_called
from theria_lint.report.sentences import describe_user_error
from theria_lint.report.style import escape_unprintable, inert
from theria_lint.sources.atomic_write import write_atomically
from theria_lint.sources.discovery import discover_files
from theria_lint.sources.owned_folder import is_within
from theria_lint.sources.source_text import decode_source, may_hold_targets, read_bytes
from theria_lint.static.owners import add_owners
from theria_lint.static.scan_files import scan_files
from theria_lint.static.targets import find_closures

SITE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "calls", "site")
PLAN_VARIABLE = "THERIA_LINT_RECORD"

WRONG_USE = 2

Table = dict[tuple[str, str], str]
"""The kind of each target, by the path of its file and its symbol."""


def run_record_command(
    arguments: Sequence[str], prog_name: str = "theria-lint record", complete_var: str | None = None
) -> None:
    """Run ``theria-lint record``; exits with the command's own exit code, or 2 where nothing was run.

    Where the variable of the environment that is named has a shell's question, that is answered, and nothing is run.
    """
    own, command = _split(arguments)
    parsed: dict[str, Any] = {}

    @click.command(context_settings={"help_option_names": ["-h", "--help"]})
    @click.argument("paths", nargs=-1)
    @click.option("--calls-dir", metavar="DIR", help=f"Where calls are kept; {CALLS_DIR} in the project by default.")
    @click.option("--config", metavar="FILE", help="This configuration file instead of the nearest.")
    def record(**options: Any) -> None:
        """Run COMMAND with your interpreter and keep how it calls the attention in PATHS, for the linter to call it so.

        Usage: theria-lint record [PATHS] -- COMMAND, for example: theria-lint record src -- pytest tests. Without PATHS
        the working directory is looked through. Calls are data that execute nothing: commit them. The exit code is that
        of COMMAND. To lint a folder that is called record, write ./record.
        """
        parsed.update(options)

    try:
        record.main(list(own), prog_name=prog_name, complete_var=complete_var, standalone_mode=False)
        if not parsed:
            sys.exit(0)  # --help
        sys.exit(_record(parsed, command))
    except click.ClickException as error:
        _fail(error.format_message())
    except UserError as error:
        _fail(describe_user_error(error))


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """What is ours, and the command after the first ``--``."""
    given = list(arguments)
    if "--" not in given:
        return given, ()
    place = given.index("--")
    return given[:place], given[place + 1 :]


def _fail(message: str) -> None:
    _say(f"Error: {message}")
    sys.exit(WRONG_USE)


def _say(line: str) -> None:
    click.echo(inert(escape_unprintable(line)), err=True)


def _record(options: Mapping[str, Any], command: Sequence[str]) -> int:
    """Find the targets, run the command, keep its calls; returns the command's exit code. Raises UserError."""
    if not command:
        raise UserError("no command: write theria-lint record [PATHS] -- COMMAND, for example -- pytest tests.")
    paths = options["paths"] or (".",)
    given = {} if options["calls_dir"] is None else {"calls-dir": options["calls_dir"]}
    settings = resolve_settings(paths, given, options["config"], False).settings
    targets = find_targets(paths, settings)
    if not targets:
        raise UserError("there is no attention to record in " + ", ".join(paths) + ".")
    folder = settings.calls_dir or os.path.join(settings.root, CALLS_DIR)
    if settings.calls_dir is None and not is_within(folder, settings.root):
        place = os.path.realpath(folder)
        raise UserError(f"{CALLS_DIR} leads out of the project, to {place}; name such a place with --calls-dir.")
    _check_writable(folder)
    with tempfile.TemporaryDirectory(prefix="theria-lint-record-") as spool:
        code = _run(command, write_plan(spool, targets, settings))
        recorded = find_recorded(spool)
        keep_recorded(folder, recorded)
        _tell(recorded, _find_losses(spool), targets, folder)
    return code


def find_targets(paths: Sequence[str], settings: Settings) -> Table:
    """The targets below some paths, by the path of their file from the project's root. Raises UserError."""
    found = discover_files(paths, settings, {})
    scanned = add_owners(scan_files(found.files, settings, {}), found.files, settings)
    targets: Table = {}
    for item in scanned:
        for target in item.targets:
            targets[_name_file(target.path, settings), target.symbol] = str(target.kind)
    for path in found.files:
        targets |= {(_name_file(path, settings), symbol): "function" for symbol in _find_closures(path)}
    return targets


def _name_file(path: str, settings: Settings) -> str:
    return os.path.relpath(os.path.abspath(path), settings.root).replace(os.sep, "/")


def _find_closures(path: str) -> list[str]:
    """The symbols of attention that functions of a file return, if it can be read."""
    try:
        data = read_bytes(path) if path.endswith(".py") else b""
        return find_closures(decode_source(data)) if may_hold_targets(data) else []
    except (ReadError, SyntaxError, ValueError, RecursionError):  # the scan has said so
        return []


def _check_writable(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder}: calls cannot be kept there: {error.strerror or error}.") from None


def write_plan(spool: str, targets: Table, settings: Settings) -> str:
    """Write what the recorder needs to know into a folder; returns the file."""
    by_path: dict[str, dict[str, str]] = {}
    names = {}
    for (name, symbol), kind in targets.items():
        path = os.path.realpath(os.path.join(settings.root, name))
        by_path.setdefault(path, {})[symbol] = kind
        names[path] = name
    plan = os.path.join(spool, "plan")
    with open(plan, "w", encoding="utf-8") as file:
        json.dump({"targets": by_path, "names": names, "spool": spool}, file)
    return plan


def _run(command: Sequence[str], plan: str) -> int:
    own = os.environ.get("PYTHONPATH")
    outer = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    environment = {**outer, PLAN_VARIABLE: plan, "PYTHONPATH": os.pathsep.join([SITE, *([own] if own else [])])}
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run: {error.strerror or error}.") from None
    # What a limit of time ends is the command: what it has called by then is kept.
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
        return code if code >= 0 else 128 - code  # as a shell tells that a signal ended it
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt):  # it has heard it too; the second time it is ended
            process.wait()
        process.kill()
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


Recorded = dict[tuple[str, str], list[tuple[str, dict[str, Any]]]]
"""The recorded calls of each target: where each is kept, and its document."""


def find_recorded(spool: str) -> Recorded:
    """What was recorded into a folder, by the path and symbol of the target: first a call of each way to build it."""
    found: Recorded = {}
    for name in sorted(os.listdir(spool)):
        path = os.path.join(spool, name)
        document = _read_document(path) if name.endswith(".json") else None
        if document is not None:
            found.setdefault((document["path"], document["symbol"]), []).append((path, document))
    return {key: _take_turns(calls) for key, calls in found.items()}


def _take_turns(calls: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """The calls in another order: of each way to build the target one, then of each another, and so on."""
    builds: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for path, document in calls:
        builds.setdefault(os.path.basename(path).split("-")[1], []).append((path, document))
    return [call for turn in zip_longest(*builds.values()) for call in turn if call is not None]


def _find_losses(spool: str) -> dict[tuple[str, str], Reason]:
    """Why calls could not be kept, by the path and symbol of the target."""
    lost = {}
    for name in sorted(os.listdir(spool)):
        if name.endswith(".lost"):
            with open(os.path.join(spool, name), encoding="utf-8") as file:
                told = json.load(file)
            lost[told["path"], told["symbol"]] = read_reason(told["lost"])
    return lost


def keep_recorded(folder: str, recorded: Recorded) -> None:
    """Copy calls into a folder of calls, in the place of what was there for the same targets. Raises UserError."""
    for key, found in recorded.items():
        _keep(name_target_folder(folder, *key), found[:MOST_CALLS])


def _read_document(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        check_document(document)
    except (OSError, ValueError, BadCallError):
        return None
    return document if isinstance(document, dict) else None


def _keep(place: str, found: Sequence[tuple[str, dict[str, Any]]]) -> None:
    try:
        os.makedirs(place, exist_ok=True)
        for number in range(1, MOST_CALLS + 1):
            source = found[number - 1][0].removesuffix(".json") if number <= len(found) else ""
            for suffix in (".json", ".safetensors"):
                _replace_file(source + suffix, os.path.join(place, f"{number}{suffix}"))
    except OSError as error:
        raise UserError(f"{place}: calls cannot be kept there: {error.strerror or error}.") from None


def _replace_file(source: str, goal: str) -> None:
    """Put a copy of a file in the place of another, or nothing where there is none."""
    if os.path.isfile(source):
        with open(source, "rb") as file:
            write_atomically(goal, file.read())
    elif os.path.isfile(goal):
        os.unlink(goal)


def _tell(kept: Recorded, lost: Mapping[tuple[str, str], Reason], targets: Table, folder: str) -> None:
    """What came of it, on standard error: the command's own output is the command's."""
    calls = sum(min(len(found), MOST_CALLS) for found in kept.values())
    _say(say_kept_calls(calls, len(kept), len(targets), folder))
    for key, why in lost.items():
        if key not in kept:
            _say(say_lost_call(key[1], key[0], why))
    silent = [f"{key[1]} ({key[0]})" for key in targets if key not in kept and key not in lost]
    if silent:
        _say(say_never_called(silent))
