"""``theria.probe``: measures attention on the configurations that bring hidden damage to light."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

import torch
from torch import Tensor

from theria.attention.canonical_problem import canonical
from theria.attention.reference import attend
from theria.probes.given_inputs import bind_inputs
from theria.probes.layouts import (
    ODD,
    PACKED,
    ROUND,
    Shape,
    from_bhtd,
    key_layout,
    query_layout,
    sequence_lengths,
    to_bhtd,
)
from theria.probes.measure import AGREEMENT, Trusted, closest_reference, measure
from theria.probes.point import Function, trial
from theria.probes.qkv import draw_qkv
from theria.probes.report import Report
from theria.verdicts import Ground, Reason, Verdict, worst


def attention_references(layout: str, scale: float | None = None, is_causal: bool | None = None) -> list[Trusted]:
    """The reference backend in a layout, for each plausible scale and mask unless they are known.

    Packed sequences attend each to itself.
    """

    def make(scale: float | None, causal: bool) -> Function:
        def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys = key_layout(layout)
            split = to_bhtd(q, query_layout(layout)), to_bhtd(k, keys), to_bhtd(v, keys)
            output = torch.cat([one(*sequence) for sequence in _sequences(split, layout)], 2)
            return from_bhtd(output, query_layout(layout))

        def one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            problem = canonical(q, k, v, scale=scale, is_causal=causal, attn_mask=None, enable_gqa=":" in layout)
            return attend(problem)[0].reshape(problem.output_shape)

        return function

    scales = (None, 1.0) if scale is None else (scale,)
    causals = (False, True) if is_causal is None else (is_causal,)
    return [Trusted("reference", make(s, c)) for s in scales for c in causals]


def _sequences(tensors: Sequence[Tensor], layout: str) -> Iterator[tuple[Tensor, ...]]:
    """Tensors (B,H,T,D), cut along T where the layout packs sequences."""
    if layout not in PACKED:
        yield tuple(tensors)
        return
    yield from zip(*(torch.split(tensor, sequence_lengths(tensor.shape[2]), 2) for tensor in tensors), strict=True)


class ProbeOptions(TypedDict, total=False):
    """What `probe` takes beside the function and its inputs."""

    shape: Shape | None
    layout: str
    scale: float | None
    is_causal: bool | None
    dtype: torch.dtype | str
    device: str | None
    oracle: str
    seed: int


def probe(
    fn: Callable[..., Tensor],
    *inputs: Any,
    shape: Shape | None = None,
    layout: str = "bhtd",
    scale: float | None = None,
    is_causal: bool | None = None,
    dtype: torch.dtype | str = torch.float64,
    device: str | None = None,
    oracle: str = "auto",
    seed: int = 0,
) -> Report:
    """Measure whether attention is twice differentiable, and return the worst of several measurements.

    Probed are the gradients of L = ⟨W, fn(q, k, v)⟩, the nine Hessian blocks and the three cotangent blocks, by
    every route of autograd, on odd and round sizes, contiguous and strided, and under autocast. Sizes or strides that
    ``fn`` refuses are left out and noted.

    Args:
        fn: takes q (B,H,T,D), k (B,H,M,D), v (B,H,M,Dv) in ``layout`` and returns (B,H,T,Dv) likewise; or
            whatever ``inputs`` are, and returns a tensor. A module's parameters are then one more input, ``p``.
        inputs: what to call ``fn`` with, such as the x of a module. Then it is measured there alone, against finite
            differences, and none of shape, layout, scale and is_causal can be given.
        shape: sizes to probe instead of the default ones.
        layout: ``bhtd``, ``bthd``, ``btd`` (no heads) or ``td``, in any case.
        scale: of the logits, where it is neither 1/√D nor 1.
        is_causal: whether ``fn`` masks; None tries both.
        dtype: of the inputs, such as ``torch.float32`` or ``"float32"``; derivatives are compared in float64.
        device: where the inputs live; the CPU, or where the given ones are.
        oracle: ``auto``, ``reference`` (then a forward that disagrees is an error) or ``finite differences``.
        seed: of the probe's own random numbers: the same seed gives the same report.

    Raises:
        ValueError: for an unknown layout, dtype or oracle, for options that given inputs leave
            nothing to, for a module of x without it, or if ``oracle="reference"`` and the forward disagrees.
        Exception: what ``fn`` raises, where it runs on no configuration at all.
    """
    if oracle not in ("auto", "reference", "finite differences"):
        raise ValueError(f"oracle {oracle!r} is unknown; choose 'auto', 'reference' or 'finite differences'")
    dtype, layout = read_dtype(dtype), layout.lower()
    if inputs:
        _refuse_made_up(shape, layout, scale, is_causal, oracle)
        function, found = bind_inputs(fn, inputs, dtype, device)
        return measure(function, found, seed=seed, configuration="given inputs")
    _refuse_lone_input(fn)
    device = device or "cpu"
    references = [] if oracle == "finite differences" else attention_references(layout, scale, is_causal)
    reports, skipped, refusal = [], [], None
    for name, tensors in _configurations(shape, layout, dtype, device, seed):
        try:
            reports.append(measure(fn, tensors, references=references, seed=seed, configuration=name))
        except Exception as error:
            refusal = refusal or error
            told = {"configuration": name, "kind": type(error).__name__, "message": str(error)}
            skipped.append(Reason(Ground.NOT_PROBED, told))
    if not reports:
        assert refusal is not None
        raise refusal
    if dtype in (torch.float64, torch.float32) and reports[0].oracle == "reference":
        drawn = draw_qkv(shape or ODD, layout=layout, dtype=torch.float32, device=device, seed=seed)
        under_autocast = measure_under_autocast(fn, drawn, references, seed)
        reports += [under_autocast] if under_autocast and under_autocast.verdict.unsafe else []
    report = summarise(reports, skipped)
    if oracle == "reference" and report.oracle not in ("reference", ""):
        raise ValueError(
            "the forward disagrees with softmax attention: give its scale, or use oracle='finite differences'"
        )
    return report


DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def read_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A dtype, or one by its name as the linter's configuration has it. Raises ValueError."""
    if isinstance(dtype, torch.dtype):
        return dtype
    known = DTYPES.get(str(dtype).removeprefix("torch.").lower())
    if known is None:
        raise ValueError(f"dtype {dtype!r} is unknown; choose {', '.join(DTYPES)}")
    return known


