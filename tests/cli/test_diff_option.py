"""``--diff``: a patch that applies, makes its targets safe, and leaves the user's files alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = "import math\n\nimport torch\n\n\n"

FILES: dict[str, bytes] = {
    # CRLF, and a block to take apart
    "crlf.py": (
        HEAD + "def attention(q, k, v):\n    # the weights\n    with torch.no_grad():  # cheap\n"
        "        logits = q @ k.mT\n        weights = torch.softmax(logits, -1)\n    return weights @ v\n"
    )
    .replace("\n", "\r\n")
    .encode(),
    # no line end at the end of the file
    "no_end.py": (
        HEAD + "def attention(q, k, v):\n    return (torch.softmax(q @ k.transpose(-1, -2), -1) @ v).detach()"
    ).encode(),
    # an encoding of its own
    "latin.py": (
        "# coding: latin-1\n"
        + HEAD
        + "def attention(q, k, v):\n    weights = torch.softmax(q @ k.transpose(-1, -2), -1)\n"
        "    return weights.detach() @ v  # à la façon\n"
    ).encode("latin-1"),
    # a suspect in another file of the package, and one here
    "pkg/__init__.py": b"",
    "pkg/helpers.py": (
        HEAD + "def attention_logits(q, k):\n    return (q @ k.transpose(-1, -2)).detach() / math.sqrt(q.shape[-1])\n"
    ).encode(),
    "pkg/api.py": (
        b"import torch\n\nfrom .helpers import attention_logits\n\n\ndef attention(q, k, v):\n"
        b"    return torch.softmax(attention_logits(q, k), -1).detach() @ v\n"
    ),
    # the row max may stay detached
    "row max.py": (
        HEAD + "def attention(q, k, v):\n    logits = q @ k.transpose(-1, -2)\n"
        "    weights = (logits - logits.amax(-1, keepdim=True).detach()).exp()\n"
        "    return weights @ v / weights.sum(-1, keepdim=True).detach()\n"
    ).encode(),
    # two targets that share one suspect, each with one of its own
    "shared.py": (
        HEAD + "def _attention(q, k, v):\n    return torch.softmax(q @ k.transpose(-1, -2), -1).detach() @ v\n\n\n"
        "def attention(q, k, v):\n    return _attention(q, k.detach(), v)\n\n\n"
        "@torch.no_grad()\ndef causal_attention(q, k, v):\n    return _attention(q, k, v)\n"
    ).encode(),
    # a rewrite that needs an import, above a byte order mark
    "fused.py": (
        b"\xef\xbb\xbfimport torch.nn.functional as F\n\n\n"
        b"def attention(q, k, v):\n    return F.scaled_dot_product_attention(q, k, v)\n"
    ),
}


def lint(folder: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "theria_lint", "--isolated", "--no-cache", *options, "."]
    root = str(Path(__file__).parents[2])
    return subprocess.run(command, cwd=folder, capture_output=True, env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"})


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for name, data in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def printed(project):
    return lint(project, "--diff", "--output-file", f"json:{project.parent / 'report.json'}")


def test_the_users_files_are_as_they_were(project, printed):
    assert files(project) == FILES


def test_the_exit_code_and_the_note_are_those_of_the_findings(printed):
    assert printed.returncode == 1
    assert printed.stderr.endswith(
        b"10 of 10 confirmed findings have a rewrite that was verified; no file was changed.\n"
    ), printed.stderr


@pytest.mark.parametrize("program", [["git", "apply", "-"], ["patch", "-p1", "-f"]], ids=["git", "patch"])
def test_the_patch_applies_and_makes_everything_safe(project, printed, program, tmp_path):
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    done = subprocess.run(program, cwd=copy, input=printed.stdout, capture_output=True)
    assert done.returncode == 0, done
    assert not list(copy.rglob("*.rej"))
    if program[0] == "git":  # the other wrote the same
        report = json.loads(lint(copy, "--output-format", "json").stdout)
        verdicts = {(target["path"], target["symbol"]): target["verdict"] for target in report["targets"]}
        assert set(verdicts.values()) == {"safe"}, verdicts
    else:
        subprocess.run(["git", "apply", "-"], cwd=shutil.copytree(project, tmp_path / "other"), input=printed.stdout)
        assert files(tmp_path / "other") == files(copy)


def test_what_is_printed_is_minimal_and_looks_like_its_file(printed):
    added = [line for line in printed.stdout.split(b"\n") if line.startswith(b"+") and not line.startswith(b"+++")]
    expected = [
        b"+    # cheap\r",
        b"+    logits = q @ k.mT\r",
        b"+    weights = torch.softmax(logits, -1)\r",
        b"+\xef\xbb\xbffrom torch.nn.attention import SDPBackend, sdpa_kernel",
        b"+import torch.nn.functional as F",
        b"+    return sdpa_kernel(SDPBackend.MATH)(F.scaled_dot_product_attention)(q, k, v)",
        b"+    return torch.softmax(attention_logits(q, k), -1) @ v",
        b"+    return (q @ k.transpose(-1, -2)) / math.sqrt(q.shape[-1])",
        b"+    return torch.softmax(q @ k.transpose(-1, -2), -1) @ v",
        b"+    return _attention(q, k, v)",
        "+    return weights @ v  # à la façon".encode("latin-1"),
        b"+    return (torch.softmax(q @ k.transpose(-1, -2), -1) @ v)",
        b"+    return weights @ v / weights.sum(-1, keepdim=True)",
    ]
    assert sorted(added) == sorted(expected)


def test_each_finding_carries_its_own_rewrite(project, printed):
    report = json.loads((project.parent / "report.json").read_text())
    found = {(f["path"], f["line"]): f["rewrite"] and f["rewrite"]["symbol"] for f in report["findings"]}
    row_max = {line: symbol for (path, line), symbol in found.items() if path == "row max.py"}
    assert list(row_max.values()) == [None, "attention"]
    shared = {line: symbol for (path, line), symbol in found.items() if path == "shared.py"}
    assert list(shared.values()) == ["_attention", "attention", "causal_attention"]


def test_nothing_to_rewrite_prints_nothing(tmp_path):
    (tmp_path / "safe.py").write_text(HEAD + "def attention(q, k, v):\n    return q @ k.mT @ v\n")
    done = lint(tmp_path, "--diff")
    assert (done.returncode, done.stdout) == (0, b"")
