"""Attention that takes other tensors than q, k and v of one length: each kind once safe and once broken.

A source with ``{p}``, the probabilities, and a call of it on float64 tensors, written out by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ENDS = torch.tensor([0, 4, 9, 11])
RIGHT = "s.softmax(-1)"
CONSTANT_SUM = "s.exp() / s.exp().sum(-1, keepdim=True).detach()"
AFTER_A_BORDER = f"{RIGHT} if start == 0 else {CONSTANT_SUM}"


@dataclass(frozen=True)
class Kind:
    """A kernel: its text, what breaks it, the shapes of its inputs, and how it is called with these."""

    source: str
    broken: str
    shapes: Mapping[str, tuple[int, ...]]
    call: Callable[..., Tensor]
    right: str = RIGHT

    def text(self, name: str, p: str) -> str:
        return self.source.replace("NAME", name).replace("{p}", p)

    def function(self, p: str) -> Callable[..., Tensor]:
        space: dict[str, Any] = {"torch": torch}
        exec(self.text("kernel", p), space)
        return lambda **inputs: self.call(space["kernel"], **inputs)


QKV = dict.fromkeys("qkv", (11, 2, 6))

KINDS = {
    "packed": Kind(
        """
def NAME(q, k, v, cu_seqlens, max_seqlen):
    outs = []
    for start, end in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist()):
        s = torch.einsum("thd,shd->hts", q[start:end], k[start:end]) * q.shape[-1] ** -0.5
        outs.append(torch.einsum("hts,shd->thd", {p}, v[start:end]))
    return torch.cat(outs)
""",
        AFTER_A_BORDER,
        QKV,
        lambda f, **x: f(**x, cu_seqlens=ENDS, max_seqlen=5),
    ),
    "optionally_packed": Kind(
        """
def NAME(q, k, v, cu_seqlens=None):
    if cu_seqlens is None:
        s = torch.einsum("bthd,bshd->bhts", q, k) * q.shape[-1] ** -0.5
        return torch.einsum("bhts,bshd->bthd", s.softmax(-1), v)
    assert q.shape[0] == 1
    outs = []
    for a, b in zip(cu_seqlens[:-1], cu_seqlens[1:]):
        s = torch.einsum("bthd,bshd->bhts", q[:, a:b], k[:, a:b]) * q.shape[-1] ** -0.5
        outs.append(torch.einsum("bhts,bshd->bthd", {p}, v[:, a:b]))
    return torch.cat(outs, 1)
""",
        CONSTANT_SUM,
        dict.fromkeys("qkv", (1, 11, 2, 6)),
        lambda f, **x: f(**x, cu_seqlens=ENDS),
    ),
    "packed_by_lengths_heads_first": Kind(
        """
def NAME(q, k, v, seqlens):
    s = q @ k.mT * q.shape[-1] ** -0.5
    number = torch.repeat_interleave(torch.arange(len(seqlens)), torch.as_tensor(seqlens))
    s = s.masked_fill(number[:, None] != number, float("-inf"))
    return ({p}) @ v
""",
        CONSTANT_SUM,
        dict.fromkeys("qkv", (2, 11, 6)),
        lambda f, **x: f(**x, seqlens=ENDS.diff().tolist()),
    ),
    "qkv_packed": Kind(
        """
def NAME(qkv, cu_seqlens, max_seqlen, softmax_scale=None):
    lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).tolist()
    outs = []
    for q, k, v in zip(*(x.split(lengths) for x in qkv.unbind(1))):
        s = torch.einsum("thd,shd->hts", q, k) * (softmax_scale or q.shape[-1] ** -0.5)
        outs.append(torch.einsum("hts,shd->thd", {p}, v))
    return torch.cat(outs)
""",
        CONSTANT_SUM,
        {"qkv": (11, 3, 2, 6)},
        lambda f, **x: f(**x, cu_seqlens=ENDS, max_seqlen=5),
    ),
    "multi_query": Kind(
        """
