"""A report made by hand that holds one of everything, for the snapshots of the output formats."""

from __future__ import annotations

import math

from theria_lint.model import Disposition, Finding, Run, Span, Suspect, Target, TargetKind, TargetResult, Verdict
from theria_lint.reasons import Ground, Reason, ReasonCode
from theria_lint.result import Environment, LintError, LintReport

KERNEL = """\
import torch

class Attention(torch.nn.Module):
    def forward(self, q, k, v):
\twith torch.no_grad():
\t    p = torch.softmax(q @ k.mT, -1)
        return ("漢" and p @ v).detach()

    def mask(self, q):
        return q.detach()
"""
CELL = "def attention(q, k, v):\n    return q.data @ k.mT @ v\n"
REMEDY = "Use the tensor itself."


def _suspect(
    rule: str, name: str, severity: str, span: Span, symbol: str, path: str, cell: int | None = None
) -> Suspect:
    message = f"`{name}` in `{symbol}` cuts the graph: 100% of it, <all> & more"
    return Suspect(rule, name, severity, path, span, symbol, message, REMEDY, (span.line, span.end_line), None, cell)


def told(text: str) -> Reason:
    """A reason that is said in these words."""
    return Reason(Ground.RAISED, {"kind": text, "message": ""})


def _blocks(values: dict[str, tuple[float | None, float, float | None]]) -> dict[str, dict[str, float | None]]:
    return {key: {"norm": norm, "oracle_norm": true, "error": error} for key, (norm, true, error) in values.items()}


_COLLAPSED = Run(
    backend="triton",
    device="cuda:0 (NVIDIA H100)",
    dtype="float32",
    oracle="reference",
    status="OK",
    verdict=Verdict.SILENT_COLLAPSE,
    gradients={"q": 2.1e-7, "k": 3.4e-7, "v": 1.0e-7},
    blocks=_blocks(
        {
            "q,q": (None, 4.0, 1.0), "q,k": (0.0, 4.0, 1.0), "q,v": (None, 4.0, 1.0), "q,out": (3.9, 4.0, 2e-7),
            "k,q": (4.0, 4.0, 0.25), "k,k": (4.0, 4.0, 3e-2), "k,v": (4.0, 4.0, 5e-4), "k,out": (4.0, 4.0, 2e-6),
            "v,q": (4.0, 4.0, math.nan), "v,k": (4.0, 4.0, None), "v,v": (None, 0.0, 0.0),
            "v,out": (4.0, 4.0, math.inf),
        }
    ),
    states={
        "q": "right", "k": "right", "v": "right",
        "q,q": "missing", "q,k": "missing", "q,v": "missing", "q,out": "right",
        "k,q": "wrong", "k,k": "wrong", "k,v": "wrong", "k,out": "right",
        "v,q": "wrong", "v,k": "unclear", "v,v": "zero", "v,out": "wrong",
    },
    maml={
        "status": "OK", "rel_diff": 0.93, "meta_gradient_error": 0.41,
        "second_order_path_all": True, "second_order_path_any": True,
        "second_order_path_attn_all": False, "second_order_path_attn_any": True,
        "second_order_path_head_all": True, "second_order_path_head_any": True,
        "second_order_attn_inputs": ["k"], "outer_steps": 2, "inner_steps": 5,
        "oracle": "reference (float64)", "error": None,
    },
    notes=(told("the first order is right"),),
)  # fmt: skip
_RAISES = Run(
    "self",
    "cpu",
    "float64",
    "finite differences",
    "HARD_FAIL_OTHER",
    Verdict.FIRST_ORDER_ONLY,
    told("the second differentiation raises"),
    "RuntimeError: no second derivative",
)
_SAFE = Run("reference", "cpu", "float64", "reference", "OK", Verdict.SAFE)


def _target(path: str, line: int, symbol: str, kind: TargetKind, *reaches: str) -> Target:
    return Target(path, line, symbol, kind, frozenset(reaches))


REPORT = LintReport(
    environment=Environment("3.11.7", "2.13.0", None, "cuda:0"),
    files=5,
    findings=(
        Finding(
            _suspect("THL001", "no-grad", "error", Span(5, 7, 6, 37), "Attention.forward", "kernels/a b.py"),
            Disposition.CONFIRMED,
            Verdict.SILENT_COLLAPSE,
            told("with it 3 of 9 Hessian blocks are missing; without it, none (largest error 2.0e-07)"),
        ),
        Finding(
            _suspect("THL002", "detach", "warning", Span(7, 31, 7, 39), "Attention.forward", "kernels/a b.py"),
            Disposition.CONFIRMED,
            Verdict.SILENT_COLLAPSE,
            told("alone it is enough"),
        ),
        Finding(
            _suspect("THL002", "detach", "error", Span(10, 18, 10, 26), "Attention.mask", "kernels/a b.py"),
            Disposition.CLEARED,
            Verdict.SAFE,
            told("the target is safe with it"),
        ),
        Finding(
            _suspect("THL002", "detach", "error", Span(2, 13, 2, 17), "attention", "n.ipynb", 4),
            Disposition.UNCONFIRMED,
            None,
            told("not run: notebooks are checked statically only"),
        ),
    ),
    targets=(
        TargetResult(
            _target("kernels/a b.py", 3, "Attention", TargetKind.MODULE, "Attention.forward"),
            Verdict.SILENT_COLLAPSE,
            told("3 of 9 Hessian blocks are missing"),
            (_COLLAPSED, _SAFE),
        ),
        TargetResult(
            _target("kernels/b.py", 8, "flash", TargetKind.FUNCTION, "flash"),
            Verdict.FIRST_ORDER_ONLY,
            told("the second differentiation raises"),
            (_RAISES,),
        ),
        TargetResult(
            _target("kernels/b.py", 20, "wrap", TargetKind.WRAPPER, "wrap"),
            Verdict.SAFE,
            told("everything agrees"),
            (_SAFE,),
        ),
        TargetResult(
            _target("kernels/b.py", 30, "odd", TargetKind.AUTOGRAD_FUNCTION, "odd"),
            Verdict.INCONCLUSIVE,
            told("it takes an argument that is not known: name it in the configuration"),
        ),
    ),
    errors=(
        LintError("broken.py", 3, Reason(ReasonCode.NOT_PARSED, {"message": "invalid syntax"})),
        LintError("secret.py", None, Reason(ReasonCode.FILE_UNREADABLE, {"message": "Permission denied"})),
    ),
    notes=(told("a note"),),
    unused_ignores=(LintError("kernels/b.py", 2, Reason(ReasonCode.IGNORES_NOTHING, {"rule": None})),),
    ignored=2,
    baselined=1,
    sources={("kernels/a b.py", None): KERNEL, ("n.ipynb", 4): CELL},
)
EMPTY = LintReport(Environment(), 0, (), (), ())
