"""Recognise functions that take derivatives and use them: inner loops, energy descents, fast-weight memories."""

from __future__ import annotations

import ast

from theria_lint.static.scopes import Scope

GRADIENT_FUNCTIONS = frozenset(
    {
        "torch.autograd.grad",
        *(
            f"torch.func.{name}"
            for name in ("grad", "grad_and_value", "vjp", "jvp", "jacrev", "jacfwd", "hessian", "linearize")
        ),
        *(f"torch.autograd.functional.{name}" for name in ("jacobian", "hessian", "vjp", "jvp", "vhp", "hvp")),
    }
)
# The last words of these: what is imported by one.
GRADIENT_NAMES = frozenset(name.rpartition(".")[2] for name in GRADIENT_FUNCTIONS)
# Who steps an optimiser trains; nobody differentiates through that.
_TRAINING = frozenset({"step", "zero_grad"})


def takes_gradients(scope: Scope) -> bool:
    """Whether a function's own code differentiates something, and may return what comes of it."""
    if any(not GRADIENT_FUNCTIONS.isdisjoint(scope.names.resolve_node(n.func)) for n in scope.select_nodes(ast.Call)):
        return True
    called = {call.func.attr for call in scope.select_nodes(ast.Call) if isinstance(call.func, ast.Attribute)}
    return "backward" in called and called.isdisjoint(_TRAINING) and reads_gradient(scope)


def reads_gradient(scope: Scope) -> bool:
    """Whether a function reads the ``.grad`` of a tensor."""
    return any(node.attr == "grad" and isinstance(node.ctx, ast.Load) for node in scope.select_nodes(ast.Attribute))
