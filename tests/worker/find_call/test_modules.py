"""Modules that ask for more than (B,T,C), or hide what is wrong with them: each gets the verdict that it deserves."""

from __future__ import annotations

import pytest

from tests.support.confirming import confirm_source, target_of
from theria_lint.confirm.confirm import Confirmation
from theria_lint.report.sentences import say

SOURCE = """
import torch
from dataclasses import dataclass
from torch import nn


def attend(q, k, v):
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v


class ImageAttention(nn.Module):
    def __init__(self, chan, heads=2):
        super().__init__()
        self.qkv, self.heads = nn.Conv2d(chan, 3 * chan, 1), heads

    def forward(self, img):
        b, c, h, w = img.shape
        q, k, v = self.qkv(img).view(b, 3, self.heads, c // self.heads, h * w).mT.unbind(1)
        return attend(q, k, v).mT.reshape(b, c, h, w)


class GridAttention(nn.Module):
    def __init__(self, dim, fmap_size):
        super().__init__()
        self.qkv, self.bias = nn.Linear(dim, 3 * dim), nn.Parameter(torch.zeros(fmap_size**2, dim))

    def forward(self, x, H, W):
        b, n, c = x.shape
        assert n == H * W
        return attend(*self.qkv(x + self.bias).chunk(3, -1)).view(b, H, W, c)


class SquareAttention(nn.Module):
    # Of square images of one size; there is no room for what larger ones would take.

    def __init__(self, dim, n=None):
        super().__init__()
        assert n is not None, "n, which is height and width, is needed"
        if n > 16:
            raise MemoryError
        self.qkv, self.bias = nn.Conv2d(dim, 3 * dim, 1), nn.Parameter(torch.randn(n * n, n * n))

    def forward(self, img):
        q, k, v = self.qkv(img).flatten(2).mT.chunk(3, -1)
        scores = torch.einsum("bid,bjd->bij", q, k) + self.bias
        return (scores.softmax(-1) @ v).mT.reshape(img.shape)


class DistanceAttention(nn.Module):
    # With a single position, as which it takes (T,C), it does not depend on q and k.
    def __init__(self, dim):
        super().__init__()
        self.q, self.k, self.v, self.places = (nn.Linear(dim, dim) for _ in range(4))
        self.dim = dim

    def forward(self, query, key, value, pos_embedding):
        b = value.size(0)
        q, k, v = (f(x).view(b, -1, self.dim) for f, x in ((self.q, query), (self.k, key), (self.v, value)))
        distances = q @ self.places(pos_embedding).view(b, -1, self.dim).mT
        padded = torch.cat([distances.new_zeros(*distances.shape[:2], 1), distances], -1)
        moved = padded.view(b, padded.shape[2], padded.shape[1])[:, 1:].view_as(distances)
        scores = q @ k.mT + moved[..., : distances.shape[-1] // 2 + 1]
        return scores.softmax(-1) @ v


class FeatureAttention(nn.Module):
    def __init__(self, features, *, head_features, num_heads):
        super().__init__()
        self.heads = num_heads
        self.qkv = nn.Linear(features, 3 * head_features * num_heads)
        self.out = nn.Linear(head_features * num_heads, features)

    def forward(self, x):
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.out(attend(q, k, v).transpose(1, 2).flatten(2))


class PlacedAttention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv, self.places = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x, pos_emb):
        q, k, v = self.qkv(x).chunk(3, -1)
        places = self.places(pos_emb).unsqueeze(0)
        assert places.dim() == 3, "positions without a batch"
        return attend(q + places, k + places, v)


class LayersAttention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.query = nn.Parameter(torch.randn(dim))

    def forward(self, hiddens):
        stacked = torch.stack(hiddens, -2)
        return torch.softmax(stacked @ self.query, -1).unsqueeze(-2).matmul(stacked).squeeze(-2)


class SharedAttention(nn.Module):
    def forward(self, qk, v):
        return attend(qk, nn.functional.normalize(qk, dim=-1), v), None


class ForwardingAttention(SharedAttention):
    def __init__(self, *args, **kwargs):
        super().__init__()
        self.inner = GridAttention(*args, fmap_size=4, **kwargs)

    def forward(self, x):
        return self.inner(x, 4, 4)


@dataclass
class Settings:
    hidden_size: int = 4096
    num_attention_heads: int = 32
    kind: str = "plain"


class ConfiguredAttention(nn.Module):
    def __init__(self, settings_config: Settings):
        super().__init__()
        assert settings_config.kind == "plain"
        self.qkv = nn.Linear(settings_config.hidden_size, 3 * settings_config.hidden_size)

    def forward(self, x, position_embeddings, attention_mask):
        cos, sin = position_embeddings
        return {"out": attend(*self.qkv(x * cos.mean() + sin.mean()).chunk(3, -1))}


class KindedAttention(nn.Module):
    def __init__(self, dim, attn_type):
        super().__init__()
        if attn_type not in {"near"}:
            raise ValueError("unknown")
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x):
        return attend(*self.qkv(x).chunk(3, -1))


class ExitingAttention(nn.Module):
    def __init__(self, dim, causal=False):
        super().__init__()
        if causal:
            print("install something first")
            exit()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x):
        return attend(*self.qkv(x).chunk(3, -1))


class AttentionLM(nn.Module):
    def __init__(self, num_tokens, dim):
        super().__init__()
        self.embed, self.qkv = nn.Embedding(num_tokens, dim), nn.Linear(dim, 3 * dim)

    def forward(self, x):
        return attend(*self.qkv(self.embed(x)).chunk(3, -1))


class SortedAttention(nn.Module):
    def __init__(self, bucket_size, temperature, sort_iter):
        super().__init__()
        self.bucket_size, self.temperature, self.iterations = bucket_size, temperature, sort_iter

    def forward(self, q, k, topk=1):
        sums = [t.unflatten(1, (-1, self.bucket_size)).sum(2) for t in (q, k)]
        scores = sums[0] @ sums[1].mT / self.temperature
        for _ in range(self.iterations):
            scores = scores - scores.logsumexp(-1, keepdim=True)
        return scores.tril(-1)


class ZeroGateAttention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv, self.gate = nn.Linear(dim, 3 * dim), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.gate * attend(*self.qkv(x).chunk(3, -1)).detach()


class LateZeroAttention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv, self.out = nn.Linear(dim, 3 * dim), None

    def forward(self, x):
        if self.out is None:
            self.out = nn.Linear(x.shape[-1], x.shape[-1], bias=False)
            nn.init.zeros_(self.out.weight)
        return x.cumsum(1) + self.out(attend(*self.qkv(x).chunk(3, -1)).detach())


class SwitchedOffAttention(nn.Module):
    def __init__(self, dim, enabled=False):
        super().__init__()
        self.qkv, self.enabled = nn.Linear(dim, 3 * dim), enabled

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return x + attend(q, k, v) if self.enabled else x + v


class RoutedAttention(nn.Module):
    def __init__(self, dim, *, num_heavy_tokens):
        super().__init__()
        self.qkv, self.score, self.heavy = nn.Linear(dim, 3 * dim), nn.Linear(dim, 1), num_heavy_tokens

    def forward(self, x):
        out = attend(*self.qkv(x).chunk(3, -1))
        if x.shape[1] <= self.heavy:
            return out
        scores = self.score(x).sigmoid()
        return out * (scores + (1 - scores).detach())


class SaturatedAttention(nn.Module):
    def __init__(self, dim, heads=2):
        super().__init__()
        self.qkv, self.score = nn.Linear(dim, 3 * dim), nn.Linear(dim, 1)

    def forward(self, x):
        scores = (3 * self.score(x[:, :1])).clamp(0, 1)
        return attend(*self.qkv(x).chunk(3, -1)) * (scores + (1 - scores).detach())


class BucketedAttention(nn.Module):
    def __init__(self, dim, bucket_size=64):
        super().__init__()
        self.qkv, self.bucket_size = nn.Linear(dim, 3 * dim), bucket_size

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        if x.shape[1] <= self.bucket_size:
            return attend(q, k, v)
        return torch.cat([attend(q_, k_.detach(), v_) for q_, k_, v_ in zip(*(t.split(4, 1) for t in (q, k, v)))], 1)
"""

