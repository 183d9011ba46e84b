"""Whatever files, symbols and reasons are called: no output acts on a terminal or on the service that reads a log."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from tests.support.format_checks import check_junit, sarif_schema
from tests.support.lint_case import UNSAFE, Lint
from tests.support.sample_report import REPORT
from theria_lint.config import FORMATS
from theria_lint.model import STATES, Rewrite
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report import ReportView, render
from theria_lint.report.items import list_items
from theria_lint.report.patch import make_patch
from theria_lint.report.progress_line import ProgressLine
from theria_lint.result import LintReport

POISONS = {
    "a command to GitHub on a line of its own": "\n::error file=x::pwned",
    "the same after other ends of a line": "\r\n::error::a\r::error::b\x85::error::c\u2028::error::d\v::error::e",
    "a command to GitHub at the start": "::add-mask::pwned ",
    "an indented one": "\n \t ::stop-commands::pwned",
    "an old command to GitHub": "##[group]pwned",
    "a command to Azure Pipelines": "x ##vso[task.setvariable variable=PATH]pwned",
    "one hash more": "###[error]pwned",
    "a command to TeamCity": "##teamcity[buildStatus status='SUCCESS']",
    "a section of GitLab": "section_start:0:pwned[collapsed=true]\r\x1b[0K",
    "a colour": "\x1b[31m",
    "the title of a terminal": "\x1b]0;pwned\x07",
    "a sequence of one byte": "\x9b31m\x90pwned\x9c",
    "text the other way round": "\u202epwned\u2066\u200f\u061c",
    "what nothing can hold": "\x00\x08\x7f\udc80\ud800",
}
FIXED = {*STATES, "norm", "oracle_norm", "error", "warning", "note", "OK", "HARD_FAIL_OTHER"}
"""Words that come from us, or are checked where they come in."""


def poisoned(value: Any, poison: str) -> Any:
    """A report, or a part of one, in which every text begins with a poison."""
    if isinstance(value, Reason):  # the code and the names of its data are of ours: a worker can give no others
        return Reason(value.code, {name: poisoned(item, poison) for name, item in value.data.items()})
    if isinstance(value, Enum) or value is None:
        return value
    if isinstance(value, str):
        return value if value in FIXED or not value else poison + value  # a target as its defaults have it has no flag
    if is_dataclass(value):
        changed = {field.name: poisoned(getattr(value, field.name), poison) for field in fields(value)}
        return replace(value, **changed)  # type: ignore[type-var]
    if isinstance(value, dict):
        return {poisoned(key, poison): poisoned(item, poison) for key, item in value.items()}
    if hasattr(value, "_fields"):  # a named tuple
        return value._make(poisoned(item, poison) for item in value)
    if isinstance(value, tuple | frozenset):
        return type(value)(poisoned(item, poison) for item in value)
    return value


def with_rewrite(report: LintReport) -> LintReport:
    first = report.findings[0]
    old = report.sources[first.suspect.path, None]
    path = first.suspect.path
    rewrite = Rewrite("Attention", ((path, old.replace(".detach()", "")),))
    return report._replace(findings=(replace(first, rewrite=rewrite), *report.findings[1:]))


WHOLE = with_rewrite(
    REPORT._replace(
        protections={
            "files": None,
            "network": Reason(ReasonCode.SYSTEM_REFUSES, {"message": "this kernel is too old"}),
        },
    )
)
ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
COLOUR = re.compile(r"\033\[(?:1|3[1-6]|1;3[1-6]|0)m")


def check_inert(text: str, *, commands: int = 0) -> None:
    """Nothing in a text is active but so many workflow commands, which are ours."""
    text = text.encode("utf-8", "backslashreplace").decode()  # as it is printed
    assert ACTIVE.findall(text) == []
    assert re.findall(r"##\w*\[", text) == []
    ours = [line for line in text.split("\n") if re.match("::.*::", line.strip())]
    assert len(ours) == commands
    assert all(re.match("::(error|warning|notice) file=", line) for line in ours)


VIEWS = {
    "everything": ReportView(verbose=True, show_cleared=True),
    "narrow": ReportView(verbose=True, show_cleared=True, width=40),
    "in colour": ReportView(verbose=True, show_cleared=True, colour=True, width=100),
    "cleared": ReportView(show_cleared=True),
    "counts": ReportView(statistics=True),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_report_is_inert(name: str, poison: str, view: str) -> None:
    report = poisoned(WHOLE, POISONS[poison])
    text = render(report, name, VIEWS[view])
    if VIEWS[view].colour and name == "text":
        assert COLOUR.search(text)
        text = COLOUR.sub("", text)
    check_inert(text, commands=len(list_items(report, VIEWS[view])) if name == "github" else 0)
    if name in ("json", "gitlab"):
        json.loads(text)
    if name == "sarif":
        assert [error.message for error in sarif_schema().iter_errors(json.loads(text))] == []
    if name == "junit":
        check_junit(text)


@pytest.mark.parametrize("poison", POISONS)
def test_json_holds_the_texts_as_they_are(poison: str) -> None:
    document = json.loads(render(poisoned(WHOLE, POISONS[poison]), "json", ReportView()))
    plain = json.loads(render(WHOLE, "json", ReportView()))
    assert document["findings"][0]["path"] == POISONS[poison] + plain["findings"][0]["path"]
    assert document["findings"][0]["message"] == POISONS[poison] + plain["findings"][0]["message"]


@pytest.mark.parametrize("poison", POISONS)
def test_a_file_written_is_utf_8(lint: Lint, folder: Path, poison: str) -> None:
    from theria_lint.sources.atomic_write import write_text

    write_text(str(folder / "out"), POISONS[poison])
    (folder / "out").read_bytes().decode("utf-8")


KERNEL = """\
import torch


