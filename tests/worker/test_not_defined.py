"""A target that its module does not define here says so."""

from __future__ import annotations

from types import ModuleType

import pytest

from theria_lint.confirm.protocol import Job
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.worker.failure_messages import NotDefinedError, explain_failed_probe
from theria_lint.worker.importer import resolve_symbol


def test_a_target_in_a_branch_that_is_not_taken_says_so():
    with pytest.raises(NotDefinedError) as caught:
        resolve_symbol(ModuleType("kernels"), "triton_attention")
    reason = explain_failed_probe(caught.value, Job(0, "kernels.py", (), {}, (), "cpu", 1.0, 1 << 30))
    assert reason == Reason(ReasonCode.NOT_DEFINED, {"symbol": "triton_attention"})
