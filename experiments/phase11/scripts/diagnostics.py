"""One row of the taxonomy: one wrapper on one backend, measured by the block probe and inside MAML."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass

import torch
from bad_backends import WRAPPERS, Attention
from torch import Tensor

from theria import probe
from theria.attention import attention, executed_backends
from theria.maml import MamlReport, TaskShape, maml_probe
from theria.probes import Block, Report, Shape, Status, Verdict
from theria.verdicts import Ground, Reason

BACKENDS = {"reference": "reference", "custom": "custom", "triton_fused": "triton"}
"""The table's names of the backends, and the library's."""

BLOCK_SHAPE = Shape(batch=1, heads=1, queries=4, keys=5, dim=4, value_dim=3)
"""No two sizes of a matrix alike, and small: on a CPU the Triton kernels are interpreted, program by program."""

TASK_SHAPE = TaskShape(examples=3, length=6)

COLUMNS = (
    "wrapper",
    "attention_backend",
    "status",
    "second_order_path_all",
    "second_order_path_any",
    "second_order_path_attn_all",
    "second_order_path_attn_any",
    "second_order_path_head_all",
    "second_order_path_head_any",
    "attn_second_order_ok",
    "rel_diff_mean",
    "error",
    "verdict",
    "meta_gradient_error",
    "blocks",
    "second_order_attn_inputs",
    "executed_backend",
    "inner_steps",
    "seed",
    "steps",
    "inner_lr",
    "device",
    "dtype",
    "torch",
    "seconds",
)

SHARED = ("steps", "inner_lr", "device", "dtype", "torch")
"""The columns that all rows of one table have in common."""


@dataclass(frozen=True)
class Settings:
    """What a row was measured with; ``device`` and ``dtype`` as their names, since they are written to the table."""

    steps: int
    inner_steps: int
    seed: int
    inner_lr: float
    device: str
    dtype: str


class RecordedBase:
    """A backend that remembers which backend executed, as the backend itself reports it."""

    def __init__(self, name: str) -> None:
        self.name = BACKENDS[name]
        self.executed: set[str] = set()

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The attention of the backend."""
        with executed_backends() as names:
            output = attention(q, k, v, backend=self.name)
        self.executed.update(names)
        return output


def measure_row(request: str) -> str:
    """What `diagnose` gives, from text to text, as the workers of a cluster take and return it."""
    wrapper, backend, settings = json.loads(request)
    torch.set_num_threads(1)
    return json.dumps(diagnose(wrapper, backend, Settings(**settings)))


def diagnose(wrapper: str, backend: str, settings: Settings) -> dict[str, str]:
    """Measures a wrapper on a backend.

    Raises:
        RuntimeError: if another backend executed than the one that was asked for.
    """
    started = time.perf_counter()
    base = RecordedBase(backend)
    target = WRAPPERS[wrapper](base)
    dtype = getattr(torch, settings.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns of what these wrappers are made to do
        report, maml = _blocks(target, dtype, settings), _maml(target, dtype, settings)
    if base.executed != {base.name}:
        raise RuntimeError(
            f"{wrapper} on {backend} executed {sorted(base.executed)}: its row would be of the wrong subject"
        )
    row = _measured(report, maml) | circumstances(settings)
    row |= {"inner_steps": str(settings.inner_steps), "seed": str(settings.seed)}
    row |= {"wrapper": wrapper, "attention_backend": backend, "executed_backend": base.name}
    row["seconds"] = f"{time.perf_counter() - started:.2f}"
    return {column: row[column] for column in COLUMNS}


def _maml(target: Attention, dtype: torch.dtype, settings: Settings) -> MamlReport:
    return maml_probe(
        target,
        steps=settings.steps,
        inner_steps=settings.inner_steps,
        inner_lr=settings.inner_lr,
        dtype=dtype,
        device=settings.device,
        seed=settings.seed,
        shape=TASK_SHAPE,
    )


def _blocks(target: Attention, dtype: torch.dtype, settings: Settings) -> Report:
    try:
        return probe(target, shape=BLOCK_SHAPE, dtype=dtype, device=settings.device, seed=settings.seed)
    except Exception as error:
        told = {"kind": type(error).__name__, "message": str(error)}
        message = f"{type(error).__name__}: {error}"
        return Report(Status.HARD_FAIL_OTHER, Verdict.INCONCLUSIVE, Reason(Ground.RAISED, told), error=message)


def _measured(report: Report, maml: MamlReport) -> dict[str, str]:
    status = maml.status if report.status is Status.OK else report.status
    row = dict.fromkeys(COLUMNS, "")
    row |= {
        "status": str(status),
        "verdict": str(report.verdict),
        "error": maml.error or report.error or (report.reason if status is not Status.OK else ""),
        "blocks": format_blocks(report.blocks),
    }
    if status is not Status.OK:
        return row
    row |= {name: str(value) for name, value in maml.flags().items()}
    return row | {
        "attn_second_order_ok": str(report.safe),
        "rel_diff_mean": _number(maml.rel_diff),
        "meta_gradient_error": _number(maml.meta_gradient_error),
        "second_order_attn_inputs": " ".join(maml.attention_inputs()),
    }


def circumstances(settings: Settings) -> dict[str, str]:
    """The columns ``SHARED`` of a row measured with these settings."""
    return {
        "steps": str(settings.steps),
        "inner_lr": str(settings.inner_lr),
        "device": settings.device,
        "dtype": settings.dtype,
        "torch": torch.__version__,
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def format_blocks(blocks: dict[str, Block]) -> str:
    """``q.k=right:1.2e-16; …``: each block ∂g_q/∂k (``q.W``: ∂g_q/∂W) with its state and relative error."""
    cells = []
    for key, block in blocks.items():
        source, variable = key.split(",")
        cells.append(f"{source}.{'W' if variable == 'out' else variable}={block.state}:{block.error:.1e}")
    return "; ".join(cells)


def parse_blocks(text: str) -> dict[str, tuple[str, float]]:
    """The inverse of ``format_blocks``: state and error by ``q.k``."""
    found = {}
    for cell in filter(None, text.split("; ")):
        key, _, rest = cell.partition("=")
        state, _, error = rest.partition(":")
        found[key] = (state, float(error))
    return found
