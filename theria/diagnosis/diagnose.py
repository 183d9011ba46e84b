"""Descend from a model to the submodules that are to blame for a lost second derivative."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from theria.diagnosis.captured_call import CapturedCall, capture_calls, copy_with, find_tensors
from theria.diagnosis.directional import CallMeasurement, DirectionalProbe, Loss
from theria.diagnosis.tree import Diagnosis, ModuleDiagnosis
from theria.probes.point import isolated
from theria.verdicts import Ground, Verdict, worst

ATTENTION = re.compile(r"att(?:entio)?n|multihead|mha\b", re.IGNORECASE)
"""What a class of attention is called."""


def diagnose(
    model: nn.Module,
    *inputs: Any,
    loss: Callable[[Any], Tensor] | None = None,
    seed: int = 0,
    **keywords: Any,
) -> Diagnosis:
    """Find out which part of a model is not twice differentiable.

    The model is copied and run once; the copies' submodules are called again as the model called them. Of a call, the
    Hessian-vector product by autograd is held against differences of gradients (`theria.diagnosis.directional`), in
    float64 for the mathematics and in the model's own dtype for the kernels that are dispatched there. Every module
    with attention in its name is measured; below a module that is unsafe, every submodule is, down to those that are
    unsafe although all their own submodules are safe. The model itself, its gradients and the state of PyTorch's random
    numbers stay as they are.

    Args:
        model: in training or evaluation mode, on any device, with parameters of floating dtype.
        inputs: what it is called with; tensors of any shape and dtype, on its device.
        loss: turns what the model returns into a scalar; by default ⟨W, outputs⟩ with random W.
        seed: of the directions, of W, and of the random numbers that the model draws.
        keywords: further arguments of the call.

    Raises:
        Exception: whatever the model raises when it is called.
    """
    captured: list[_Captured] = []
    copies = _copy_in_dtypes(model, inputs, keywords)
    for one in copies:
        with capture_calls(one.model) as calls, isolated(seed), _SdpaWatch(one.model) as watch:
            one.model(*one.inputs, **one.keywords)
        captured.append(_Captured(calls, watch.modules))
    search = _Search(copies[0].model, captured, seed, loss)
    root = search.descend("")
    culprits = tuple(_find_culprits(root))
    called = captured[0].calls
    idle = [n for n, m in copies[0].model.named_modules() if n not in called and ATTENTION.search(type(m).__name__)]
    notes = [f"never called by the model, so not measured: {', '.join(idle)}"] if idle else []
    return Diagnosis(root, culprits, search.find_remedy(culprits[0]) if culprits else None, tuple(notes))


@dataclass(frozen=True)
class _Copy:
    model: nn.Module
    inputs: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass(frozen=True)
class _Captured:
    """The calls that a copy made, and the names of the modules that called PyTorch's fused attention themselves."""

    calls: dict[str, CapturedCall]
    fused: set[str]


def _copy_in_dtypes(model: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> list[_Copy]:
    """A copy in float64, if the model runs there, and one as it is, if that is another dtype."""
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    dtypes |= {t.dtype for _, t in find_tensors((inputs, keywords)) if t.is_floating_point()}
    own = _copy(model, inputs, keywords, None)
    if dtypes <= {torch.float64}:
        return [own]
    exact = _copy(model, inputs, keywords, torch.float64)
    try:
        with isolated(0):
            exact.model(*exact.inputs, **exact.keywords)
    except Exception:  # a cast to a fixed dtype within
        return [own]
    return [_copy(model, inputs, keywords, torch.float64), own]


def _copy(model: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], dtype: torch.dtype | None) -> _Copy:
    """A copy of the model and of what it is called with."""
    copied = copy.deepcopy(model, {id(p.grad): None for p in model.parameters() if p.grad is not None})
    replaced = {
        id(t): t.detach().to(dtype if dtype and t.is_floating_point() else t.dtype, copy=True)
        for _, t in find_tensors((inputs, keywords))
    }
    given, named = copy_with((inputs, keywords), replaced)
    return _Copy(copied.to(dtype) if dtype else copied, given, named)


class _SdpaWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes in which modules a fused kernel of ``scaled_dot_product_attention`` was dispatched, the innermost ones."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Else the first call would import the compiler, to keep it away from this class."""
        return False

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.modules: set[str] = set()
        self._running: list[str] = []
        self._handles: list[Any] = []
        for name, module in model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._make_enter(name)))
            self._handles.append(module.register_forward_hook(self._leave, always_call=True))

    def _make_enter(self, name: str) -> Callable[..., None]:
        return lambda module, args: self._running.append(name)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "scaled_dot_product" in func.name() and self._running:
            self.modules.add(self._running[-1])
        return func(*args, **(kwargs or {}))

    def __exit__(self, *details: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*details)  # type: ignore[no-untyped-call]