SAFE = [
    "ImageAttention",
    "GridAttention",
    "SquareAttention",
    "DistanceAttention",
    "FeatureAttention",
    "PlacedAttention",
    "LayersAttention",
    "SharedAttention",
    "ForwardingAttention",
    "ConfiguredAttention",
    "KindedAttention",
    "ExitingAttention",
    "AttentionLM",
    "SortedAttention",
]
UNSAFE = ["ZeroGateAttention", "LateZeroAttention", "RoutedAttention", "BucketedAttention", "SaturatedAttention"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Confirmation:
    return confirm_source(tmp_path_factory.mktemp("modules"), SOURCE, device="cpu")


@pytest.mark.parametrize("symbol", SAFE)
def test_a_module_that_asks_for_more_is_built_and_called(found: Confirmation, symbol: str) -> None:
    result = target_of(found, symbol)
    assert result.verdict == "safe", result.reason


@pytest.mark.parametrize("symbol", UNSAFE)
def test_damage_behind_a_zero_or_a_large_default_is_found(found: Confirmation, symbol: str) -> None:
    result = target_of(found, symbol)
    assert result.verdict.startswith("silent"), result.reason


def test_an_attention_that_is_switched_off_is_not_called_safe(found: Confirmation) -> None:
    result = target_of(found, "SwitchedOffAttention")
    assert result.verdict == "inconclusive"
    assert "no position of its output depends on another position" in say(result.reason)