def _refuse_made_up(shape: Shape | None, layout: str, scale: float | None, is_causal: bool | None, oracle: str) -> None:
    """Raise ValueError for options about inputs that are made up, or about an oracle that takes q, k and v."""
    given = {"shape": shape, "layout": None if layout == "bhtd" else layout, "scale": scale, "is_causal": is_causal}
    lost = [name for name, value in given.items() if value is not None]
    if oracle == "reference":
        lost.append("oracle='reference'")
    if lost:
        raise ValueError(f"{', '.join(lost)} cannot be heeded where inputs are given; leave out one of the two")


def _refuse_lone_input(fn: Callable[..., Any]) -> None:
    """Raise ValueError for a module of x, which has to be given: what it takes cannot be made up here."""
    if not isinstance(fn, torch.nn.Module):
        return
    kinds = [p for p in inspect.signature(fn.forward).parameters.values() if p.kind is not p.VAR_KEYWORD]
    if any(p.kind is p.VAR_POSITIONAL for p in kinds) or len(kinds) >= len("qkv"):
        return
    name = type(fn).__name__
    names = ", ".join(p.name for p in kinds)
    raise ValueError(f"{name} takes {names or 'nothing'}, not q, k and v: give it, as in theria.probe(module, {names})")


def measure_under_autocast(
    fn: Function, inputs: Mapping[str, Tensor], references: Sequence[Trusted], seed: int
) -> Report | None:
    """The report of softmax attention that is safe or loses derivatives in silence under autocast; None for any other.

    Copies that a forward makes there to lower the precision may be what it saves. What raises there does not support
    autocast, and says so; what is not softmax attention has no oracle that is exact enough.

    Args:
        fn: the attention.
        inputs: float32 tensors; autocast leaves float64 alone.
        references: trusted functions of the same inputs.
        seed: of the probe's own random numbers.
    """
    device = next(iter(inputs.values())).device.type

    def autocast(*arguments: Tensor) -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16):
            return fn(*arguments)

    try:
        # Rounding under autocast hides a small difference of scale, which is not small in the derivatives.
        closest, error = closest_reference(trial(fn, inputs, seed), inputs, references, seed)
        if closest is None or error > AGREEMENT[torch.float32]:
            return None
        report = measure(
            autocast,
            inputs,
            references=[closest],
            seed=seed,
            configuration="autocast to bfloat16",
            computed_in=torch.bfloat16,
        )
    except Exception:  # a forward that refuses autocast is not what is asked here
        return None
    telling = report.verdict in (Verdict.SAFE, Verdict.SILENT_COLLAPSE, Verdict.SILENT_CORRUPTION)
    return report if telling and report.oracle == "reference" else None


def summarise(reports: Sequence[Report], remarks: Sequence[Reason] = ()) -> Report:
    """The worst report, with what the others found as remarks."""
    verdict = worst(report.verdict for report in reports)
    chosen = next(report for report in reports if report.verdict is verdict)
    differing = [
        Reason(Ground.OTHER_CONFIGURATION, {"configuration": r.configuration, "verdict": r.verdict})
        for r in reports
        if r.verdict is not verdict
    ]
    return replace(chosen, remarks=(*chosen.remarks, *differing, *remarks))


def _configurations(
    shape: Shape | None, layout: str, dtype: torch.dtype, device: str, seed: int
) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    shapes = {"given sizes": shape} if shape else {"odd sizes": ODD, "round sizes": ROUND}
    for name, sizes in shapes.items():
        for strided in (False, True):
            inputs = draw_qkv(sizes, layout=layout, dtype=dtype, device=device, seed=seed, strided=strided)
            yield f"{name}, {'strided' if strided else 'contiguous'}", inputs
