"""``pytest --second-order``: measures every attention target that the tests called, when they have run.

Quiet unless asked: this module is imported by every pytest run, so what it needs is imported where it is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

_SPOOL_KEY = pytest.StashKey[str]()
_LINES_KEY = pytest.StashKey[list[str]]()
_PLAN_VARIABLE = "THERIA_LINT_RECORD"
_MARK = "first_order_only"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the configuration key."""
    group = parser.getgroup("theria-lint", "second derivatives of attention")
    group.addoption(
        "--second-order",
        action="store_true",
        help="Measure whether the attention that the tests call can be differentiated twice; fail if not.",
    )
    parser.addini("second_order_allow", "Attention that need not be safe: symbols or path:symbol.", type="args")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", f"{_MARK}: the attention that this test calls need not be safe at second order")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Record calls from before the first conftest, which may import what is tested."""
    if not early_config.known_args_namespace.second_order:
        return
    plan = os.environ.get(_PLAN_VARIABLE)
    if plan is None or not os.path.exists(plan):
        plan = _make_plan(early_config)
        os.environ[_PLAN_VARIABLE] = plan
    early_config.stash[_SPOOL_KEY] = os.path.dirname(plan)
    from theria_lint.calls.recorder import CallRecorder

    with open(plan, encoding="utf-8") as file:
        CallRecorder(json.load(file)).install()


def _make_plan(config: pytest.Config) -> str:
    from theria_lint.config import resolve_settings
    from theria_lint.errors import UserError
    from theria_lint.launch.record_command import find_targets, write_plan
    from theria_lint.report.sentences import describe_user_error

    root = str(config.rootpath)
    try:
        settings = resolve_settings((root,), {}, None, False).settings
        targets = find_targets((root,), settings)
    except UserError as error:
        raise pytest.UsageError(f"--second-order: {describe_user_error(error)}") from None
    spool = tempfile.mkdtemp(prefix="theria-lint-record-")
    return write_plan(spool, targets, settings)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note which tests are marked: where tests run in other processes, only those know."""
    spool = config.stash.get(_SPOOL_KEY, None)
    marked = [item.nodeid for item in items if item.get_closest_marker(_MARK)]
    if spool and marked:
        with open(os.path.join(spool, f"marked-{os.getpid()}"), "w", encoding="utf-8") as file:
            json.dump(marked, file)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Measure what was called; an unsafe target fails the run."""
    config = session.config
    spool = config.stash.get(_SPOOL_KEY, None)
    if spool is None or hasattr(config, "workerinput"):
        return
    os.environ.pop(_PLAN_VARIABLE, None)
    try:
        lines, failed = _measure_calls(config, spool)
    finally:
        shutil.rmtree(spool, ignore_errors=True)
    config.stash[_LINES_KEY] = lines
    if failed and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _measure_calls(config: pytest.Config, spool: str) -> tuple[list[str], bool]:
    """A line for each target that was called, and whether one of them is unsafe and not allowed to be."""
    from theria_lint.launch.record_command import find_recorded, keep_recorded
    from theria_lint.report.command_messages import NOTHING_RECORDED, describe_tested_target, say_nothing_measured

    root = str(config.rootpath)
    recorded = find_recorded(spool)
    folder = os.path.join(spool, "calls")
    keep_recorded(folder, recorded)
    if not recorded:
        return [NOTHING_RECORDED], False
    paths = sorted({os.path.join(root, path) for path, _ in recorded})
    command = [sys.executable, "-m", "theria_lint", "--python", sys.executable, "--calls", "recorded"]
    command += ["--calls-dir", folder, "--output-format", "json", *paths]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return [say_nothing_measured(done.stderr)], True
    marked = set(_read_marked(spool))
    allowed = set(config.getini("second_order_allow"))
    lines, failed = [], False
    for target in report["targets"]:
        key = os.path.relpath(os.path.join(root, target["path"]), root).replace(os.sep, "/"), target["symbol"]
        if key not in recorded:
            continue
        callers = list(dict.fromkeys(document["caller"] for _, document in recorded[key]))
        excused = bool({key[1], ":".join(key)} & allowed) or set(callers) <= marked
        unsafe = target["verdict"] not in ("safe", "inconclusive")
        failed = failed or (unsafe and not excused)
        lines.append(describe_tested_target(target, ":".join(key), callers[0], allowed=unsafe and excused))
    return lines, failed


def _read_marked(spool: str) -> Iterator[str]:
    for name in os.listdir(spool):
        if name.startswith("marked-"):
            with open(os.path.join(spool, name), encoding="utf-8") as file:
                yield from json.load(file)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the lines."""
    lines = config.stash.get(_LINES_KEY, None)
    if lines is not None:
        from theria_lint.report.command_messages import MEASURED_IN_TESTS

        terminalreporter.section(MEASURED_IN_TESTS)
        for line in lines:
            terminalreporter.line(line)
