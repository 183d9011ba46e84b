"""What is safe on the path of CPU tensors says so where the path of a GPU could not be run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.report.sentences import say
from theria_lint.worker import importer

SOURCE = """
import torch


def attention(q, k, v):
    if torch.cuda.is_available():
        raise RuntimeError("the kernel is missing")
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v
"""


def test_a_path_that_could_not_be_run_stands_in_the_reason(tmp_path: Path) -> None:
    result = target_of(confirm_source(tmp_path, SOURCE, device="cpu"), "attention")
    assert result.verdict == "safe"
    assert say(result.reason).startswith("on the CPU's path, all gradients")
    assert "the path of a GPU could not be run: " in say(result.reason)
    assert "the kernel is missing" in say(result.reason)


def test_a_file_that_wants_a_gpu_to_be_imported_has_a_stand_in(tmp_path):
    source = """import torch

if not torch.cuda.is_available():
    raise RuntimeError("this package requires a CUDA GPU but none was detected")

def attention(q, k, v):
    return torch.softmax(q @ k.mT, dim=-1) @ v
"""
    target = target_of(confirm_source(tmp_path, source, device="cpu"), "attention")
    assert target.verdict == "safe"
    assert any("torch.cuda.is_available() answering as on a GPU" in say(note) for note in target.runs[0].notes)


def test_a_file_that_cannot_be_imported_with_a_stand_in_either_says_what_it_missed_first(tmp_path):
    source = """import torch

if not torch.cuda.is_available():
    raise RuntimeError("this package requires a CUDA GPU")
raise ValueError("and more")

def attention(q, k, v):
    return q
"""
    target = target_of(confirm_source(tmp_path, source, device="cpu"), "attention")
    assert target.verdict == "inconclusive"
    assert "requires a CUDA GPU" in say(target.reason)


def test_a_package_that_cannot_be_imported_twice_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "once_only"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "kernels.py").write_text(
        "import sys\nif 'taken' in sys.modules:\n    raise ImportError('it is taken')\n"
        "sys.modules['taken'] = sys\ndef attention(q, k, v):\n    return q\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = importer.import_file(str(package / "kernels.py"))
    with pytest.raises(ImportError):
        importer.import_again(module.attention, "attention")
    assert sys.modules["once_only.kernels"] is module
    for name in ("taken", "once_only", "once_only.kernels"):
        del sys.modules[name]
