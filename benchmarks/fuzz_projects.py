"""Lint hostile projects: odd configuration, links, pipes, patterns and mutated sources, in random combinations.

    python -m benchmarks.fuzz_projects --seed 0 --count 1000

Each project lies beside a folder of somebody else's files, which must come out unchanged and unread, and offers
programs that leave a trace when they are run. Prints a line for each project that ended in a traceback, did not end,
changed or made a file, or showed or ran what it must not; the last line counts them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

PATIENCE = 60
"""Seconds after which a project is one that does not end."""
OWN_FOLDER = "theria-lint-1"
CANARY = "canary_of_somebody_else"
KERNEL = """import torch


def attention(q, k, v):
    p = torch.softmax(q @ k.transpose(-1, -2), -1)
    return (p @ v).detach()
"""
OUTSIDE = (
    "secret.py",
    "secret.toml",
    "secret.json",
    ".env",
    "static/kept.json",
    "dynamic/kept.json",
    "pkg/__init__.py",
)
NAMES = (
    "a.py",
    "b.py",
    "pkg/__init__.py",
    "pkg/c.py",
    "pkg/deep/d.py",
    "n.ipynb",
    ".hidden/e.py",
    "x/y/z.py",
    "odd\n.py",
)
KEYS = (
    *("select", "ignore", "per-file-ignores", "exclude", "respect-gitignore", "rule-paths", "detach-names", "confirm"),
    *(
        "python",
        "device",
        "timeout",
        "jobs",
        "fail-on",
        "baseline",
        "cache",
        "cache-dir",
        "output-format",
        "targets",
        "adapters",
    ),
    *("nothing", "Select", "", "python_by_project", "root"),
)
LIKELY = {
    "python": ('"./evil"', '".venv/bin/python"', '"python3"', '"link"'),
    "exclude": ('["*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"]', '["pkg/"]', '["**/a/**/b"]', "[]"),
    "adapters": ('["a.py"]', '["../outside/secret.py"]', '["leak.py"]', '[".hidden/e.py"]', '["x/link"]'),
    "rule-paths": ('["rules"]', '["../outside"]', '["link"]'),
    "baseline": ('"base.json"', '"../outside/secret.json"', '"pipe"'),
    "cache-dir": ('"kept"', '"../outside"', '"link"', '"../outside/static"', '"/"', '"pipe"', '"a.py"', '"pkg"'),
    "output-format": ('"json"', '"sarif"', '"html"', '"concise"'),
    "jobs": ("2", "0"),
    "detach-names": ('["a.b"]', "[]"),
    "per-file-ignores": ('{ "*a*a*a*a*a*a*a*a*a*b" = ["THL002"] }', '{ "pkg/*" = ["THL"] }'),
    "targets": ('[{ target = "a:attention", layout = "BHTD" }]',),
}
WORDS = (
    *("THL", "THL002", "*", "**/a/", "!", "[", "[a-", "a.py", "../outside/secret.toml", "../outside", "link", "~", "/"),
    *("pkg", ".env", "evil", ".venv/bin/python", "cpu", "concise", "json", "none", "a\\u0000b", "", "pipe", "python3"),
    *(
        "\\u001b[31m",
        "torch.detach",
        "rules",
        "base.json",
        "x" * 5000,
        "*a" * 14 + "*b",
        "**/" * 40 + "b",
        "..",
        "loop",
    ),
)
TOKENS = ("a", "b", ".py", "*", "**", "/", "**/", "?", "[", "]", "[!a", "\\", "!", "#", " ", "*a" * 14, "{", "\t", "é")
SECRETS = ("../outside/secret.py", "../outside/secret.py", "../../outside/secret.py", "../outside/secret.json")
LINKS = {
    **dict.fromkeys(("link", "leak.py", "pkg/link.py", "pkg/c2.py", "loop", ".gitignore", "rules/x"), 0.35),
    **dict.fromkeys(("base.json", "theria-lint.toml"), 0.06),
    **dict.fromkeys(("kept", f"kept/{OWN_FOLDER}", f"pkg/{OWN_FOLDER}", f"{OWN_FOLDER}/static"), 0.15),
}
PIPES = {
    **dict.fromkeys(("pipe", "pipe.py", "pkg/.gitignore", "rules/THL900-x/rule.toml"), 0.2),
    "theria-lint.toml": 0.02,
}
PIECES = (
    "(",
    ")",
    "[",
    "\\\n",
    '"""',
    "def ",
    "class ",
    "lambda ",
    "@",
    "#",
    "\0",
    "\f",
    "\r",
    "é",
    "    ",
    "q.detach()",
    "=",
)


