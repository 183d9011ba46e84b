"""Fixes run beside the variants that confirm them where processes would idle, and are not run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.confirming import confirm_source
from theria_lint.confirm.runner import VariantBatch, VariantRunner

SOURCE = """
import torch.nn.functional as F


def attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v)
"""


@pytest.mark.parametrize(("width", "batches"), [(2, [1, 2]), (1, [1, 1, 1])])
def test_fixes_run_beside_the_clean_variants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, batches: list[int]
) -> None:
    seen: list[int] = []
    run = VariantRunner.run_batches

    def count_and_run(runner: VariantRunner, asked: list[VariantBatch]) -> object:
        seen.extend([len(asked)] if asked else [])
        return run(runner, asked)

    monkeypatch.setattr(VariantRunner, "run_batches", count_and_run)
    monkeypatch.setattr(VariantRunner, "width", width)
    (finding,) = confirm_source(tmp_path, SOURCE).findings
    assert finding.rewrite is not None
    assert seen == batches


def test_a_rewrite_that_fails_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> str:
        raise ValueError("no rewrite")

    monkeypatch.setattr("theria_lint.confirm.schedule.ablate_suspects", fail)
    monkeypatch.setattr(VariantRunner, "width", 8)
    (finding,) = confirm_source(tmp_path, SOURCE).findings
    assert finding.disposition == "unconfirmed"
