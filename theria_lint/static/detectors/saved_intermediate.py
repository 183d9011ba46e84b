"""THL005: tensors saved for backward that are neither inputs nor outputs of the function."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from theria_lint.rules.loader import Rule
from theria_lint.static import attention_names
from theria_lint.static.dataflow import collect_derived_names, get_assignments, iter_loaded_names
from theria_lint.static.detectors.opaque_backward import find_first_opaque, is_guarded_backward
from theria_lint.static.function_inputs import find_tensors, list_own_parameters
from theria_lint.static.module_view import Hit, ModuleView, get_lines
from theria_lint.static.scopes import Scope, get_callee_name, get_dotted_name

# Integers, random state and layouts, by the names that people give them: no derivative flows through those.
_DISCRETE = re.compile(
    r"(^|_)(rng|seed|index|indices|idx|mask|masks|offset|offsets|lens|lengths?|seqlens?|lut|table|blocks?|buckets?|"
    r"ids?|pos|positions?|bias_shape|philox|cu|counts?|num|kernel|meta|grid|order|perm)(_|$)"
)
_MARK = "mark_non_differentiable"
# What these return depends on no tensor's values, or has no derivative.
_UNDERIVED = attention_names.make_word_set(
    "tensor as_tensor new_tensor from_numpy empty empty_like new_empty zeros zeros_like new_zeros ones ones_like "
    "new_ones full full_like new_full rand_like randn_like arange sign round floor ceil item tolist detach_ Size"
)


def find_saved_intermediates(code: ModuleView, rule: Rule) -> Iterator[Hit]:
    """Copies of inputs, intermediates, and tensors set as attributes of ctx, where a forward keeps them."""
    for owner in code.autograd_functions:
        if not _is_differentiable(code, owner):
            continue
        for name in ("forward", "setup_context"):
            for scope in owner.find_own_methods(name):
                if list_own_parameters(scope):
                    yield from _SavingForward(code, rule, owner, scope).find_hits()


def _is_differentiable(code: ModuleView, owner: Scope) -> bool:
    """Whether a derivative can pass a backward at all: where none can, nothing is lost by what it is given."""
    return not any(
        is_guarded_backward(found) or find_first_opaque(code, found) for found in owner.find_own_methods("backward")
    )


class _SavingForward:
    """The forward (or ``setup_context``) of one autograd.Function."""

    def __init__(self, code: ModuleView, rule: Rule, owner: Scope, scope: Scope) -> None:
        self.code = code
        self.rule = rule
        self.scope = scope
        self.context, *self.given = list_own_parameters(scope)
        self.values: dict[str, list[ast.expr]] = {}
        for names, value in get_assignments(scope):
            for name, part in _pair_names(names, value):
                self.values.setdefault(name, []).append(part)
        self.owner = owner
        self.underived = self._collect_underived()
        self.outputs = self._collect_outputs() - self.underived
        if scope.name == "setup_context":
            self._unpack_inputs_and_output()
        unpacked = self.outputs if scope.name == "setup_context" else ()
        self.inputs = find_tensors(scope, (*self.given, *unpacked))
        self.tensors = collect_derived_names(scope, self.inputs)

    def _unpack_inputs_and_output(self) -> None:
        """In ``setup_context(ctx, inputs, output)`` whatever is unpacked from these two is an input or output."""
        for name, values in list(self.values.items()):
            if all(_find_root_name(value) in self.given for value in values):
                self.outputs.add(name)

    def _collect_underived(self) -> set[str]:
        """The outputs that are said to have no derivative: their graph is as lost as that of an intermediate."""
        return {
            argument.id
            for call in self.scope.select_nodes(ast.Call)
            if get_dotted_name(call.func) == f"{self.context}.{_MARK}"
            for argument in call.args
            if isinstance(argument, ast.Name)
        }

    def _spell_output(self, argument: ast.expr) -> set[str]:
        """How a name is spelt, or a part of the output: ``state``, ``output[1]``; both after ``state = output[1]``."""
        values = self.values.get(argument.id, []) if isinstance(argument, ast.Name) else []
        parts = [part for part in (argument, *values) if isinstance(part, ast.Name | ast.Subscript)]
        return {ast.unparse(part) for part in parts if part is argument or isinstance(part, ast.Subscript)}

    def _collect_outputs(self) -> set[str]:
        names: set[str] = set()
        for node in self.scope.nodes:
            if isinstance(node, ast.Return) and node.value is not None:
                parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                names.update(part.id for part in parts if isinstance(part, ast.Name))
        return names

    def find_hits(self) -> Iterator[Hit]:
        for node in self.scope.nodes:
            if isinstance(node, ast.Call) and get_dotted_name(node.func) == f"{self.context}.save_for_backward":
                yield from self._find_saved_tensors(node)
            elif isinstance(node, ast.Call) and get_dotted_name(node.func) == f"{self.context}.{_MARK}":
                yield from self._find_marks(node)
            elif isinstance(node, ast.Assign):
                yield from self._find_kept_attributes(node)

    def _find_saved_tensors(self, call: ast.Call) -> Iterator[Hit]:
        for position, argument in enumerate(call.args):
            if isinstance(argument, ast.Starred) or not _is_saved_tensor_used(self.owner, position):
                continue
            variant = self._classify_argument(argument)
            if variant is not None:
                yield self._make_saved_hit(argument, call, variant)

    def _find_marks(self, call: ast.Call) -> Iterator[Hit]:
        """The outputs under the mark that backward uses."""
        for argument in call.args:
            if self._is_kept(argument):
                yield self._make_saved_hit(argument, call, "marked")

    def _is_kept(self, marked: ast.expr) -> bool:
        """Whether backward uses an output that is marked, because the forward saves it."""
        spelt = self._spell_output(marked)
        return any(
            not spelt.isdisjoint(self._spell_output(argument)) and _is_saved_tensor_used(self.owner, position)
            for call in self.scope.select_nodes(ast.Call)
            if get_dotted_name(call.func) == f"{self.context}.save_for_backward"
            for position, argument in enumerate(call.args)
        )

    def _find_kept_attributes(self, node: ast.Assign) -> Iterator[Hit]:
        for target in node.targets:
            if not isinstance(target, ast.Attribute) or get_dotted_name(target) != f"{self.context}.{target.attr}":
                continue
            for value in node.value.elts if isinstance(node.value, ast.Tuple | ast.List) else [node.value]:
                if self._is_intermediate(value):
                    yield self._make_saved_hit(value, node, "attribute")

    def _is_intermediate(self, value: ast.expr) -> bool:
        """Whether a value is a tensor that is neither input nor output, computed before or on the spot."""
        if isinstance(value, ast.Name):
            return self._is_tensor(value.id) and self._classify_argument(value) is not None
        return self._is_operation(value) and self._classify_expression(value) is not None

    def _is_operation(self, value: ast.expr) -> bool:
        """Whether an expression is a product or other operation on tensors: not all that is computed of them is one."""
        if isinstance(value, ast.BinOp):
            return isinstance(value.op, ast.MatMult) or not self.inputs.isdisjoint(iter_loaded_names(value))
        if not isinstance(value, ast.Call):
            return False
        paths = self.scope.names.resolve_node(value.func)
        own = isinstance(value.func, ast.Attribute) and _find_root_name(value.func) in self.tensors
        return own or any(path.startswith("torch.") for path in paths) or self._is_copy(value)

    def _is_tensor(self, name: str) -> bool:
        """Whether a local name holds something computed from tensors, as far as assignments tell."""
        return name in self.tensors and not _DISCRETE.search(name)

    def _classify_argument(self, argument: ast.expr) -> str | None:
        """What is wrong with keeping an argument, "copy" or "intermediate"; None when nothing is."""
        if isinstance(argument, ast.Name):
            return None if _DISCRETE.search(argument.id) else self._classify_name(argument.id, frozenset())
        return self._classify_expression(argument)

    def _classify_expression(self, value: ast.expr) -> str | None:
        """What is wrong with keeping what is computed on the spot: ``x.contiguous()``, ``torch.exp(x)``, ``x * y``."""
        if isinstance(value, ast.IfExp):
            return self._classify_argument(value.body) or self._classify_argument(value.orelse)
        if not isinstance(value, ast.Call | ast.BinOp | ast.UnaryOp):
            return None
        if isinstance(value, ast.Call):
            if self._is_copy(value):
                return "copy"
            if get_callee_name(value) in _UNDERIVED:
                return None
        return "intermediate" if any(map(self._is_tensor, iter_loaded_names(value, values=True))) else None

    def _classify_name(self, name: str, seen: frozenset[str]) -> str | None:
        values = self.values.get(name, [])
        if name in self.outputs or name in seen:
            return None
        if not values:
            return None
        variants = {self._classify_value(value, seen | {name}) for value in values}
        if "copy" in variants:
            return "copy"
        return "intermediate" if "intermediate" in variants else None

    def _classify_value(self, value: ast.expr, seen: frozenset[str]) -> str | None:
        if isinstance(value, ast.Name):
            return self._classify_name(value.id, seen)
        if isinstance(value, ast.Constant):
            return None
        if isinstance(value, ast.IfExp):
            arms = [self._classify_value(arm, seen) for arm in (value.body, value.orelse)]
            return "copy" if "copy" in arms else arms[0] or arms[1]
        if isinstance(value, ast.Call) and self._is_copy(value):
            return "copy"
        return "intermediate"

    def _is_copy(self, call: ast.Call) -> bool:
        """Whether a call copies, casts or pads one of the inputs: ``q.contiguous()``, ``F.pad(q, …)``."""
        if get_callee_name(call) not in self.rule.get_values("copies"):
            return False
        receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
        candidates = [*call.args[:1], receiver]
        roots = {_find_root_name(candidate) for candidate in candidates if candidate is not None}
        # A name that is no local is one that a comprehension runs over: `[x.contiguous() for x in (q, k, v)]`.
        return any(root in self.scope.parameters or root not in self.values for root in roots)

    def _make_saved_hit(self, node: ast.expr, around: ast.AST, variant: str) -> Hit:
        token = ast.unparse(node)
        return Hit(node, self.code.get_span(node), token, self.scope, get_lines(around), None, variant)


def _find_root_name(node: ast.expr) -> str | None:
    """The name at the bottom of a chain of attributes, subscripts and method calls."""
    current: ast.expr = node
    while not isinstance(current, ast.Name):
        if isinstance(current, ast.Attribute | ast.Subscript):
            current = current.value
        elif isinstance(current, ast.Call) and isinstance(current.func, ast.Attribute):
            current = current.func
        else:
            return None
    return current.id


def _pair_names(names: list[str], value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Each name with its own part of ``a, b = x, y``, or with all of the value."""
    if isinstance(value, ast.Tuple) and len(value.elts) == len(names):
        yield from zip(names, value.elts, strict=True)
    elif isinstance(value, ast.ListComp | ast.GeneratorExp) and isinstance(value.generators[0].iter, ast.Tuple):
        yield from ((name, value.elt) for name in names)
    else:
        yield from ((name, value) for name in names)


def _is_saved_tensor_used(owner: Scope, position: int) -> bool:
    """Whether backward uses the saved tensor at a position; it counts as used where the unpacking cannot be read."""
    backwards = owner.find_own_methods("backward")
    return not backwards or any(_uses_saved_tensor(backward, position) for backward in backwards)


def _uses_saved_tensor(backward: Scope, position: int) -> bool:
    for node in backward.nodes:
        if (
            not isinstance(node, ast.Assign)
            or (get_dotted_name(node.value) or "").rpartition(".")[2] != "saved_tensors"
        ):
            continue
        target = node.targets[0]
        if not isinstance(target, ast.Tuple) or any(isinstance(part, ast.Starred) for part in target.elts):
            return True
        part = target.elts[position] if position < len(target.elts) else None
        return not isinstance(part, ast.Name) or _loads_name(backward, part.id)
    return True


def _loads_name(scope: Scope, name: str) -> bool:
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        for inner in scope.walk_scopes()
        for node in inner.nodes
    )
