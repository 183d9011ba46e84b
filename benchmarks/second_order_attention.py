"""Time, memory, rate and error of attention with its second derivatives, and of training steps that take them.

    python -m benchmarks.second_order_attention --dtypes bfloat16,float32 --lengths 512,4096,8192 --widths 64,128
    python -m benchmarks.second_order_attention --parts steps --max-time 540

For each dtype, head dimension, length and mask: milliseconds of forward + backward, and of these with the double
backward, peak memory beyond inputs and cotangents, the rate by thirty products of (T × D) and (D × M), and the
largest error of any block over its largest entry, against float64 on 256 rows. Beside ``triton`` stand eager attention,
PyTorch's MATH path, torch.compile of eager, and for the first order PyTorch's own choice (``sdpa``).
The part ``steps``: a Hessian-vector product, a gradient penalty and a MAML step of a small BERT and a small ViT (needs
transformers), with the library's eager attention, PyTorch's MATH path, and ours.

What does not fit or raises says so in its row; rows are written as they come. After ``--max-time`` seconds no row is
begun, nor one that by the length before it would take longer; the last line says with which ``--start`` to go on.
A CUDA GPU is needed: ``--device cpu`` tries the program out, with small sizes, and its times mean nothing.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from theria.attention import attention, everywhere

Run = Callable[..., Tensor]
Step = Callable[[], object]
#: What a row begins with, and what measures the rest of it, given the seconds that are left.
Row = tuple[str, Callable[[float], str]]

#: Products of (T × D) and (D × M) in forward, backward and double backward, as the best of kernels would make them.
PRODUCTS = 30
BUDGET = 0.5
"""Seconds that the repetitions of one measurement may take together; there is one at least."""
LONGEST_COMPILED = 2048
"""PyTorch compiles eager attention for each length anew, and has no double backward of it."""
MATRICES = 10
"""Matrices of weights that eager attention keeps until the double backward has run, in float32."""


def eager(q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
    """Plain attention in the dtype of its inputs."""
    logits = q @ k.mT * q.shape[-1] ** -0.5
    if is_causal:
        hidden = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        logits = logits.masked_fill(hidden, -torch.inf)
    return torch.softmax(logits, dim=-1) @ v


def math_path(q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
    """PyTorch's attention, by the path that has a double backward."""
    with sdpa_kernel(SDPBackend.MATH):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)


def take_first(run: Run, x: list[Tensor], causal: bool) -> object:
    """Forward and backward."""
    return torch.autograd.grad(run(*x[:3], is_causal=causal), x[:3], x[3])


def take_second(run: Run, x: list[Tensor], causal: bool, cotangents: list[Tensor]) -> list[Tensor]:
    """Forward, backward and double backward: all blocks."""
    gradients = torch.autograd.grad(run(*x[:3], is_causal=causal), x[:3], x[3], create_graph=True)
    return [*gradients, *torch.autograd.grad(gradients, x, cotangents)]


