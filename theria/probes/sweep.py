"""``theria.probe``: measures attention on the configurations that bring hidden damage to light."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from theria.attention.registry import attention
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
            canonical = to_bhtd(q, query_layout(layout)), to_bhtd(k, keys), to_bhtd(v, keys)
            output = torch.cat([one(*sequence) for sequence in _sequences(canonical, layout)], 2)
            return from_bhtd(output, query_layout(layout))

        def one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attention(q, k, v, backend="reference", scale=scale, is_causal=causal, enable_gqa=":" in layout)

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


def probe(
    fn: Function,
    *,
    shape: Shape | None = None,
    layout: str = "bhtd",
    scale: float | None = None,
    is_causal: bool | None = None,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    oracle: str = "auto",
    seed: int = 0,
) -> Report:
    """Measures whether attention is twice differentiable, and returns the worst of several measurements.

    Probed are the gradients of L = ⟨W, fn(q, k, v)⟩, the nine Hessian blocks and the three cotangent blocks, by
    every route of autograd, on odd and round sizes, contiguous and strided, and under autocast. Sizes or strides that
    ``fn`` refuses are left out and noted.

    Args:
        fn: takes q (B,H,T,D), k (B,H,M,D), v (B,H,M,Dv) in ``layout`` and returns (B,H,T,Dv) likewise.
        shape: sizes to probe instead of the default ones.
        layout: ``bhtd``, ``bthd``, ``btd`` (no heads) or ``td``.
        scale: of the logits, where it is neither 1/√D nor 1.
        is_causal: whether ``fn`` masks; None tries both.
        dtype: of the inputs; derivatives are compared in float64.
        device: where the inputs live.
        oracle: ``auto``, ``reference`` (then a forward that disagrees is an error) or ``finite differences``.
        seed: of the probe's own random numbers: the same seed gives the same report.

    Raises:
        ValueError: for an unknown layout or oracle, or if ``oracle="reference"`` and the forward disagrees with it.
        Exception: what ``fn`` raises, where it runs on no configuration at all.
    """
    if oracle not in ("auto", "reference", "finite differences"):
        raise ValueError(f"oracle {oracle!r} is unknown; choose 'auto', 'reference' or 'finite differences'")
    references = [] if oracle == "finite differences" else attention_references(layout, scale, is_causal)
    reports, skipped, refusal = [], [], None
    for name, inputs in _configurations(shape, layout, dtype, device, seed):
        try:
            reports.append(measure(fn, inputs, references=references, seed=seed, configuration=name))
        except Exception as error:
            refusal = refusal or error
            told = {"configuration": name, "kind": type(error).__name__, "message": str(error)}
            skipped.append(Reason(Ground.NOT_PROBED, told))
    if not reports:
        assert refusal is not None
        raise refusal
    if dtype in (torch.float64, torch.float32) and reports[0].oracle == "reference":
        inputs = draw_qkv(shape or ODD, layout=layout, dtype=torch.float32, device=device, seed=seed)
        under_autocast = measure_under_autocast(fn, inputs, references, seed)
        reports += [under_autocast] if under_autocast and under_autocast.verdict.unsafe else []
    report = summarise(reports, skipped)
    if oracle == "reference" and report.oracle not in ("reference", ""):
        raise ValueError(
            "the forward disagrees with softmax attention: give its scale, or use oracle='finite differences'"
        )
    return report


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
