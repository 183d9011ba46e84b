"""Compiled kernels multiply float32 numbers precisely enough for finite differences, unless the user has said how."""

from __future__ import annotations

import os

import pytest
import torch

from theria_lint.worker.triton_interpreter import launching


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing of products, and is put back with what is set in it."""
    monkeypatch.setenv("TRITON_F32_DEFAULT", "")  # so that it is put back
    monkeypatch.delenv("TRITON_F32_DEFAULT")
    return monkeypatch


def test_products_are_precise_where_nobody_says_else(environment: pytest.MonkeyPatch) -> None:
    assert launching.raise_float32_precision()
    assert os.environ["TRITON_F32_DEFAULT"] == "tf32x3"


def test_the_users_choice_stays(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TRITON_F32_DEFAULT", "ieee")
    assert not launching.raise_float32_precision()
    assert os.environ["TRITON_F32_DEFAULT"] == "ieee"


def test_gpus_of_amd_know_no_such_products(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(torch.version, "hip", "6.3")
    assert not launching.raise_float32_precision()
    assert "TRITON_F32_DEFAULT" not in os.environ