def run_one(seed: int, place: Path) -> str | None:
    """Lint the project of a seed below ``place``; what went wrong, None for nothing."""
    return run_random(random.Random(seed), place)


def run_random(source: random.Random, place: Path) -> str | None:
    """Lint a project that ``source`` chooses; what went wrong, None for nothing."""
    project, outside = place / "project", place / "outside"
    for folder in (project, outside, place / "home"):
        folder.mkdir(parents=True)
    for name in OUTSIDE:
        _write(outside / name, f"# {CANARY}\n{KERNEL}" if name.endswith(".py") else f'{CANARY} = "{CANARY}"\n')
    arguments = _make(source, project)
    before = {**_state(outside), **_state(project)}
    output = place / "output"
    code = _in_process(lambda: _lint(arguments), project, output)
    said = output.read_text("utf-8", "backslashreplace")
    after = {**_state(outside), **_state(project)}
    kept = _list_kept(project, after)
    new = [path for path in after if path not in before and path not in kept]
    changed = [path for path, state in before.items() if after.get(path) != state]
    if code is None:
        return f"did not end in {PATIENCE} s"
    if code not in (0, 1, 2) or "Traceback" in said or "internal error" in said:
        return f"exit code {code}: {said.strip().splitlines()[-1:]}"
    if changed or new:
        return f"changed {changed[:3]}, made {new[:3]}"
    if CANARY in said:
        return "showed somebody else's file"
    return "ran a program of the project" if (place / "trace").exists() or "STARTED IN PROJECT" in said else None


def _make(source: random.Random, project: Path) -> list[str]:
    """Fills a project; returns the arguments to lint it with."""
    _write(project / "a.py", KERNEL)
    for name in source.sample(NAMES, source.randint(1, len(NAMES))):
        _write(project / name, _mutated(source, KERNEL))
    for name in ("evil", ".venv/bin/python", "pkg/python3"):
        if source.random() < 0.5:
            _write(project / name, f"#!/bin/sh\ntouch {project.parent}/trace\n")
            (project / name).chmod(0o755)
    if source.random() < 0.5:
        (project / ".venv/lib/python3/site-packages/torch").mkdir(parents=True, exist_ok=True)
    for name, share in LINKS.items():
        if source.random() < share:
            leads_to = source.choice(("/", "..", ".", "../outside", "a.py", "/dev/zero", name, *SECRETS))
            _link(project / name, leads_to)
    for name, share in PIPES.items():
        if source.random() < share and not os.path.lexists(project / name):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            os.mkfifo(project / name)
    for name in (".gitignore", "pkg/deep/.gitignore"):
        _write(project / name, "\n".join(_pattern(source) for _ in range(source.randint(0, 5))))
    table = "".join(f"{_key(key)} = {_value(source, key)}\n" for key in source.sample(KEYS, source.randint(0, 2)))
    own = source.random() < 0.7
    _write(project / ("theria-lint.toml" if own else "pyproject.toml"), ("" if own else "[tool.theria-lint]\n") + table)
    arguments = []
    if source.random() < 0.5:
        arguments.append("--no-cache")
    if source.random() < 0.5:
        arguments.append("--no-confirm")
    if source.random() < 0.3:
        arguments += ["--exclude", _pattern(source) or "a"]
    return [*arguments, *source.choice(((), (), (".",), ("pkg",), ("a.py",)))]


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() else f'"{key}"'


def _value(source: random.Random, key: str) -> str:
    """A value of a key in TOML: half the time of the type that it wants."""
    if source.random() < 0.7 and key in LIKELY:
        return source.choice(LIKELY[key])
    kind = source.randrange(9)
    if kind == 0:
        return source.choice(("true", "false", "0", "-1", "1e999", "nan", "9" * 30, "2020-01-01", "7"))
    if kind == 1:
        return "[" * 50 + "]" * 50
    if kind == 2:
        return "{ a = [1], target = 'a:b', kwargs = { x = nan } }"
    if kind in (3, 4):
        return f'"{source.choice(WORDS)}"'
    if key == "targets":
        return f'[{{ target = "{source.choice(WORDS)}:attention", skip = true }}]'
    if key == "per-file-ignores":
        return f'{{ "{source.choice(WORDS)}" = ["THL002"] }}'
    return "[" + ", ".join(f'"{source.choice(WORDS)}"' for _ in range(source.randint(0, 3))) + "]"


