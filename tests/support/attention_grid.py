"""The cases that the backends are compared on: a seed draws the numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.support.allowed_error import allowed_error, error
from tests.support.attention_oracle import Case, derivative_blocks, eager_attention
from theria.attention import attention

#: Worst error and worst error over its bound, by (backend, dtype, device): the table at the end of a test run.
worst: dict[tuple[str, str, str], tuple[float, float, str]] = {}


def build(
    *, batch: int = 1, heads: int = 2, key_heads: int = 2, queries: int = 5, keys: int = 7, width: int = 4,
    value_width: int = 3, mask: str = "none", causal: bool = False, scale: float | None = None,
    mask_shape: tuple[bool, ...] = (True, True, True, True), dtype: torch.dtype = torch.float64, strided: bool = False,
    seed: int = 0,
) -> Case:  # fmt: skip
    """A case on the CPU.

    ``mask`` is none, bool, additive or hidden (additive with −∞); row 0 of a boolean or hidden mask shows no key.
    ``mask_shape`` says which dimensions of the mask are not broadcast.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        if strided and len(shape) == 4:
            b, h, t, d = shape
            return (
                torch.randn(b, t, h, 2 * d, generator=generator, dtype=torch.float64)
                .to(dtype)[..., ::2]
                .transpose(1, 2)
            )
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    tensors = (
        draw(batch, heads, queries, width),
        draw(batch, key_heads, keys, width),
        draw(batch, key_heads, keys, value_width),
        draw(batch, heads, queries, value_width),
    )
    shape = [n if wide else 1 for n, wide in zip((batch, heads, queries, keys), mask_shape, strict=True)]
    attn_mask = None
    if mask in ("bool", "hidden"):
        shown = torch.rand(shape, generator=generator) > 0.3
        shown[..., 0, :] = False
        attn_mask = shown if mask == "bool" else draw(*shape).masked_fill(~shown, -torch.inf)
    elif mask == "additive":
        attn_mask = draw(*shape)
    if attn_mask is not None and mask != "bool":
        attn_mask = attn_mask.requires_grad_()
    q, k, v, w = (x.requires_grad_() for x in tensors)
    return Case(q, k, v, w, attn_mask, causal, scale, heads != key_heads)


def check_blocks(case: Case, backend: str) -> None:
    """Every block of the backend within the bound that ``tolerances`` derives; all misses are named in the message."""
    dtype = case.q.dtype
    exact = dict(derivative_blocks(case.map(lambda x: x.double()), eager_attention))
    eager = dict(derivative_blocks(case, eager_attention))
    misses = []
    for name, block in derivative_blocks(case, lambda *args, **kwargs: attention(*args, backend=backend, **kwargs)):
        if name not in exact:  # eager attention has no graph there: out is linear in v
            assert not block.any()
            continue
        assert block.dtype == (torch.promote_types(dtype, torch.float32) if name == "lse" else eager[name].dtype)
        size = _size(exact, name)
        bound = allowed_error(
            exact[name], eager[name], size=size, dtype=dtype, terms=case.terms, largest_logit=case.largest_logit
        )
        found = error(block, exact[name])
        _remember((backend, str(dtype).removeprefix("torch."), case.q.device.type), name, found / size, found / bound)
        if found > bound:
            misses.append(f"{name}: error {found:.2e}, allowed {bound:.2e}")
    assert not misses, f"{backend} {dtype}: " + "; ".join(misses)


def _size(exact: dict[str, Tensor], name: str) -> float:
    """The largest entry of all blocks of the same order, and at least the order of the inputs, which is one."""
    same_order = [x for other, x in exact.items() if ("," in other) == ("," in name)]
    return max(1.0, *(float(x.detach().abs().max()) for x in same_order))


def _remember(key: tuple[str, str, str], name: str, found: float, share: float) -> None:
    before = worst.get(key, (0.0, 0.0, ""))
    worst[key] = (max(found, before[0]), max(share, before[1]), name if found > before[0] else before[2])
