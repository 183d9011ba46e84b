"""Time, memory, rate and error of attention with its second derivatives, and of training steps that take them.

    python -m benchmarks.second_order_attention --dtypes bfloat16,float32 --lengths 512,4096,8192 --widths 64,128

For each dtype, head dimension, length and mask: milliseconds of forward + backward, and of these with the double
backward, peak memory beyond inputs and cotangents, the rate by thirty products of (T × D) and (D × M), and the
largest error of any block over its largest entry, against float64 on 256 rows. Beside ``triton`` stand eager attention,
PyTorch's MATH path, torch.compile of eager, and for the first order PyTorch's own choice (``sdpa``).
With ``--steps``: a MAML step, a gradient penalty and a Hessian-vector product of a small BERT and a small ViT (needs
transformers), eager against ours. A CUDA GPU is needed; what does not fit or raises says so.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from theria.attention import attention, everywhere

Run = Callable[..., Tensor]
Step = Callable[[], object]

#: Products of (T × D) and (D × M) in forward, backward and double backward, as the best of kernels would make them.
PRODUCTS = 30
BUDGET = 0.5
"""Seconds that the repetitions of one measurement may take together."""


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


def draw(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs with the weights of the output, and cotangents of the gradients; normally distributed."""
    x = [torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True) for _ in range(4)]
    return x, [torch.randn(shape, device="cuda", dtype=dtype) for _ in range(3)]


def measure_error(run: Run, width: int, dtype: torch.dtype, causal: bool) -> float:
    """The largest error of any block over its largest entry, against eager attention in float64."""
    x, cotangents = draw((1, 2, 256, width), dtype)
    exact_x = [a.detach().double().requires_grad_() for a in x]
    exact = take_second(eager, exact_x, causal, [c.double() for c in cotangents])
    found = take_second(run, x, causal, cotangents)
    return max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True))


def measure(step: Step) -> tuple[float, float]:
    """Median milliseconds, the device idle before and after, and peak MiB beyond what was allocated before."""
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < BUDGET and len(times) < 50):
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times), (torch.cuda.max_memory_allocated() - before) / 2**20


def try_measure(step: Step) -> tuple[float, float] | str:
    """The same, or in a few words why there is none."""
    try:
        return measure(step)
    except torch.OutOfMemoryError:
        return "out of memory"
    except Exception as error:
        return f"{type(error).__name__}"
    finally:
        torch.cuda.empty_cache()


def print_attention(dtypes: list[str], lengths: list[int], widths: list[int], batch: int, heads: int) -> None:
    """Print a row for each dtype, width, length, mask and way of computing attention."""
    ours = partial(attention, backend="triton")
    runs: dict[str, Run] = {"triton": ours, "eager": eager, "MATH": math_path, "compile": torch.compile(eager)}
    print(
        f"{'dtype':9} {'D':>4} {'T':>6} causal {'run':8} {'1st ms':>8} {'ms':>9} {'MiB':>8} {'TFLOP/s':>8} {'error':>8}"
    )
    for name in dtypes:
        dtype = getattr(torch, name)
        for width in widths:
            for length in lengths:
                for causal in (False, True):
                    x, cotangents = draw((batch, heads, length, width), dtype)
                    prefix = f"{name:9} {width:4} {length:6} {causal!s:6}"
                    sdpa = try_measure(partial(take_first, functional.scaled_dot_product_attention, x, causal))
                    print(f"{prefix} {'sdpa':8} {sdpa if isinstance(sdpa, str) else f'{sdpa[0]:8.3f}'}", flush=True)
                    for label, run in runs.items():
                        if label != "triton" and batch * heads * length**2 * 40 > 0.8 * torch.cuda.mem_get_info()[1]:
                            continue
                        if label == "compile" and length > 2048:
                            continue
                        first = try_measure(partial(take_first, run, x, causal))
                        second = try_measure(partial(take_second, run, x, causal, cotangents))
                        if isinstance(first, str) or isinstance(second, str):
                            print(f"{prefix} {label:8} {first if isinstance(first, str) else second}", flush=True)
                            continue
                        flops = PRODUCTS * 2 * batch * heads * length**2 * width * (0.5 if causal else 1)
                        error = measure_error(run, width, dtype, causal)
                        print(
                            f"{prefix} {label:8} {first[0]:8.3f} {second[0]:9.3f} {second[1]:8.0f} "
                            f"{flops / second[0] / 1e9:8.0f} {error:8.1e}",
                            flush=True,
                        )


def build_models() -> dict[str, tuple[torch.nn.Module, dict[str, Tensor]]]:
    """A small BERT and a small ViT with random weights, whose attention is ``F.scaled_dot_product_attention``."""
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    small: dict[str, Any] = {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8}
    small |= {"intermediate_size": 1024, "attn_implementation": "sdpa"}
    bert = BertModel(BertConfig(**small, max_position_embeddings=2048)).cuda().eval()
    vit = ViTModel(ViTConfig(**small, image_size=256, patch_size=8)).cuda().eval()
    tokens = torch.randint(0, 1000, (2, 2048), device="cuda")
    return {
        "BERT, 2048 tokens": (bert, {"input_ids": tokens}),
        "ViT, 1025 patches": (vit, {"pixel_values": torch.randn(2, 3, 256, 256, device="cuda")}),
    }


def take_step(kind: str, model: torch.nn.Module, inputs: dict[str, Tensor]) -> object:
    """One step that needs second derivatives: ``hvp``, ``penalty`` (of the gradient for the parameters) or ``maml``."""
    parameters = dict(model.named_parameters())
    run = partial(torch.func.functional_call, model, kwargs=inputs)

    def take_loss(values: dict[str, Tensor]) -> Tensor:
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


def print_steps() -> None:
    """Print time and memory of each kind of step, with eager (MATH) attention and with ours."""
    print(f"{'model':20} {'dtype':9} {'step':8} {'attention':9} {'ms':>9} {'MiB':>8}")
    for name, (model, inputs) in build_models().items():
        for dtype in ("float32", "bfloat16"):
            for kind in ("hvp", "penalty", "maml"):
                for label, inside in (("MATH", sdpa_kernel(SDPBackend.MATH)), ("triton", everywhere(backend="triton"))):
                    autocast = torch.autocast("cuda", torch.bfloat16) if dtype == "bfloat16" else nullcontext()
                    with inside, autocast:
                        found = try_measure(partial(take_step, kind, model, inputs))
                    cells = found if isinstance(found, str) else f"{found[0]:9.1f} {found[1]:8.0f}"
                    print(f"{name:20} {dtype:9} {kind:8} {label:9} {cells}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", default="bfloat16,float16,float32", help="with commas")
    parser.add_argument("--lengths", default="512,1024,2048,4096,8192,16384,32768,65536", help="with commas")
    parser.add_argument("--widths", default="64,128,256", help="head dimensions, with commas")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--steps", action="store_true", help="training steps of models too")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("a CUDA GPU is needed, and PyTorch sees none")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, B={options.batch} H={options.heads}")
    if options.steps:
        print_steps()
    print_attention(
        options.dtypes.split(","),
        [int(x) for x in options.lengths.split(",")],
        [int(x) for x in options.widths.split(",")],
        options.batch,
        options.heads,
    )


if __name__ == "__main__":
    main()