class _Search:
    """The descent through a model."""

    def __init__(self, model: nn.Module, captured: list[_Captured], seed: int, loss: Loss | None) -> None:
        self._model, self._captured, self._seed, self._loss = model, captured, seed, loss

    def descend(self, name: str) -> ModuleDiagnosis:
        """Measure a module; what is below it if it is unsafe, else the attention below it."""
        node = self._measure(name)
        safe = node.verdict is Verdict.SAFE
        below = self._list_attention_below(name) if safe else self._list_called_children(name)
        children = [self.descend(child) for child in below]
        constant = Ground.NO_DEPENDENCE  # a module of positions or token ids has nothing to lose
        return replace(node, children=tuple(child for child in children if child.reason.code != constant))

    def _measure(self, name: str) -> ModuleDiagnosis:
        module = self._model.get_submodule(name)
        found = list(self._measure_in_dtypes(name))
        verdict = worst(measurement.verdict for measurement, _ in found)
        measurement, captured = next(pair for pair in found if pair[0].verdict is verdict)
        lost = [m.lost for m, _ in found if m.verdict is verdict and m.lost is not None]
        kind = type(module).__name__
        return ModuleDiagnosis(
            name,
            kind,
            verdict,
            measurement.reason,
            lost[0] if lost else None,
            bool(ATTENTION.search(kind)) or any(name in c.fused for c in self._captured),
            _find_file(module),
            _name_dtype(captured.calls[name]),
        )

    def _measure_in_dtypes(self, name: str) -> Iterator[tuple[CallMeasurement, _Captured]]:
        """Measure the call in each copy; the one in float64 is the oracle of the other."""
        exact: DirectionalProbe | None = None
        for captured in self._captured:
            if name in captured.calls:
                probe = self._make_probe(captured, name, exact)
                yield probe.measure(), captured
                exact = exact or probe

    def _make_probe(self, captured: _Captured, name: str, exact: DirectionalProbe | None = None) -> DirectionalProbe:
        return DirectionalProbe(captured.calls[name], self._seed, None if name else self._loss, exact)

    def _list_called_children(self, name: str) -> Iterator[str]:
        """The nearest submodules that the model called, in the order of the calls."""
        below = [other for other in self._captured[0].calls if _is_below(other, name)]
        yield from (o for o in below if not any(_is_below(o, between) for between in below))

    def _list_attention_below(self, name: str) -> list[str]:
        """The outermost attention modules below a module that the model called."""
        fused = {one for captured in self._captured for one in captured.fused}
        found = [
            other
            for other, call in self._captured[0].calls.items()
            if _is_below(other, name) and (ATTENTION.search(type(call.module).__name__) or other in fused)
        ]
        return [o for o in found if not any(_is_below(o, between) for between in found)]

    def find_remedy(self, culprit: ModuleDiagnosis) -> str | None:
        """What helps, where running it showed that it does."""
        fused = [c for c in self._captured if culprit.name in c.fused]
        if fused:
            with sdpa_kernel(SDPBackend.MATH):
                mended = all(self._make_probe(c, culprit.name).measure().verdict is Verdict.SAFE for c in fused)
            if mended:
                return "with sdpa_kernel(SDPBackend.MATH) around the model, it is safe (torch.nn.attention)"
        if culprit.file is None or culprit.file.startswith(torch.__path__[0]):
            return None
        return f"theria-lint {culprit.file} names the line"


def _find_culprits(node: ModuleDiagnosis) -> Iterator[ModuleDiagnosis]:
    """The deepest unsafe modules."""
    below = [culprit for child in node.children for culprit in _find_culprits(child)]
    if below:
        yield from below
    elif node.verdict.unsafe:
        yield node


def _is_below(name: str, above: str) -> bool:
    return bool(name) and name != above and (not above or name.startswith(above + "."))


def _find_file(module: nn.Module) -> str | None:
    try:
        return inspect.getsourcefile(type(module))
    except (TypeError, OSError):
        return None


def _name_dtype(call: CapturedCall) -> str:
    """The dtype of what a call computes with."""
    tensors = [*call.inputs.values(), *call.module.parameters()]
    dtypes = [t.dtype for t in tensors if t.is_floating_point()]
    return str(dtypes[0]).removeprefix("torch.") if dtypes else "float64"
