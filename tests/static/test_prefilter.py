"""The prefilter loses nothing: on real packages it finds what parsing every file in whole finds."""

from __future__ import annotations

import importlib.util
import os
import random
from pathlib import Path

import pytest

from theria_lint.static import SourceError, load_rules, may_hold_suspects, scan

RULES = load_rules()
SAMPLE = 150
# What benchmarks/static_speed.py has downloaded, when it has run; PyTorch's own sources otherwise.
CORPUS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "theria-lint-benchmark" / "corpus"


def sources() -> list[Path]:
    if CORPUS.is_dir():
        paths = sorted(CORPUS.rglob("*.py"))
    else:
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.origin is None:
            pytest.skip("neither the benchmark's corpus nor torch is here")
        paths = sorted(Path(spec.origin).parent.rglob("*.py"))
    telling = [path for path in paths if b"ttention" in path.read_bytes()]
    return random.Random(0).sample(telling, min(SAMPLE, len(telling)))


def test_the_prefilter_loses_nothing_on_a_sample_of_real_code() -> None:
    found = 0
    for path in sources():
        data = path.read_bytes()
        try:
            source = data.decode()
            whole = scan(str(path), source, RULES, prefilter=False)
        except (UnicodeDecodeError, SourceError):
            continue
        assert scan(str(path), source, RULES) == whole, path
        assert may_hold_suspects(data, RULES) or not whole, path
        found += len(whole)
    assert found >= 20
