"""Scan one source text: prefilter, parse, run the detectors, return the suspects."""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

from theria_lint.errors import SourceError
from theria_lint.model import ELSEWHERE, Span, Suspect
from theria_lint.rules.loader import Rule, RuleSet
from theria_lint.sources.source_text import TENSOR_WORDS, parse_python
from theria_lint.static.bound_names import get_targets
from theria_lint.static.dataflow import iter_target_names
from theria_lint.static.detectors import (
    changed_gradient,
    compiled_attention,
    dropped_gradient,
    fused_attention,
    graph_escape,
    hook_cut,
    inner_grad,
    listed_names,
    new_parameter,
    once_differentiable,
    opaque_backward,
    saved_intermediate,
    straight_through,
)
from theria_lint.static.harmless import find_harm
from theria_lint.static.module_view import Hit, ModuleView, get_body_lines
from theria_lint.static.prefilter import reduce_source
from theria_lint.static.scopes import Scope

Detector = Callable[[ModuleView, Rule], Iterator[Hit]]

DETECTORS: Mapping[str, Detector] = {
    "names": listed_names.find_listed_names,
    "once-differentiable": once_differentiable.find_once_differentiable,
    "opaque-backward": opaque_backward.find_opaque_backwards,
    "saved-intermediate": saved_intermediate.find_saved_intermediates,
    "inner-grad": inner_grad.find_inner_gradients,
    "checkpoint": fused_attention.find_checkpoints,
    "fused": fused_attention.find_fused_calls,
    "compile": compiled_attention.find_compiled_attention,
    "graph-escape": graph_escape.find_graph_escapes,
    "hook": hook_cut.find_hook_cuts,
    "straight-through": straight_through.find_straight_through,
    "new-parameter": new_parameter.find_new_parameters,
    "changed-gradient": changed_gradient.find_changed_gradients,
    "dropped-gradient": dropped_gradient.find_dropped_gradients,
}


def _analyse_tree(
    path: str, source: str, tree: ast.Module, rules: RuleSet, roots: Collection[str] = ()
) -> tuple[Suspect, ...]:
    """The suspects of a parsed module, sorted by place and rule."""
    code = ModuleView(source, tree, roots)
    present = [rule for rule in rules.rules if any(token in source for token in rule.tokens)]
    found = [(rule, hit) for rule in present for hit in DETECTORS[rule.detector](code, rule)]
    unique: dict[tuple[str, Span], Suspect] = {}
    for rule, hit in _drop_yielding_hits(found):
        harm = find_harm(code, hit, rule.harmless)
        if harm != "none":
            severity = "note" if harm == "note" else rule.severity
            unique.setdefault((rule.id, hit.span), _make_suspect(path, rule, hit, code, severity))
    return tuple(sorted(unique.values(), key=lambda suspect: (suspect.span, suspect.rule)))


def _drop_yielding_hits(found: list[tuple[Rule, Hit]]) -> Iterable[tuple[Rule, Hit]]:
    """Drop a hit where a rule that its own yields to has found a place around it."""
    spans: dict[str, list[Span]] = {}
    for rule, hit in found:
        spans.setdefault(rule.id, []).append(hit.span)
    claims = {rule: _Claims(places) for rule, places in spans.items()}
    for rule, hit in found:
        if not any(other in claims and claims[other].hold(hit.span) for other in rule.yields_to):
            yield rule, hit


class _Claims:
    """The places that a rule has found: whether one of them, of which there may be many, is around another."""

    def __init__(self, spans: Iterable[Span]) -> None:
        places = sorted(((span.line, span.column), (span.end_line, span.end_column)) for span in spans)
        self._starts = [start for start, _ in places]
        self._furthest = list(accumulate((end for _, end in places), max))

    def hold(self, inner: Span) -> bool:
        """Whether one of them contains a place: of those that begin before it, the one that ends last."""
        begun = bisect_right(self._starts, (inner.line, inner.column))
        return begun > 0 and self._furthest[begun - 1] >= (inner.end_line, inner.end_column)


