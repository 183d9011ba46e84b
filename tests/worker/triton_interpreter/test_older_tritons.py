"""What the interpreters of older Tritons hand on, put into the form that newer ones and NumPy want."""

from __future__ import annotations

import operator
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from theria_lint.worker.triton_interpreter import interpreter

tl = pytest.importorskip("triton.language")
TensorHandle = pytest.importorskip("triton.runtime.interpreter").TensorHandle


def test_a_scalar_that_is_an_array_of_one_number_counts_a_loop() -> None:
    class Tensor:
        handle = SimpleNamespace(data=np.array([3]))

    interpreter._wrap_patch_with_index(lambda tensor: None)(Tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # older NumPys only warn
        assert operator.index(Tensor()) == 3


@pytest.mark.parametrize(
    "mask", [np.array([True, False]), np.array([2, 0], dtype=np.int32)], ids=["boolean", "integer"]
)
@pytest.mark.parametrize("bare", [True, False])
def test_a_mask_may_be_a_bare_array(mask: np.ndarray, bare: bool) -> None:
    taken: list[Any] = []
    load = interpreter._wrap_access_for_boolean_mask(lambda builder, *args: taken.extend(args), 1, tl)
    pointers = TensorHandle(np.zeros(2, dtype=np.uint64), tl.pointer_type(tl.float32))
    load(None, pointers, mask if bare else TensorHandle(mask, tl.int32 if mask.dtype == np.int32 else tl.int1), None)
    assert taken[1].data.dtype == np.bool_
    assert taken[1].data.tolist() == [True, False]
