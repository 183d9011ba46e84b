"""Errors of ours carry a code with data all the way to the report, also through Triton's interpreter and a backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from theria.probes.measure import measure
from theria_lint.reasons import Ground, Reason, ReasonCode
from theria_lint.report.sentences import compose_message
from theria_lint.worker.failure_messages import explain_error
from theria_lint.worker.find_call.argument_values import NoSuchEntryError
from theria_lint.worker.library_messages import wants_gpu
from theria_lint.worker.triton_interpreter.externals import TritonGapError


class InterpreterError(Exception):
    """As Triton's interpreter names what it wraps the errors of a kernel in."""


def raise_in_interpreter() -> None:
    try:
        raise TritonGapError(ReasonCode.TRITON_GAP, "GPU", name="__nv_j0f")
    except TritonGapError as error:
        raise InterpreterError(repr(error)) from error


def test_what_the_interpreter_wraps_keeps_its_reason_and_what_helps() -> None:
    try:
        raise_in_interpreter()
    except InterpreterError as error:
        reason = explain_error(error)
    assert reason == Reason(ReasonCode.TRITON_GAP, {"name": "__nv_j0f"})
    message = compose_message(reason)
    assert message.head == "Triton's interpreter has no __nv_j0f"
    assert "--device cuda" in message.helps[0]


def test_an_error_of_the_target_is_told_as_it_was_raised() -> None:
    told = {"kind": "ValueError", "message": "no"}
    assert explain_error(ValueError("no")) == Reason(Ground.RAISED, told)
    wrapped = ValueError("no")
    wrapped.__cause__ = TritonGapError(ReasonCode.TRITON_GAP, "GPU", name="__nv_j0f")
    assert explain_error(wrapped) == Reason(Ground.RAISED, told)


def test_a_gap_of_the_interpreter_speaks_of_a_gpu() -> None:
    assert wants_gpu(TritonGapError(ReasonCode.TRITON_GAP, "GPU", name="f").about)


def test_a_made_up_configuration_that_lacks_an_entry_lacks_an_attribute() -> None:
    error = NoSuchEntryError("rope_theta")
    assert isinstance(error, AttributeError)
    assert error.about.startswith("AttributeError")
    assert compose_message(error.reason).head == "the configuration that was made up for it has no rope_theta"


class Gapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        return (q @ k.mT).softmax(-1) @ v

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        raise_in_interpreter()


def test_a_backward_that_meets_a_gap_says_which() -> None:
    inputs = {name: torch.randn(1, 2, 3, 4, dtype=torch.float64) for name in "qkv"}
    report = measure(Gapped.apply, inputs)
    assert report.why == Reason(
        Ground.BACKWARD_NOT_RUNNABLE, {"reason": Reason(ReasonCode.TRITON_GAP, {"name": "__nv_j0f"})}
    )
    message = compose_message(report.why)
    assert message.head == "its backward could not be run here: Triton's interpreter has no __nv_j0f"
    assert "--device cuda" in message.helps[0]