def _pattern(source: random.Random) -> str:
    return "".join(source.choice(TOKENS) for _ in range(source.randint(0, 12)))


def _mutated(source: random.Random, text: str) -> str:
    """A kernel with a few pieces put in, repeated or cut out."""
    for _ in range(source.randint(0, 4)):
        at = source.randint(0, len(text))
        piece = source.choice(PIECES) * source.choice((1, 1, 3, 200))
        text = text[:at] + piece + text[at + source.choice((0, 0, 5)) :]
    return text


def _write(path: Path, text: str) -> None:
    """Writes a file, unless what lies there already leads elsewhere."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path) and path.parent.resolve() == path.parent.absolute():
            path.write_text(text, "utf-8")


def _link(path: Path, target: str) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def _state(folder: Path) -> dict[str, tuple[int, int, str | bytes]]:
    """What lies in a folder: kinds, times, contents."""
    found: dict[str, tuple[int, int, str | bytes]] = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            status = path.lstat()
            regular = stat.S_ISREG(status.st_mode)
            content = path.read_bytes() if regular else str(path.readlink()) if path.is_symlink() else b""
            time_ = 0 if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
            found[str(path)] = (status.st_mode, time_, content)
    return found


def _list_kept(project: Path, paths: Iterable[str]) -> set[str]:
    """The folder of results that a project may name within itself, what is in it, and the folders on the way to it."""
    start = len(project.parts)
    inside = (Path(path) for path in paths if path.startswith(f"{project}/"))
    found = [path for path in inside if OWN_FOLDER in path.parts[start:]]
    return {str(part) for path in found for part in (path, *path.parents) if len(part.parts) > start}


def _in_process(action: Callable[[], int], folder: Path, output: Path) -> int | None:
    """The exit code of an action in a process of its own; None if it did not end."""
    pid = os.fork()
    if pid == 0:
        _act(action, folder, output)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _act(action: Callable[[], int], folder: Path, output: Path) -> NoReturn:
    code = 99
    try:
        os.chdir(folder)
        home = str(folder.parent / "home")
        os.environ.update(HOME=home, XDG_CACHE_HOME=home, XDG_CONFIG_HOME=home)
        for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "THERIA_LINT_PYTHON"):
            os.environ.pop(name, None)
        stream = io.TextIOWrapper(output.open("wb"), "utf-8", errors="backslashreplace")
        sys.stdout = sys.stderr = stream
        try:
            code = action()
        except BaseException:
            traceback.print_exc(file=stream)
        stream.flush()
    finally:
        os._exit(code)


def _lint(arguments: list[str]) -> int:
    """The command line with a dynamic stage that only says which interpreter it would start."""
    import importlib.util

    from theria_lint.cli import run_command_line
    from theria_lint.confirm import confirm as stage_module
    from theria_lint.confirm.confirm import Confirmation, ConfirmSettings
    from theria_lint.result import Environment

    def confirm(files: Any, settings: ConfirmSettings, progress: object = None) -> Confirmation:
        if os.path.realpath(settings.python) != os.path.realpath(sys.executable):
            print("STARTED IN PROJECT", settings.python)
        return Confirmation((), (), Environment())

    stage_module.confirm_suspects = confirm
    importlib.util.find_spec = lambda name, package=None: None  # as where pipx or pre-commit have installed it
    try:
        run_command_line.main(arguments, prog_name="theria-lint", standalone_mode=True)
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def run_many(seed: int, count: int) -> Iterator[tuple[int, str]]:
    """The seeds whose projects went wrong, each with what did."""
    for number in range(seed, seed + count):
        with tempfile.TemporaryDirectory() as place:
            wrong = run_one(number, Path(place).resolve())
        if wrong is not None:
            yield number, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    failures = 0
    for number, wrong in run_many(options.seed, options.count):
        failures += 1
        print(f"seed {number}: {wrong}", flush=True)
    print(f"{options.count} projects, {failures} failures")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
