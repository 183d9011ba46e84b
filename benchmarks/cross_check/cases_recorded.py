"""Callables that the tests of packages call (benchmarks/recorded_calls.py), each on the path that those tests take."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from case import ROUGH, Case, Make, Shape, draw, function, module, pick, x
from torch import Tensor

SOURCES = torch.tensor([0, 1, 2, 3, 0])
EDGES = torch.stack([SOURCES, torch.tensor([0, 0, 1, 1, 2])])
SORTED = torch.tensor([0, 0, 1, 1, 1, 2])
REAL = torch.tensor([[True, True, False], [True, True, True]])
KDA: dict[str, Shape] = {"q": (2, 5, 3, 4), "k": (2, 5, 3, 4), "v": (2, 5, 3, 5), "g": (2, 5, 3, 4), "beta": (2, 5, 3)}
CHUNK: dict[str, Shape] = {
    "q": (2, 3, 4, 4),
    "k": (2, 3, 4, 4),
    "v": (2, 3, 4, 5),
    "g": (2, 3, 4, 4),
    "beta": (2, 3, 4),
    "state": (2, 3, 4, 5),
}
LATENT = {"q_lora_rank": 6, "kv_lora_rank": 5, "qk_rope_head_dim": 4, "qk_nope_head_dim": 3, "v_head_dim": 7}
GPT = {"block_size": 8, "n_layer": 1, "n_embd": 8, "n_head": 2, "padded_vocab_size": 7, "head_size": 4}
GEMMA = {**GPT, "norm_class_name": "RMSNorm", "attention_logit_softcapping": 5.0, "n_query_groups": 1}


def load(name: str) -> Any:
    """What ``module:name`` stands for; loaded when it is wanted, for its package may not be installed."""
    place, _, symbol = name.partition(":")
    return getattr(importlib.import_module(place), symbol)


def built(build: Callable[[Any], Any], **options: Any) -> Make:
    """A module that is built of other things than plain values."""
    return lambda cls: module(**options)(lambda: build(cls))


def _attention(**options: Any) -> Any:
    method = load("attention_smithy.attention.StandardAttentionMethod:StandardAttentionMethod")
    return load("attention_smithy.components.MultiheadAttention:MultiheadAttention")(12, 3, method(**options))


def _feed() -> Any:
    return load("attention_smithy.components.FeedForwardNetwork:FeedForwardNetwork")(12, 16, "gelu", 0.0)


def _perceiver() -> dict[str, Any]:
    tests = "attention_smithy.components.specialized.tests.test_Perceiver"
    parts = {"cross_attention": "CrossAttention", "feed_forward": "FeedForward", "latent_encoder": "Encoder"}
    return {"latent_dim": 8, "dropout": 0.0, **{name: load(f"{tests}:Dummy{cls}")() for name, cls in parts.items()}}


def _perceiver_layer() -> Any:
    place = "attention_smithy.components.specialized.PerceiverEncoderLayer:PerceiverEncoderLayer"
    return load(place)(**_perceiver())


def _plain() -> dict[str, Any]:
    return {"numeric_embedding_manager": load("attention_smithy.numeric_embeddings:NumericEmbeddingManager")([])}


def _config(**options: Any) -> Any:
    return load("litgpt:Config")(**options)


def _turn(width: int, positions: int = 5) -> tuple[Tensor, Tensor]:
    angles = torch.linspace(0, 2, positions * width, dtype=torch.float64).view(1, positions, width)
    return angles.cos(), angles.sin()


def _mlp(*sizes: int) -> Any:
    return load("torch_geometric.nn:MLP")(list(sizes), norm=None)


def _embedded(**options: Any) -> Make:
    """A model of tokens, differentiated in its parameters alone."""

    def make(cls: Any) -> Case:
        return module(inputs={}, call=lambda m: m(torch.tensor([[1, 3, 5, 2]])), tolerance=ROUGH)(
            lambda: cls(_config(**options))
        )

    return make


def _step(plain: Any, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor) -> Any:
    upper, eye = torch.ones(4, 4).triu(1).bool(), torch.eye(4, dtype=q.dtype)
    return plain(q, k, v, g, beta, state, 0.5, upper, eye)


def _project(cls: Any) -> Case:
    drawn = cls(4, load("torch.nn:ReLU")()).double()
    inputs = draw(dict.fromkeys("qkv", (1, 2, 5, 4)), torch.float64)
    return Case(lambda q, k, v: pick(drawn(q, k, v)), inputs, ROUGH)


def _bert() -> Any:
    small = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 6,
        "vocab_size": 7,
    }
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "attn_implementation": "eager"}
    return load("transformers:BertConfig")(**small, **off)


def _llama() -> Any:
    small = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 6,
        "vocab_size": 7,
    }
    return load("transformers:LlamaConfig")(**small, num_key_value_heads=1, attn_implementation="eager")


def _layer(config: Callable[[], Any], *rest: Any, turned: bool = False) -> Make:
    """A layer of a model, given its configuration."""

    def call(layer: Any, a: Tensor) -> Any:
        found = layer(a, position_embeddings=_turn(4), attention_mask=None) if turned else layer(a)
        return found if isinstance(found, Tensor) else found[0]

    return built(lambda cls: cls(config(), *rest), inputs=x(1, 5, 8), call=call, tolerance=ROUGH)


def _model(config: Callable[[], Any]) -> Make:
    """A model of tokens, differentiated in its parameters alone."""

    def call(model: Any) -> Any:
        found = model(torch.tensor([[1, 3, 5, 2]]))
        return found["logits"] if "logits" in found else found["last_hidden_state"]

    return lambda cls: module(inputs={}, call=call, tolerance=ROUGH)(lambda: cls(config()))


def _eager(groups: int) -> Make:
    shapes: dict[str, Shape] = {"q": (1, 2, 5, 4), "k": (1, 2 // groups, 5, 4), "v": (1, 2 // groups, 5, 4)}
    owner = SimpleNamespace(training=False, num_key_value_groups=groups)
    return function(inputs=shapes, call=lambda f, q, k, v: f(owner, q, k, v, None, 0.5))


_LAYERS: dict[str, Any] = {"dim": 12, "depth": 1, "heads": 2, "tolerance": ROUGH}
"""What the layers of x-transformers are made with."""


def _with_context(*shape: int) -> dict[str, Any]:
    """Inputs and call of layers that attend to a context of a shape."""
    return {"inputs": {"a": (2, 4, 12), "b": shape}, "call": lambda m, a, b: m(a, context=b)}


TRANSFORMERS: dict[str, dict[str, Make]] = {
    "transformers/models/bert/modeling_bert.py": {
        "eager_attention_forward": _eager(1),
        **dict.fromkeys(("BertSelfAttention", "BertAttention", "BertLayer", "BertEncoder"), _layer(_bert)),
        "BertModel": _model(_bert),
    },
    "transformers/models/llama/modeling_llama.py": {
        "eager_attention_forward": _eager(2),
        **dict.fromkeys(("LlamaAttention", "LlamaDecoderLayer"), _layer(_llama, 0, turned=True)),
        **dict.fromkeys(("LlamaModel", "LlamaForCausalLM"), _model(_llama)),
    },
    "x_transformers/x_transformers.py": {
        "AttentionPool": module(
            dim=12, dim_context=8, num_pooled_tokens=1, depth=1, heads=2, dim_head=4, inputs=x(2, 5, 8), tolerance=ROUGH
        ),
        "CrossAttender": module(**_LAYERS, attn_dim_head=4, cross_attn_dim_context=8, **_with_context(2, 5, 8)),
        "Decoder": module(**_LAYERS, attn_dim_head=4, cross_attend=True, **_with_context(2, 3, 12)),
        "Encoder": module(**_LAYERS, attn_dim_head=8, rotary_pos_emb=True, inputs=x(2, 5, 12)),
        "TransformerWrapper": built(
            lambda cls: cls(
                num_tokens=7,
                max_seq_len=8,
                attn_layers=load("x_transformers:Decoder")(dim=12, depth=1, heads=2, attn_dim_head=4),
            ),
            inputs={},
            call=lambda m: m(torch.tensor([[1, 3, 5, 2]])),
            tolerance=ROUGH,
        ),
    },
    "curated_transformers/layers/attention.py": {
        "AttentionLinearBiases": module(
            n_attention_heads=4,
            is_causal=True,
            is_inverted=True,
            inputs=x(1, 4, 1, 3),
            call=lambda m, a: m(attention_scores=a, inplace=False),
        ),
    },
}

SMALL: dict[str, dict[str, Make]] = {
    "attention_smithy/attention/StandardAttentionMethod.py": {
        "StandardAttentionMethod": module(
            is_causal_masking=True,
            inputs=dict.fromkeys("qkv", (2, 3, 5, 4)),
            call=lambda m, q, k, v: m(q, k, v, **_plain(), padding_and_loss_attention_mask=None),
        ),
    },
    "attention_smithy/components/MultiheadAttention.py": {
        "MultiheadAttention": built(
            lambda cls: _attention(is_causal_masking=True),
            inputs=dict.fromkeys("qkv", (2, 5, 12)),
            call=lambda m, q, k, v: m(q, k, v, padding_and_loss_attention_mask=None, **_plain()),
        ),
    },
    "attention_smithy/components/EncoderLayer.py": {
        "EncoderLayer": built(
            lambda cls: cls(12, _attention(), _feed(), 0.0),
            inputs=x(2, 5, 12),
            call=lambda m, a: m(a, None, **_plain()),
        ),
    },
    "attention_smithy/components/DecoderLayer.py": {
        "DecoderLayer": built(
            lambda cls: cls(12, _attention(is_causal_masking=True), _attention(), _feed(), 0.0),
            inputs={"a": (2, 5, 12), "b": (2, 4, 12)},
            call=lambda m, a, b: m(a, b, None, None, **_plain()),
        ),
    },
    "attention_smithy/components/SublayerUnit.py": {
        "SublayerUnit": built(lambda cls: cls(_feed(), 12, 0.0), inputs=x(2, 5, 12)),
    },
    "attention_smithy/components/specialized/PerceiverEncoderLayer.py": {
        "PerceiverEncoderLayer": built(
            lambda cls: cls(**_perceiver()),
            inputs={"a": (2, 4, 8), "b": (2, 5, 10)},
            call=lambda m, a, b: m(a, b, torch.ones(2, 5, dtype=torch.bool)),
        ),
    },
    "attention_smithy/components/specialized/PerceiverEncoder.py": {
        "PerceiverEncoder": built(
            lambda cls: cls(8, 4, _perceiver_layer(), 3, True),
            inputs={},
            call=lambda m: m(torch.ones(2, 5, 10), torch.ones(2, 5, dtype=torch.bool)),
        ),
    },
}

LARGER: dict[str, dict[str, Make]] = {
    "attn_gym/linear/kda/naive.py": {
        "naive_recurrent_kda": function(inputs=KDA, tolerance=ROUGH),
        "naive_chunk_kda": function(inputs=KDA, chunk_size=4, tolerance=ROUGH),
        "_naive_chunk_kda_from_cumulative": function(inputs=KDA, chunk_size=4, tolerance=ROUGH),
        "_naive_chunk_kda_step": function(inputs=CHUNK, call=_step),
    },
    "litgpt/model.py": {
        "Block": built(
            lambda cls: cls(_config(**GEMMA), 0), inputs=x(1, 5, 8), call=lambda m, a: m(a, *_turn(4)), tolerance=ROUGH
        ),
        "CausalSelfAttention": built(
            lambda cls: cls(_config(**GEMMA), 0), inputs=x(1, 5, 8), call=lambda m, a: m(a, *_turn(4)), tolerance=ROUGH
        ),
        "GPT": _embedded(**GEMMA),
        "MultiheadLatentAttention": built(
            lambda cls: cls(_config(**GPT, latent_attention=LATENT), 0),
            inputs=x(1, 5, 8),
            call=lambda m, a: m(a, *_turn(4)),
        ),
    },
    "monai/networks/blocks/selfattention.py": {
        "SABlock": module(12, 3, inputs=x(2, 5, 12)),
    },
    "monai/networks/blocks/crossattention.py": {
        "CrossAttentionBlock": module(12, 3, causal=True, sequence_length=5, save_attn=True, inputs=x(2, 5, 12)),
    },
    "monai/networks/blocks/transformerblock.py": {
        "TransformerBlock": module(12, 8, 3, inputs=x(2, 5, 12)),
    },
}

GEOMETRIC: dict[str, dict[str, Make]] = {
    "torch_geometric/nn/aggr/attention.py": {
        "AttentionalAggregation": built(
            lambda cls: cls(_mlp(4, 1), _mlp(4, 4)),
            inputs=x(6, 4),
            call=lambda m, a: m(a, ptr=torch.tensor([0, 2, 5, 6]), dim_size=3),
        ),
    },
    "torch_geometric/nn/aggr/set_transformer.py": {
        "SetTransformerAggregation": module(
            8, num_seed_points=2, heads=2, inputs=x(6, 8), call=lambda m, a: m(a, SORTED)
        ),
    },
    "torch_geometric/nn/aggr/utils.py": {
        "MultiheadAttentionBlock": module(
            8, 2, False, inputs={"a": (2, 3, 8), "b": (2, 3, 8)}, call=lambda m, a, b: m(a, b, None, None)
        ),
        "PoolingByMultiheadAttention": module(8, 2, 2, False, inputs=x(2, 3, 8), call=lambda m, a: m(a, REAL)),
        "SetAttentionBlock": module(8, 2, False, inputs=x(2, 3, 8)),
    },
    "torch_geometric/nn/attention/performer.py": {
        "PerformerAttention": module(channels=8, heads=2, inputs=x(1, 4, 8), tolerance=ROUGH),
        "PerformerProjection": _project,
        "linear_attention": function(
            inputs=dict.fromkeys("qkv", (1, 2, 5, 4)), call=lambda f, q, k, v: f(q.exp(), k.exp(), v)
        ),
    },
    "torch_geometric/nn/attention/polynormer.py": {
        "PolynormerAttention": module(channels=8, heads=2, inputs=x(1, 4, 8), evaluating=True, tolerance=ROUGH),
    },
    "torch_geometric/nn/attention/qformer.py": {
        "QFormer": module(
            input_dim=8,
            hidden_dim=8,
            output_dim=8,
            num_heads=2,
            num_layers=1,
            dropout=0.0,
            inputs=x(1, 4, 8),
        ),
    },
    "torch_geometric/nn/conv/agnn_conv.py": {
        "AGNNConv": module(requires_grad=True, inputs=x(4, 8), call=lambda m, a: m(a, EDGES)),
    },
    "torch_geometric/nn/conv/gat_conv.py": {
        "GATConv": module(8, 4, heads=2, inputs=x(4, 8), call=lambda m, a: m(a, EDGES)),
    },
    "torch_geometric/nn/conv/gatv2_conv.py": {
        "GATv2Conv": module(8, 4, heads=2, inputs=x(4, 8), call=lambda m, a: m(a, EDGES)),
    },
    "torch_geometric/nn/conv/gps_conv.py": {
        "GPSConv": built(
            lambda cls: cls(8, load("torch_geometric.nn:SAGEConv")(8, 8), heads=2, norm=None),
            inputs=x(4, 8),
            call=lambda m, a: m(a, EDGES),
        ),
    },
    "torch_geometric/nn/conv/supergat_conv.py": {
        "SuperGATConv": module(8, 4, heads=2, inputs=x(4, 8), evaluating=True, call=lambda m, a: m(a, EDGES)),
    },
    "torch_geometric/nn/conv/transformer_conv.py": {
        "TransformerConv": module(8, 4, heads=2, beta=True, inputs=x(4, 8), call=lambda m, a: m(a, EDGES)),
    },
}

CASES: dict[str, Make] = {
    f"{path}:{symbol}": make
    for files in (TRANSFORMERS, SMALL, LARGER, GEOMETRIC)
    for path, symbols in files.items()
    for symbol, make in symbols.items()
}