def attention(q, k, v):
    "%s"
    p = torch.softmax(q @ k.transpose(-1, -2), -1)
    return (p @ v).detach()
"""


@pytest.mark.parametrize("where", ["in a line beside", "in the changed line", "in the name"])
@pytest.mark.parametrize("poison", POISONS)
def test_a_patch_is_inert(folder: Path, poison: str, where: str) -> None:
    bad = POISONS[poison].encode("utf-8", "replace").decode()
    path = "kernel.py" if where != "in the name" else bad.replace("\0", "").replace("/", "") + "kernel.py"
    source = UNSAFE
    if where != "in the name":
        line = "    return (p @ v).detach()"
        source = UNSAFE.replace(
            line, f'    """\n{bad}\n"""\n{line}' if where == "in a line beside" else f"{line}  # {bad}"
        )
    source = source.replace("\r\n", "\n").replace("\r", "\n") if "\r" in source else source
    (folder / path).write_text(source, newline="")
    finding = replace(
        REPORT.findings[0],
        suspect=replace(REPORT.findings[0].suspect, path=path),
        rewrite=Rewrite("attention", ((path, source.replace(".detach()", "")),)),
    )
    text, left_out = make_patch(REPORT._replace(findings=(finding,), sources={(path, None): source}))
    check_inert(text.decode())
    assert bool(text) is not bool(left_out)


def test_a_patch_of_harmless_text_is_whole(folder: Path) -> None:
    source = UNSAFE.replace("    return", "    # ## [x], a::b, \t漢, Usage::\n    ::\n\f\n    return")
    (folder / "kernel.py").write_text(source)
    finding = replace(
        REPORT.findings[0],
        suspect=replace(REPORT.findings[0].suspect, path="kernel.py"),
        rewrite=Rewrite("attention", (("kernel.py", source.replace(".detach()", "")),)),
    )
    made, left_out = make_patch(REPORT._replace(findings=(finding,), sources={("kernel.py", None): source}))
    assert left_out == []
    assert "漢".encode() in made
    assert b"\n     ::\n" in made


NAMES = {name: poison for name, poison in POISONS.items() if "\0" not in poison and "/" not in poison}
RUNS: dict[str, tuple[str, ...]] = {
    **{name: ("--output-format", name, ".") for name in FORMATS},
    "verbose": ("--verbose", "."),
    "quiet": ("--quiet", "."),
    "a baseline": ("--write-baseline", "b.json", "."),
    "comments": ("--add-ignores", "."),
    "excluded": ("--exclude", "*.py", "FILE"),
    "no such file": ("FILE/absent.py",),
    "no such option": ("--FILE",),
    "no such configuration": ("--config", "FILE/x.toml"),
    "no such baseline": ("--baseline", "FILE.json"),
    "no such rule": ("--explain", "FILE"),
    "the settings": ("--show-settings", "--exclude", "FILE", "FILE"),
    "a cache that is none": ("--cache-dir", "FILE.d", "."),
    "a file that cannot be written": ("--output-file", "json:FILE.absent/x", "."),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("poison", NAMES)
def test_a_run_over_files_of_any_name_is_inert(lint: Lint, folder: Path, poison: str, run: str) -> None:
    name = f"{NAMES[poison]}x.py"
    (folder / name).write_text(UNSAFE)
    (folder / f"{NAMES[poison]}broken.py").write_text("import torch\ndef attention(q:\n  q.detach()\n")
    taken = folder / f"{name}.d" / "theria-lint-1"
    taken.mkdir(parents=True)
    (taken / "mine").touch()
    result = lint(*(argument.replace("FILE", name) for argument in RUNS[run]))
    assert result.exit_code in (0, 1, 2)
    assert not isinstance(result.exception, Exception)
    check_inert(result.stdout, commands=result.stdout.count("\n") if run == "github" else 0)
    check_inert(result.stderr)


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("poison", POISONS)
def test_an_internal_error_is_inert(
    lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch, poison: str, verbose: bool
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(POISONS[poison])

    monkeypatch.setattr("theria_lint.pipeline.lint_paths", fail)
    result = lint(*(["--verbose"] if verbose else []), ".")
    assert result.exit_code == 2
    assert ("Traceback" in result.stderr) is verbose
    assert "Error: internal error: RuntimeError: " in result.stderr
    check_inert(result.stderr)


@pytest.mark.parametrize("poison", POISONS)
def test_the_progress_line_is_one_line(poison: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", newline="")
    with ProgressLine(stream) as progress:
        progress(POISONS[poison], 1, 2)
    stream.seek(0)
    check_inert(stream.read().replace("\r", ""))


def run_to(
    stdout: str, folder: Path, *arguments: str, stderr: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    with Path(stdout).open("w") as stream:
        command = [sys.executable, "-m", "theria_lint", *arguments]
        return subprocess.run(command, stdout=stream, stderr=stderr, text=True, cwd=folder, check=False)


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
FULL = "Error: standard output cannot be written: No space left on device.\n"


@needs_full
@pytest.mark.parametrize(
    "arguments",
    [
        *(("--no-confirm", "--output-format", name, ".") for name in FORMATS),
        ("--no-confirm", "--write-baseline", "b.json", "."),
        ("--no-confirm", "--add-ignores", "."),
        ("--show-settings",),
        ("--list-rules",),
        ("--version",),
        ("--help",),
    ],
)
def test_a_full_disk_is_one_sentence(folder: Path, arguments: tuple[str, ...]) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    done = run_to("/dev/full", folder, *arguments)
    assert (done.returncode, done.stderr) == (2, FULL)


@needs_full
def test_a_full_disk_behind_standard_error_too(folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    with Path("/dev/full").open("w") as full:
        for stdout, arguments, code in (
            ("/dev/full", ("--no-confirm", "."), 2),
            (os.devnull, ("--no-confirm", "absent.py"), 2),
            (os.devnull, ("--bogus",), 2),
            (os.devnull, ("--no-confirm", "--exclude", "k*", "kernel.py"), 0),
        ):
            assert run_to(stdout, folder, *arguments, stderr=full.fileno()).returncode == code


Disk = Callable[[str], None]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can be renamed to its place any more, as where a disk is full."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("theria_lint.sources.atomic_write.os.replace", fail)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("--output-file", "json:r.json"), "r.json"),
        (("--output-file", "html:r.html"), "r.html"),
        (("--write-baseline", "b.json"), "b.json"),
        (("--add-ignores",), "kernel.py"),
    ],
)
def test_a_file_that_a_full_disk_cannot_hold_is_one_sentence(
    lint: Lint, folder: Path, arguments: tuple[str, ...], path: str
) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint("--no-cache", *arguments, "kernel.py")
    assert result.exit_code == 2
    assert result.stderr == f"Error: {path}: cannot be written: No space left on device.\n"
    assert sorted(found.name for found in folder.iterdir()) == ["kernel.py"]
    assert (folder / "kernel.py").read_text() == UNSAFE
