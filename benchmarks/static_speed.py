"""How fast the static stage is on real packages, beside ruff and TorchFix.

    python benchmarks/static_speed.py [--cache FOLDER] [--repeat N] [--without-torchfix]

Downloads the corpus once (wheels and source archives are unpacked, never installed), then runs, in turn:
theria-lint ``--no-confirm`` without and with its cache, ``ruff check --no-cache`` with default rules, and on a subset
TorchFix from an environment of its own. Prints a table; each time is the best of N runs, TorchFix's that of one.

All three are given the same folders and left at their defaults: ruff and TorchFix use every core, as theria-lint does,
and TorchFix parses only the files that say "torch".
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import venv
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Wheels where the package has them for every platform; source archives otherwise.
WHEELS = {
    "accelerate": "1.11.0",
    "diffusers": "0.35.2",
    "fla-core": "0.4.0",
    "liger-kernel": "0.6.3",
    "lightning": "2.5.6",
    "peft": "0.18.0",
    "sentence-transformers": "5.1.2",
    "timm": "1.0.22",
    "torch-geometric": "2.7.0",
    "torchao": "0.14.1",
    "torchtune": "0.6.1",
    "transformers": "4.57.1",
    "x-transformers": "2.11.12",
}
SOURCES = {"deepspeed": "0.18.2", "xformers": "0.0.33"}
SUBSET = ("fla-core", "liger-kernel", "x-transformers")
TORCHFIX = "torchfix==0.7.0"
ROOT = Path(__file__).resolve().parents[1]
PLAIN = "import os\n\n\ndef join(*parts):\n    return os.path.join(*parts)\n"


@dataclass(frozen=True)
class Measurement:
    """The best wall time of a command in seconds, and the most memory that its processes held at once, in MB."""

    seconds: float
    memory: float


def fetch(cache: Path) -> Path:
    """The folder of the unpacked corpus, one folder a package; downloads what is missing."""
    corpus = cache / "corpus"
    for name, version in (WHEELS | SOURCES).items():
        folder = corpus / f"{name}-{version}"
        if not folder.is_dir():
            print(f"fetching {name} {version}", file=sys.stderr)
            with tempfile.TemporaryDirectory() as downloads:
                unpack(download(name, version, Path(downloads)), folder)
    return corpus


def download(name: str, version: str, folder: Path) -> Path:
    """Download one archive without installing or building anything that a wheel does not need."""
    kind = ["--only-binary", ":all:"] if name in WHEELS else ["--no-binary", ":all:", "--no-build-isolation"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        *kind,
        "-d",
        str(folder),
        f"{name}=={version}",
    ]
    subprocess.run(command, check=False)
    archives = sorted(folder.iterdir())
    if not archives:
        raise SystemExit(f"{name} {version} could not be downloaded")
    return archives[0]


def unpack(archive: Path, folder: Path) -> None:
    """Write the Python files of an archive into ``folder``."""
    for name, data in python_files(archive):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def python_files(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The Python files of a wheel or source archive, by their paths in it."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist() if name.endswith(".py"))
        return
    with tarfile.open(archive) as source:
        for member in source:
            handle = source.extractfile(member) if member.isfile() and member.name.endswith(".py") else None
            if handle is not None and ".." not in Path(member.name).parts:
                yield member.name.lstrip("/"), handle.read()


def measure(command: Sequence[str | Path], repeat: int) -> Measurement:
    """Run a command ``repeat`` times."""
    runs = [run(command) for _ in range(repeat)]
    return Measurement(min(run.seconds for run in runs), max(run.memory for run in runs))


def run(command: Sequence[str | Path]) -> Measurement:
    """Run a command from the project's root, its output thrown away; its exit status says nothing about its speed."""
    start = time.perf_counter()
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    peak = [0.0]
    watcher = threading.Thread(target=watch, args=(process, peak), daemon=True)
    watcher.start()
    process.wait()
    seconds = time.perf_counter() - start
    watcher.join()
    return Measurement(seconds, peak[0])


def watch(process: subprocess.Popen[bytes], peak: list[float]) -> None:
    """Keep the highest sum of the proportional memory of a process and its children; Linux only, 0 elsewhere."""
    while process.poll() is None:
        peak[0] = max(peak[0], sum(map(memory, family(process.pid))))
        time.sleep(0.02)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        try:
            text = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
        except OSError:
            continue
        found += [int(child) for child in text.split()]
    return found


def memory(pid: int) -> float:
    """The proportional set size of a process in MB: memory that forked processes share counts once."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def torchfix(cache: Path) -> Path:
    """The TorchFix of an environment of its own, made when it is missing."""
    environment = cache / "torchfix"
    program = environment / "bin" / "torchfix"
    if not program.exists():
        venv.create(environment, with_pip=True)
        subprocess.run([environment / "bin" / "pip", "install", "-q", TORCHFIX], check=True)
    return program


def size_of(folders: Sequence[Path]) -> str:
    files = [path for folder in folders for path in folder.rglob("*.py")]
    lines = sum(path.read_bytes().count(b"\n") for path in files)
    return f"{len(files):,} files, {lines:,} lines"


def report(title: str, rows: dict[str, Measurement]) -> None:
    print(f"\n{title}")
    for name, measured in rows.items():
        print(f"  {name:<42} {measured.seconds:8.2f} s {measured.memory:7.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "theria-lint-benchmark"
    parser.add_argument("--cache", type=Path, default=default)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--without-torchfix", action="store_true")
    arguments = parser.parse_args()
    corpus = fetch(arguments.cache)
    lint = [sys.executable, "-m", "theria_lint", "--no-confirm", "--isolated", "--no-respect-gitignore"]
    ruff = ["ruff", "check", "--no-cache", "--isolated", "--exit-zero", "-q"]
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results"
        warm = [*lint, "--cache-dir", results, corpus]
        rows = {"theria-lint --no-confirm --no-cache": measure([*lint, "--no-cache", corpus], arguments.repeat)}
        run(warm)
        rows["theria-lint --no-confirm, warm cache"] = measure(warm, arguments.repeat)
        rows["ruff check --no-cache"] = measure([*ruff, corpus], arguments.repeat)
        report(f"Whole corpus: {size_of([corpus])}", rows)
        plain = Path(scratch) / "plain.py"
        plain.write_text(PLAIN, encoding="utf-8")
        single = {
            "theria-lint --no-confirm, one plain file": measure([*lint, "--no-cache", plain], 5 * arguments.repeat),
            'python -c "import click"': measure([sys.executable, "-c", "import click"], 5 * arguments.repeat),
        }
        report("One file without a suspect", single)
    if not arguments.without_torchfix:
        subset = [corpus / f"{name}-{WHEELS[name]}" for name in SUBSET]
        rows = {
            "theria-lint --no-confirm --no-cache": measure([*lint, "--no-cache", *subset], arguments.repeat),
            "TorchFix": measure([torchfix(arguments.cache), *subset], 1),
        }
        report(f"Subset ({', '.join(SUBSET)}): {size_of(subset)}", rows)


if __name__ == "__main__":
    main()