def draw(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs with the weights of the output, and cotangents of the gradients; normally distributed."""
    x = [torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(4)]
    return x, [torch.randn(shape, device=device, dtype=dtype) for _ in range(3)]


@cache
def measure_error(label: str, width: int, dtype: torch.dtype, causal: bool, device: str) -> float:
    """The largest error of any block over its largest entry, against eager attention in float64."""
    x, cotangents = draw((1, 2, 256, width), dtype, device)
    exact_x = [a.detach().double().requires_grad_() for a in x]
    exact = take_second(eager, exact_x, causal, [c.double() for c in cotangents])
    found = take_second(RUNS[label], x, causal, cotangents)
    return max(
        float((a.detach().double() - b).abs().max() / b.abs().max())
        for a, b in zip(found, [b.detach() for b in exact], strict=True)
    )


def measure(step: Step) -> tuple[float, float]:
    """Median milliseconds, the device idle before and after, and peak MiB beyond what was allocated before."""
    on_gpu = torch.cuda.is_available()
    step()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else 0
    times: list[float] = []
    while not times or (sum(times) < BUDGET and len(times) < 50):
        start = time.perf_counter()
        step()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() - before if on_gpu else 0
    return 1e3 * statistics.median(times), peak / 2**20


def try_measure(step: Step) -> tuple[float, float] | str:
    """The same, or in a few words why there is none."""
    try:
        return measure(step)
    except torch.OutOfMemoryError:
        return "out of memory"
    except Exception as error:
        return f"{type(error).__name__}"
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@cache
def compile_eager() -> Run:
    return torch.compile(eager)


#: By label, what computes attention; PyTorch's own choice has no second order.
RUNS: dict[str, Run] = {
    "sdpa": functional.scaled_dot_product_attention,
    "triton": partial(attention, backend="triton"),
    "eager": eager,
    "MATH": math_path,
    "compile": lambda *x, **options: compile_eager()(*x, **options),
}
ATTENTION_HEADER = (
    f"{'dtype':9} {'D':>4} {'T':>6} causal {'run':8} {'1st ms':>8} {'ms':>9} {'MiB':>8} {'TFLOP/s':>8} {'error':>8}"
)


def list_attention(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each dtype, width, length, mask and way of computing attention, the cheap lengths first."""
    problems = itertools.product(options.lengths, options.dtypes, options.widths, options.causal, options.runs)
    for length, name, width, causal, label in problems:
        shape = (options.batch, options.heads, length, width)
        head = f"{name:9} {width:4} {length:6} {causal!s:6} {label:8}"
        yield head, partial(measure_attention, label, shape, getattr(torch, name), causal, options.device)


#: The length that was measured last, and its milliseconds, by all else that a row tells.
_last: dict[tuple[object, ...], tuple[int, float]] = {}


def measure_attention(
    label: str, shape: tuple[int, ...], dtype: torch.dtype, causal: bool, device: str, left: float
) -> str:
    """First order, both orders, memory, rate and error; what there is of them."""
    batch, heads, length, width = shape
    weights = MATRICES * 4 * batch * heads * length**2
    if label in ("eager", "MATH", "compile") and device == "cuda" and weights > 0.8 * torch.cuda.mem_get_info()[1]:
        return "does not fit"
    if label == "compile" and length > LONGEST_COMPILED:
        return "not tried"
    shorter, before = _last.get((label, dtype, width, causal), (length, 0.0))
    expected = 3 * before / 1e3 * (length / shorter) ** 2  # both orders twice, and half as much for the first alone
    if expected > left:
        return f"would take about {expected:.0f} s"
    x, cotangents = draw(shape, dtype, device)
    first = try_measure(partial(take_first, RUNS[label], x, causal))
    cells = first if isinstance(first, str) else f"{first[0]:8.3f}"
    if label == "sdpa":
        return cells
    second = try_measure(partial(take_second, RUNS[label], x, causal, cotangents))
    if isinstance(second, str):
        return f"{cells} {second}"
    _last[label, dtype, width, causal] = (length, second[0])
    flops = PRODUCTS * 2 * batch * heads * length**2 * width * (0.5 if causal else 1)
    error = measure_error(label, width, dtype, causal, device)
    return f"{cells} {second[0]:9.3f} {second[1]:8.0f} {flops / second[0] / 1e9:8.0f} {error:8.1e}"


MODELS = ("BERT", "ViT")


@cache
def build_model(name: str, attention: str, device: str) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """A small BERT of 2048 tokens or ViT of 1025 patches, with random weights, and what it is given."""
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    torch.manual_seed(0)
    on_cpu = device == "cpu"
    small: dict[str, Any] = {"hidden_size": 32 if on_cpu else 512, "num_hidden_layers": 1 if on_cpu else 4}
    small |= {"num_attention_heads": 2 if on_cpu else 8, "intermediate_size": 2 * small["hidden_size"]}
    small |= {"attn_implementation": attention}
    length, side = (32, 16) if on_cpu else (2048, 256)
    if name == "BERT":
        model = BertModel(BertConfig(**small, max_position_embeddings=length)).to(device).eval()
        return model, {"input_ids": torch.randint(0, 1000, (2, length), device=device)}
    model = ViTModel(ViTConfig(**small, image_size=side, patch_size=8)).to(device).eval()
    return model, {"pixel_values": torch.randn(2, 3, side, side, device=device)}


def take_step(kind: str, model: torch.nn.Module, inputs: dict[str, Tensor], dtype: str) -> object:
    """One step that needs second derivatives: ``hvp``, ``penalty`` (of the gradient for the parameters) or ``maml``.

    In bfloat16 by autocast around the forward.
    """
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    device = next(model.parameters()).device.type
    run = partial(torch.func.functional_call, model, kwargs=inputs)

    def take_loss(values: dict[str, Tensor]) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            hidden: Tensor = run(values, ()).last_hidden_state
        return hidden.float().square().mean()

    gradients = torch.autograd.grad(
        take_loss(parameters), list(parameters.values()), create_graph=True, allow_unused=True
    )
    used = [(p, g) for p, g in zip(parameters.values(), gradients, strict=True) if g is not None]
    if kind == "maml":
        adapted = {
            name: p if g is None else p - 0.01 * g for (name, p), g in zip(parameters.items(), gradients, strict=True)
        }
        return torch.autograd.grad(take_loss(adapted), [p for p, _ in used], allow_unused=True)
    target = sum(g.square().sum() if kind == "penalty" else g.sum() for _, g in used)
    assert isinstance(target, Tensor)
    return torch.autograd.grad(target, [p for p, _ in used], allow_unused=True)


STEPS_HEADER = f"{'model':9} {'dtype':9} {'step':8} {'run':8} {'ms':>9} {'MiB':>8}"


def list_steps(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each model, dtype, kind of step and way of computing attention."""
    runs = [run for run in ("eager", "MATH", "triton") if run in options.runs]
    dtypes = [name for name in ("bfloat16", "float32") if name in options.dtypes]
    for name, dtype, kind, label in itertools.product(MODELS, dtypes, ("hvp", "penalty", "maml"), runs):
        measured = partial(measure_step, name, dtype, kind, label, options.device)
        yield f"{name:9} {dtype:9} {kind:8} {label:8}", measured


def measure_step(name: str, dtype: str, kind: str, label: str, device: str, _: float) -> str:
    """Time and memory of a step."""
    inside: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "eager": nullcontext,
        "MATH": lambda: sdpa_kernel(SDPBackend.MATH),
        "triton": lambda: everywhere(backend="triton"),
    }
    model, inputs = build_model(name, "eager" if label == "eager" else "sdpa", device)
    with inside[label]():
        found = try_measure(partial(take_step, kind, model, inputs, dtype))
    return found if isinstance(found, str) else f"{found[0]:9.1f} {found[1]:8.0f}"


PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], Iterator[Row]]]] = {
    "attention": (ATTENTION_HEADER, list_attention),
    "steps": (STEPS_HEADER, list_steps),
}


def print_rows(options: argparse.Namespace) -> None:
    """Measure and print row by row, until the time is up."""
    began, count = time.monotonic(), 0
    for part in options.parts:
        header, list_rows = PARTS[part]
        print(header, flush=True)
        for head, measured in list_rows(options):
            count += 1
            if count <= options.start:
                continue
            left = options.max_time - (time.monotonic() - began)
            if left < 0:
                print(f"the time is up: go on with --start {count - 1}")
                return
            print(f"{head} {measured(left)}", flush=True)


def _split(text: str) -> list[str]:
    return text.split(",")


def split_numbers(text: str) -> list[int]:
    return [int(x) for x in text.split(",")]


def _split_masks(text: str) -> list[bool]:
    return [{"no": False, "yes": True}[x] for x in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=_split, default=list(PARTS), help="attention, steps")
    parser.add_argument("--runs", type=_split, default=list(RUNS), help=f"with commas: {', '.join(RUNS)}")
    parser.add_argument("--dtypes", type=_split, default=["bfloat16", "float16", "float32"], help="with commas")
    parser.add_argument("--lengths", type=split_numbers, default=[2**n for n in range(9, 17)], help="with commas")
    parser.add_argument("--widths", type=split_numbers, default=[64, 128, 256], help="head dimensions, with commas")
    parser.add_argument("--causal", type=_split_masks, default=[False, True], help="no, yes, or no,yes")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--max-time", type=float, default=float("inf"), metavar="SECONDS", help="begin no row after it")
    parser.add_argument("--start", type=int, default=0, metavar="N", help="leave out the first N rows")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options = parser.parse_args()
    for given, known in ((options.parts, PARTS), (options.runs, RUNS)):
        if unknown := set(given) - set(known):
            parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(known)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("a CUDA GPU is needed, and PyTorch sees none")
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, B={options.batch} H={options.heads}")
    print_rows(options)


if __name__ == "__main__":
    main()
