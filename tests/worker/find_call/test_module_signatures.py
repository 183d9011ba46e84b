"""Modules whose constructors and forwards ask for what names and sources tell: each gets its due verdict."""

from __future__ import annotations

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.confirm.confirm import Confirmation

SOURCE = """
import torch
from dataclasses import dataclass
from torch import nn


def attend(q, k, v):
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v


class StackAttention(nn.Module):
    def __init__(self, dim, depth=None, causal=False, **kwargs):
        super().__init__()
        assert depth is not None, "`depth` must be passed in"
        assert not kwargs
        self.layers = nn.ModuleList(nn.Linear(dim, 3 * dim) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = x + attend(*layer(x).chunk(3, -1))
        return x


class ForwardingAttention(StackAttention):
    def __init__(self, **kwargs):
        assert "causal" not in kwargs
        super().__init__(causal=False, **kwargs)


class PoppingAttention(nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        dim = kwargs.pop("dim")
        self.layers = nn.ModuleList(nn.Linear(dim, 3 * dim, **kwargs.get("linear", {})) for _ in range(kwargs["depth"]))

    def forward(self, x):
        for layer in self.layers:
            x = x + attend(*layer(x).chunk(3, -1))
        return x


class GraphAttention(nn.Module):
    def __init__(self, in_features, out_features, alpha):
        super().__init__()
        self.linear, self.a, self.alpha = nn.Linear(in_features, out_features), nn.Linear(out_features, 2), alpha

    def forward(self, h, adj):
        h = self.linear(h)
        left, right = self.a(h).unbind(-1)
        scores = nn.functional.leaky_relu(left[:, None] + right, self.alpha)
        assert adj.shape == scores.shape
        return torch.where(adj > 0, scores, -9e15).softmax(-1) @ h


class EdgeAttention(nn.Module):
    def __init__(self, in_channels, heads, edge_dim):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(in_channels, in_channels) for _ in range(3))
        self.e = nn.Linear(edge_dim, in_channels)

    def forward(self, x, edge_index, edge_attr):
        row, col = edge_index
        weights = (self.q(x)[row] * (self.k(x)[col] + self.seen(self.e(edge_attr)))).sum(-1).exp()
        total = x.new_zeros(len(x)).index_add(0, row, weights)
        return torch.zeros_like(x).index_add(0, row, weights[:, None] * self.v(x)[col]) / total[:, None]

    def seen(self, e):
        return e


class DetachedEdgeAttention(EdgeAttention):
    def seen(self, e):
        return e.detach()


class PairAttention(nn.Module):
    def __init__(self, c_s, c_z, no_heads):
        super().__init__()
        self.qkv, self.bias = nn.Linear(c_s, 3 * c_s), nn.Linear(c_z, 1)

    def forward(self, s, z, coords):
        q, k, v = self.qkv(s).chunk(3, -1)
        apart = (coords[:, :, None] - coords[:, None]).square().sum(-1)
        assert coords.shape[-1] == 3
        return (q @ k.mT + self.bias(z).squeeze(-1) - apart).softmax(-1) @ v


@dataclass
class Batch:
    hidden: torch.Tensor
    context: torch.Tensor


class RecordAttention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.q, self.kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)

    def forward(self, batch: Batch):
        k, v = self.kv(batch.context).chunk(2, -1)
        return attend(self.q(batch.hidden), self.seen(k), v)

    def seen(self, k):
        return k


class DetachedRecordAttention(RecordAttention):
    def seen(self, k):
        return k.detach()


class DictAttention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, batch):
        q, k, v = self.qkv(batch["x"]).chunk(3, -1)
        return {"x": batch["x"], "out": attend(q, self.seen(k), v)}

    def seen(self, k):
        return k


class DetachedDictAttention(DictAttention):
    def seen(self, k):
        return k.detach()


class VideoWindowAttention(nn.Module):
    def __init__(self, dim, window_size: tuple[int, int, int]):
        super().__init__()
        self.qkv, self.bias = nn.Linear(dim, 3 * dim), nn.Parameter(torch.zeros(window_size[0] * window_size[2]))

    def forward(self, x):
        return attend(*self.qkv(x).chunk(3, -1)) * self.bias.sum()


class LatentAttention(nn.Module):
    def __init__(self, config, layer_idx):
        super().__init__()
        self.heads, wide = config.num_attention_heads, config.num_attention_heads * config.qk_rope_head_dim
        self.q, self.down = nn.Linear(config.hidden_size, wide), nn.Linear(config.hidden_size, config.kv_lora_rank)
        self.up = nn.Linear(config.kv_lora_rank, 2 * wide)

    def forward(self, x, start_pos, freqs_cis):
        tensors = (self.q(x), *self.up(self.down(x)).chunk(2, -1))
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in tensors)
        turned = (torch.view_as_complex(t.unflatten(-1, (-1, 2))) * freqs_cis for t in (q, k))
        q, k = (torch.view_as_real(t).flatten(-2) for t in turned)
        return attend(q, k, v).transpose(1, 2).flatten(2)


class NeighbourAttention(nn.Module):
    def __init__(self, *, dim):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x, adj_kv_indices, mask):
        q, k, v = self.qkv(x).chunk(3, -1)
        k, v = (t[torch.arange(len(x))[:, None, None], adj_kv_indices] for t in (k, v))
        scores = (q.unsqueeze(-2) @ k.mT).squeeze(-2).masked_fill(~mask.bool(), -1e9)
        return (scores.softmax(-1).unsqueeze(-2) @ v).squeeze(-2)


class BlockAttention(nn.Module):
    def __init__(self, *, dim, block_size):
        super().__init__()
        self.block, self.qkv = block_size, nn.Linear(dim, 3 * dim)

    def forward(self, x):
        b, c, h, w = x.shape
        assert h % self.block == 0 and w % self.block == 0, "sides must be divisible by the block size"
        blocks = x.view(b, c, h // self.block, self.block, w // self.block, self.block).permute(0, 2, 4, 3, 5, 1)
        return attend(*self.qkv(blocks.flatten(3, 4)).chunk(3, -1))


class PairwiseAttention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv, self.bias = nn.Linear(dim, 3 * dim), nn.Linear(dim, 1)

    def forward(self, x, pairwise_repr=None):
        assert pairwise_repr is not None, "pairwise representation must be given"
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.mT + self.bias(pairwise_repr).squeeze(-1)).softmax(-1) @ v


class ContextAttention(nn.Module):
    def __init__(self, query_dim, context_dim=None):
        super().__init__()
        self.q, self.kv = nn.Linear(query_dim, query_dim), nn.Linear(context_dim or query_dim, 2 * query_dim)

    def forward(self, x, context=None):
        context = x if context is None else context.detach()
        return attend(self.q(x), *self.kv(context).chunk(2, -1))


class OptionalWidthAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int, rope_head_dim: int | None = None, v_head_dim: int | None = None):
        super().__init__()
        head = dim // num_heads
        self.heads, self.rope, self.wide = num_heads, rope_head_dim or head // 2, v_head_dim or head
        if self.rope % 2:
            raise ValueError("rope_head_dim must be even")
        widths = (head // 2 + self.rope, head // 2 + self.rope, self.wide)
        self.q, self.k, self.v = (nn.Linear(dim, num_heads * width) for width in widths)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
"""

SAFE = [
    "PoppingAttention",
    "StackAttention",
    "ForwardingAttention",
    "GraphAttention",
    "EdgeAttention",
    "PairAttention",
    "RecordAttention",
    "DictAttention",
    "VideoWindowAttention",
    "LatentAttention",
    "NeighbourAttention",
    "BlockAttention",
    "PairwiseAttention",
]
UNSAFE = {
    "DetachedEdgeAttention": "hard_structural",
    "DetachedRecordAttention": "silent_corruption",
    "DetachedDictAttention": "silent_corruption",
    "ContextAttention": "hard_structural",
    "OptionalWidthAttention": "first_order_only",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    return confirm_source(tmp_path_factory.mktemp("modules"), SOURCE, device="cpu")


@pytest.mark.parametrize("symbol", SAFE)
def test_what_names_and_sources_tell_is_given(found: Confirmation, symbol: str) -> None:
    result = target_of(found, symbol)
    assert result.verdict == "safe", result.reason


@pytest.mark.parametrize("symbol", UNSAFE)
def test_damage_in_what_is_given_is_found(found: Confirmation, symbol: str) -> None:
    result = target_of(found, symbol)
    assert result.verdict == UNSAFE[symbol], result.reason
