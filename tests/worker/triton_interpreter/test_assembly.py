"""PTX assembly by NumPy: what kernels use, against the functions that it stands for; anything else is refused."""

from __future__ import annotations

import numpy as np
import pytest

from theria_lint.worker.triton_interpreter.ptx import UnknownAssemblyError, evaluate_assembly

X = np.array([-30.0, -1.5, 0.25, 3.0, 40.0], dtype=np.float32)
Y = np.array([2.0, 0.5, 1.0, -1.0, 4.0], dtype=np.float32)

SOFTPLUS = """{
    .reg .pred p;
    setp.gt.f32 p, $1, 15.;            // the logarithm would overflow
    @p  mov.f32 $0, $1;
    @!p ex2.approx.ftz.f32 $0, $1;
    @!p add.f32 $0, $0, 1.0;
    @!p lg2.approx.ftz.f32 $0, $0;
}"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SOFTPLUS, np.log2(1 + np.exp2(X))),
        ("tanh.approx.f32 $0, $1;", np.tanh(X)),
        ("fma.rn.f32 $0, $1, $2, 0f3F800000;", X * Y + 1),
        ("{ .reg .f32 t; mul.f32 t, $1, $2; sub.ftz.f32 $0, t, $1; }", X * Y - X),
        ("mov.b32 $0, $1;", X),
    ],
)
def test_known_assembly(text: str, expected: np.ndarray) -> None:
    np.testing.assert_allclose(evaluate_assembly(text, [X, Y]), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "tanh.approx.bf16 $0, $1;",
        "ld.global.f32 $0, [$1];",
        "cvt.rna.tf32.f32 $0, $1;",
        "add.f32 $0, $1, $3;",
        "add.s32 $0, $1, $2;",
        "setp.gt.f32 p, $1, 0.0;",
        "loop: add.f32 $0, $1, $1;",
        "add.rz.f32 $0, $1, $2;",
    ],
)
def test_unknown_assembly_is_refused(text: str) -> None:
    with pytest.raises(UnknownAssemblyError):
        evaluate_assembly(text, [X, Y])