def _make_suspect(path: str, rule: Rule, hit: Hit, code: ModuleView, severity: str) -> Suspect:
    bound = _find_bound_use(code, hit) if hit.scope.kind != "function" else None
    symbol = hit.scope.symbol or (bound.name if bound else "<module>")
    message = rule.format_message(hit.variant, hit.token, symbol, hit.detail)
    return Suspect(
        rule=rule.id,
        name=rule.name,
        severity=severity,
        path=path,
        span=hit.span,
        symbol=symbol,
        message=message,
        remedy=rule.get_remedy(hit.cure or hit.variant),
        reach=bound.reach if bound else hit.reach,
        neutraliser=hit.neutraliser,
        variant=hit.variant,
    )


class _BoundUse(NamedTuple):
    """The name that is given to what holds a suspect, and the lines that run when it is called, if any do here."""

    name: str
    reach: tuple[int, int]


def _find_bound_use(code: ModuleView, hit: Hit) -> _BoundUse | None:
    """The name and the use of what an assignment outside functions gives a name; None for any other place."""
    statement = code.index.find_statement(hit.node)
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return None
    names = [name for target in get_targets(statement) for name in iter_target_names(target)]
    if not names:
        return None
    ranges = list(_iter_wrapped(code, hit.scope, statement.value)) or list(_iter_users(code, set(names)))
    if not ranges:
        is_target = hit.scope.kind == "module" and isinstance(statement.value, ast.Call)
        return _BoundUse(names[0], ELSEWHERE) if is_target else None
    return _BoundUse(names[0], (min(first for first, _ in ranges), max(last for _, last in ranges)))


def _iter_wrapped(code: ModuleView, scope: Scope, value: ast.expr) -> Iterator[tuple[int, int]]:
    """The bodies of the functions that a value is made of."""
    parts = [node for node in ast.walk(value) if isinstance(node, ast.Name | ast.Attribute)]
    for found in (found for node in parts for found in code.attention.list_named(scope, node)):
        if found in code.attention.active:
            yield _get_lines(found)


def _iter_users(code: ModuleView, names: set[str]) -> Iterator[tuple[int, int]]:
    """The bodies of the attention functions that read one of some names."""
    for scope in code.active:
        if any(node.id in names for node in scope.select_nodes(ast.Name)):
            yield _get_lines(scope)


def _get_lines(scope: Scope) -> tuple[int, int]:
    if isinstance(scope.node, ast.Lambda):
        assert scope.node.end_lineno is not None
        return scope.node.lineno, scope.node.end_lineno
    return get_body_lines(scope.function)


def scan_source(path: str, source: str, rules: RuleSet, *, prefilter: bool = True) -> tuple[Suspect, ...]:
    """The suspects of a file. With ``prefilter`` only code that can hold one is parsed."""
    if not _mentions_torch(source, rules):
        return ()
    if prefilter:
        reduced = reduce_source(source, rules)
        if reduced is None:
            return ()
        try:
            return _analyse_tree(path, reduced, parse_python(reduced), rules)
        except SourceError:
            pass  # the cut was not where Python would cut; or the file does not parse, and the whole tells where
    return _analyse_tree(path, source, parse_python(source), rules)


def _mentions_torch(source: str, rules: RuleSet) -> bool:
    """Whether a text speaks of tensors of torch, or names a package whose functions the settings list."""
    return any(word.decode() in source for word in TENSOR_WORDS) or any(root in source for root in rules.extra_roots)


def scan_called_functions(path: str, source: str, rules: RuleSet, roots: Collection[str]) -> tuple[Suspect, ...]:
    """The suspects of a file that attention of other files runs, those of `scan_source` among them."""
    if not any(token in source for token in rules.tokens):
        return ()
    return _analyse_tree(path, source, parse_python(source), rules, frozenset(roots))
