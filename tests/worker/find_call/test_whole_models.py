"""Whole models: a number a stage, tokens for encoder and decoder, classes, edges, and a constructor that takes long."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from theria_lint.model import TargetKind
from theria_lint.worker.find_call import run_trial
from theria_lint.worker.find_call.run_trial import WorkingCall
from theria_lint.worker.find_call.search import find_working_call
from theria_lint.worker.find_call.sequence_arguments import find_sequence_lengths
from theria_lint.worker.shims.shim_log import ShimLog


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).softmax(-1) @ v


class Stages(nn.Module):
    """Every stage has numbers of its own."""

    def __init__(self, dims, ratios):  # type: ignore[no-untyped-def]
        super().__init__()
        dims = (dims[0], *dims)
        widths = [(before, after) for before, after, _ in zip(dims[:-1], dims[1:], ratios, strict=True)]
        assert len(ratios) == len(widths)
        self.layers = nn.ModuleList(nn.Linear(before, 3 * after) for before, after in widths)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + attend(*layer(x).chunk(3, -1))
        return x


class ReadByPlace(nn.Module):
    """What is read by place, unpacked, kept; a number, one that may be either, a name that comes to mean another."""

    def __init__(self, depths, sizes, chosen, width, pair, layers, kind):  # type: ignore[no-untyped-def]
        super().__init__()
        self.rows, self.columns = sizes
        self.chosen = chosen
        pair = pair if isinstance(pair, tuple) else (pair, pair)
        layers = [nn.Linear(width, width) for _ in range(depths[-1] + depths[3])]
        self.layers, self.kind = nn.Sequential(*layers), "causal" in kind

    def forward(self, x: Tensor) -> Tensor:
        return x if 1 in self.chosen else self.layers(x)  # type: ignore[no-any-return]


class InsistsOnTuples(nn.Module):
    """Says that it wants a number for each stage, and how many; takes others alone or together."""

    def __init__(self, depth, dims, heads):  # type: ignore[no-untyped-def]
        super().__init__()
        assert isinstance(depth, tuple)
        assert len(dims) == 3
        heads = heads if isinstance(heads, tuple) else (heads,) * len(depth)
        self.layers = nn.ModuleList(nn.Linear(dims[0], 3 * dims[-1]) for number in depth for _ in range(number))
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        for layer, count in zip(self.layers, self.heads, strict=False):
            q, k, v = (part.unflatten(-1, (count, -1)).transpose(1, 2) for part in layer(x).chunk(3, -1))
            x = x + attend(q, k, v).transpose(1, 2).flatten(2)
        return x


class PairsOfLayers(nn.Module):
    """Wants an even number of layers in each stage; without any nothing attends."""

    def __init__(self, dim: int, layers, depth: int) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        assert depth % 2 == 0
        assert all(count % 2 == 0 for count in layers)
        self.mixing = nn.Conv1d(dim, dim, 3, padding=1)
        self.layers = nn.ModuleList(nn.Linear(dim, 3 * dim) for _ in range(depth * sum(layers)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.mixing(x.mT).mT
        for layer in self.layers:
            x = x + attend(*layer(x).chunk(3, -1))
        return x


class FarAttention(nn.Module):
    """Asks for a number that nobody gives."""

    def __init__(self, sizes):  # type: ignore[no-untyped-def]
        super().__init__()
        self.qkv = nn.Linear(sizes[999_999_999], 3)


class EncoderDecoder(nn.Module):
    """Takes tokens twice."""

    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)

    def forward(self, src, tgt):  # type: ignore[no-untyped-def]
        batch, length = tgt.size()
        memory, x = self.embedding(src), self.embedding(tgt) * torch.ones(batch, length, 1)
        return attend(x, memory, memory)


class Classifier(nn.Module):
    """Says nothing where there is one class alone."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(dim, 3 * dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(attend(*self.qkv(x).chunk(3, -1)).mean(-2)).log_softmax(-1)
        return found


class EdgedAttention(nn.Module):
    """Cannot do without what may be left out by its signature."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv, self.edge = nn.Linear(dim, 3 * dim), nn.Linear(dim, 1)

    def forward(self, nodes: Tensor, edges=None) -> Tensor:  # type: ignore[no-untyped-def]
        q, k, v = self.qkv(nodes).chunk(3, -1)
        bias = self.edge(edges if edges is not None else 0)[..., 0]
        return (q @ k.mT + bias).softmax(-1) @ v  # type: ignore[no-any-return]


class PatchedAttention(nn.Module):
    """Takes images of three channels, whatever its own width."""

    def __init__(self, img_size: int = 224, patch_size: int = 16, in_chans: int = 3, embed_dim: int = 192) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)
        self.positions = nn.Parameter(torch.zeros((img_size // patch_size) ** 2, embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT + self.positions
        return attend(x, x, x)


class DeepEncoder(nn.Module):
    """As many layers, of such a width, that a dozen of them take longer than there is time."""

    def __init__(self, vocab_size: int, hidden: int = 768, num_layers: int = 12) -> None:
        super().__init__()
        if hidden * num_layers > 1000:
            end = time.process_time() + 0.2
            while time.process_time() < end:
                pass
        self.embedding = nn.Embedding(vocab_size, hidden)

    def forward(self, x, segment_info):  # type: ignore[no-untyped-def]
        x = self.embedding(x) + self.embedding(segment_info)
        return attend(x, x, x)


def find(cls: Any, seconds: float = 20.0) -> WorkingCall:
    return find_working_call(cls, TargetKind.MODULE, "cpu", {}, seconds, ShimLog())


def test_sequences_are_told_from_numbers() -> None:
    assert find_sequence_lengths(ReadByPlace) == {"depths": 4, "sizes": 2, "chosen": 4}
    assert not find_sequence_lengths(Classifier)
    assert find_sequence_lengths(FarAttention)["sizes"] < 100
    assert find_sequence_lengths(InsistsOnTuples) == {"depth": 2, "dims": 3}


def test_as_many_numbers_are_given_as_there_are_stages() -> None:
    made = find(Stages).make_call()
    assert made.module is not None
    assert [layer.out_features for layer in made.module.layers] == [36, 36]  # type: ignore[union-attr]


def test_a_number_is_given_for_each_stage_where_the_text_insists() -> None:
    made = find(InsistsOnTuples).make_call()
    assert made.module is not None
    assert len(made.module.layers) == 2  # type: ignore[arg-type]


def test_no_model_is_without_layers() -> None:
    made = find(PairsOfLayers).make_call()
    assert made.module is not None
    assert len(made.module.layers) == 8  # type: ignore[arg-type]


def test_tokens_are_given_twice() -> None:
    made = find(EncoderDecoder).make_call()
    assert made.discrete == ("src", "tgt")
    assert list(made.inputs) == ["p"]


def test_there_are_several_classes() -> None:
    made = find(Classifier).make_call()
    assert made.compute_output(*made.inputs.values()).shape[-1] > 1


def test_an_optional_tensor_is_given_where_a_number_stands_for_it() -> None:
    made = find(EdgedAttention).make_call()
    assert set(made.inputs) | set(made.extras) > {"edges"}
    assert torch.isfinite(made.compute_output(*made.inputs.values())).all()


def test_images_have_the_channels_of_the_default() -> None:
    made = find(PatchedAttention).make_call()
    assert made.inputs["x"].shape[1] == 3


def test_defaults_are_made_smaller_where_attempts_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_trial, "SLOW_TRIAL", 0.1)
    call = find(DeepEncoder, seconds=4.0)
    assert call.spec.small
    assert call.make_call().discrete == ("x", "segment_info")
