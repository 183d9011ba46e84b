"""THL003: ``@once_differentiable``, and the backward that it guards."""

from __future__ import annotations

from collections.abc import Iterator

from theria_lint.rules.loader import Rule
from theria_lint.static.detectors import listed_names
from theria_lint.static.detectors.opaque_backward import find_first_opaque
from theria_lint.static.module_view import Hit, ModuleView


def find_once_differentiable(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """The listed decorators; ``variant`` is "opaque" on a backward that computes its gradients off the graph."""
    for hit in listed_names.find_listed_names(code, rule):
        guarded = find_first_opaque(code, hit.scope)
        if guarded is None:
            yield hit
        else:
            where = f"`{guarded.token}`, line {guarded.span.line}{hit.detail}"
            yield Hit(hit.node, hit.span, hit.token, hit.scope, hit.reach, hit.neutraliser, "opaque", where)