def NAME(q, k, v):
    s = torch.einsum("b h i d, b j d -> b h i j", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("b h i j, b j d -> b h i d", {p}, v)
""",
        CONSTANT_SUM,
        {"q": (2, 2, 5, 6), "k": (2, 7, 6), "v": (2, 7, 6)},
        lambda f, **x: f(**x),
    ),
    "grouped": Kind(
        """
def NAME(q, k, v):
    groups = q.shape[1] // k.shape[1]
    s = q @ k.repeat_interleave(groups, 1).mT * q.shape[-1] ** -0.5
    p = s.softmax(-1) if groups == 1 else {p}
    return p @ v.repeat_interleave(groups, 1)
""",
        CONSTANT_SUM,
        {"q": (2, 4, 5, 6), "k": (2, 2, 7, 6), "v": (2, 2, 7, 6)},
        lambda f, **x: f(**x),
    ),
    "latent": Kind(
        """
def NAME(q, c_kv, w_uk, w_uv, n_heads):
    split = lambda x: x.unflatten(-1, (n_heads, -1)).transpose(1, 2)
    s = split(q) @ split(c_kv @ w_uk).mT * (q.shape[-1] // n_heads) ** -0.5
    return (({p}) @ split(c_kv @ w_uv)).transpose(1, 2).flatten(2)
""",
        CONSTANT_SUM,
        {"q": (2, 5, 8), "c_kv": (2, 7, 3), "w_uk": (3, 8), "w_uv": (3, 8)},
        lambda f, **x: f(**x, n_heads=2),
    ),
    "absorbed": Kind(
        """
def NAME(q_nope, q_pe, kv_cache, pe_cache, wkv_b):
    d = q_nope.shape[-1]
    s = torch.einsum("bshc,btc->bsht", torch.einsum("bshd,hdc->bshc", q_nope, wkv_b[:, :d]), kv_cache)
    s = s + torch.einsum("bshr,btr->bsht", q_pe, pe_cache)
    return torch.einsum("bshc,hdc->bshd", torch.einsum("bsht,btc->bshc", {p}, kv_cache), wkv_b[:, -d:])
""",
        CONSTANT_SUM,
        {
            "q_nope": (2, 3, 2, 4),
            "q_pe": (2, 3, 2, 5),
            "kv_cache": (2, 7, 3),
            "pe_cache": (2, 7, 5),
            "wkv_b": (2, 8, 3),
        },
        lambda f, **x: f(**{n: t / 2 for n, t in x.items()}),
    ),
    "optional_lengths": Kind(
        """
def NAME(q, k, v, mask=None, kv_lens=None):
    s = q @ k.mT * q.shape[-1] ** -0.5
    if mask is not None:
        s = s + mask
    if kv_lens is None:
        return s.softmax(-1) @ v
    s = s.masked_fill((torch.arange(k.shape[-2]) >= kv_lens[:, None])[:, None, None], -1e4)
    return ({p}) @ v
""",
        CONSTANT_SUM,
        dict.fromkeys("qkv", (2, 2, 5, 6)),
        lambda f, **x: f(**x, kv_lens=torch.tensor([3, 5])),
    ),
    "weights": Kind(
        """
def NAME(x, w_qkv, w_out, att_vec, num_heads):
    B, T, C = x.shape
    q, k, v = (t.view(B, T, num_heads, -1).transpose(1, 2) for t in (x @ w_qkv).chunk(3, -1))
    s = (q @ k.mT) * (C // num_heads) ** -0.5
    return (({p}) @ v).transpose(1, 2).reshape(B, T, C) * att_vec @ w_out
""",
        CONSTANT_SUM,
        {"x": (2, 5, 6), "w_qkv": (6, 18), "w_out": (6, 4), "att_vec": (6,)},
        lambda f, **x: f(**x, num_heads=2),
    ),
    "graph": Kind(
        """
def NAME(h, adj, a_src, a_dst):
    s = torch.tanh((h @ a_src)[:, None] + (h @ a_dst)[None, :]).masked_fill(adj == 0, float("-inf"))
    return ({p}) @ h
""",
        CONSTANT_SUM,
        {"h": (4, 6), "a_src": (6,), "a_dst": (6,)},
        lambda f, **x: f(**x, adj=torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1]])),
    ),
    "edges": Kind(
        """
def NAME(x, edge_index):
    source, target = edge_index
    weight = torch.tanh((x[source] * x[target]).sum(-1)).exp()
    total = torch.zeros_like(x[:, 0]).index_add(0, target, weight)[target]
    share = weight / {p}
    return torch.zeros_like(x).index_add(0, target, share[:, None] * x[source])
""",
        "total.detach()",
        {"x": (4, 6)},
        lambda f, **x: f(**x, edge_index=torch.tensor([[0, 1, 2, 3, 1, 3], [0, 1, 2, 3, 0, 2]])),
        right="total",
    ),
    "rotary": Kind(
        """
def NAME(q, k, v, cos, sin):
    turn = lambda x: x * cos + torch.cat((-x[..., x.shape[-1] // 2 :], x[..., : x.shape[-1] // 2]), -1) * sin
    s = turn(q) @ turn(k).mT * q.shape[-1] ** -0.5
    return ({p}) @ v
""",
        CONSTANT_SUM,
        dict.fromkeys("qkv", (2, 2, 5, 6)),
        lambda f, **x: f(**x, cos=torch.linspace(0, 1, 30).view(5, 6), sin=torch.linspace(1, 0, 30).view(5, 6)),
    ),
    "padded_blocks": Kind(
        """
def NAME(q, k, v, lengths, block_mask, alibi_slopes, block_size=4):
    t, m = q.shape[-2], k.shape[-2]
    seen = block_mask.repeat_interleave(block_size, -2).repeat_interleave(block_size, -1)[..., :t, :m]
    seen = seen.bool() & (torch.arange(m) < lengths[:, None])[:, None, None]
    far = (torch.arange(t)[:, None] - torch.arange(m)).abs()
    s = q @ k.mT * q.shape[-1] ** -0.5 - far * alibi_slopes[:, None, None]
    s = s.masked_fill(~seen, -1e4)
    return ({p}) @ v
""",
        CONSTANT_SUM,
        dict.fromkeys("qkv", (2, 2, 5, 6)),
        lambda f, **x: f(
            **x,
            lengths=torch.tensor([4, 5]),
            block_mask=torch.tensor([[1, 0], [1, 1]]),
            alibi_slopes=torch.tensor([0.5, 0.25], dtype=torch.float64),
        ),
    ),
}
