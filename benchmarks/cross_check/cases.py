"""Attention packages of small modules: how each callable is built and called, one line each, written by hand."""

from __future__ import annotations

from typing import Any

import torch
from case import EXACT, KERNEL, ROUGH, Make, function, module, qkv, x

HEADS: dict[str, Any] = {"heads": 3, "dim_head": 4}
COLT5: dict[str, Any] = {"num_heavy_tokens_q": 3, "num_heavy_tokens_kv": 4, "light_window_size": 3}
COLT5 |= {"light_heads": 2, "light_dim_head": 4, "heavy_heads": 2, "heavy_dim_head": 4}

FILES: dict[str, dict[str, Make]] = {
    "local_attention/local_attention.py": {
        "LocalAttention": module(window_size=4, dim=6, inputs=qkv(queries=12, keys=12, dim=6)),
    },
    "local_attention/transformer.py": {
        "LocalMHA": module(dim=12, window_size=4, **HEADS, inputs=x(2, 8, 12)),
    },
    "linformer/linformer.py": {
        "LinformerSelfAttention": module(12, 9, k=5, heads=3, inputs=x(2, 9, 12)),
    },
    "performer_pytorch/performer_pytorch.py": {
        "linear_attention": function(inputs=qkv(), call=lambda f, q, k, v: f(q.exp(), k.exp(), v)),
        "causal_linear_attention_noncuda": function(
            inputs=qkv(), call=lambda f, q, k, v: f(q.exp(), k.exp(), v, chunk_size=2)
        ),
        "FastAttention": module(4, nb_features=7, inputs=qkv()),
        "Attention": module(12, **HEADS, nb_features=7, inputs=x(2, 6, 12)),
        "SelfAttention": module(12, **HEADS, nb_features=7, inputs=x(2, 6, 12)),
        "CrossAttention": module(
            12,
            **HEADS,
            nb_features=7,
            inputs={"x": (2, 5, 12), "context": (2, 7, 12)},
            call=lambda m, a, b: m(a, context=b),
        ),
    },
    "nystrom_attention/nystrom_attention.py": {
        "NystromAttention": module(12, **HEADS, num_landmarks=4, residual_conv_kernel=3, inputs=x(2, 8, 12)),
    },
    "memory_efficient_attention_pytorch/cosine_sim_flash_attention.py": {
        "FlashAttentionFunction": function(
            inputs=qkv(), call=lambda f, q, k, v: f(q, k, v, None, 1.5, False, 4, 3), tolerance=ROUGH
        ),
        "FlashAttention": module(
            dim=12, **HEADS, q_bucket_size=4, k_bucket_size=4, inputs=x(2, 8, 12), tolerance=ROUGH
        ),
    },
    "memory_efficient_attention_pytorch/flash_attention.py": {
        "FlashAttentionFunction": function(
            inputs=qkv(), call=lambda f, q, k, v: f(q, k, v, None, False, 4, 3), dtype=torch.float32, tolerance=ROUGH
        ),
        "FlashAttention": module(
            dim=12, **HEADS, q_bucket_size=4, k_bucket_size=4, inputs=x(2, 8, 12), dtype=torch.float32, tolerance=ROUGH
        ),
    },
    "memory_efficient_attention_pytorch/memory_efficient_attention.py": {
        "memory_efficient_attention": function(inputs=qkv(keys=8), q_bucket_size=3, k_bucket_size=4),
        "attention": function(inputs=qkv(keys=8)),
        "Attention": module(dim=12, **HEADS, inputs=x(2, 6, 12)),
    },
    "memory_efficient_attention_pytorch/memory_efficient_cosine_sim_attention.py": {
        "numerically_unstable_memory_efficient_attention": function(
            inputs=qkv(keys=8), q_bucket_size=3, k_bucket_size=4
        ),
        "attention": function(inputs=qkv(keys=8)),
        "CosineSimAttention": module(dim=12, seq_len=6, **HEADS, inputs=x(2, 6, 12)),
    },
    "perceiver_pytorch/experimental.py": {
        "LinearAttention": module(12, **HEADS, inputs=x(2, 6, 12)),
    },
    "perceiver_pytorch/perceiver_io.py": {
        "Attention": module(12, **HEADS, inputs=x(2, 6, 12)),
        "EnformerAttentionResidual": module(12, rank=4, inputs=x(4, 2, 5, 12)),
    },
    "perceiver_pytorch/perceiver_pytorch.py": {
        "Attention": module(12, **HEADS, inputs=x(2, 6, 12)),
        "EnformerAttentionResidual": module(12, rank=4, inputs=x(4, 2, 5, 12)),
    },
    "axial_attention/axial_attention.py": {
        "SelfAttention": module(12, 3, inputs=x(2, 6, 12)),
        "AxialAttention": module(12, heads=3, inputs=x(2, 3, 5, 12)),
    },
    "taylor_series_linear_attention/attention.py": {
        "TaylorSeriesLinearAttn": module(12, **HEADS, inputs=x(2, 6, 12)),
        "ChannelFirstTaylorSeriesLinearAttn": module(12, **HEADS, inputs=x(2, 12, 3, 2)),
    },
    "taylor_series_linear_attention/poly_attention.py": {
        "TaylorSeriesPolyAttention": module(12, heads=3, dim_head=8, inputs=x(2, 6, 12)),
    },
    "ring_attention_pytorch/ring_attention.py": {
        "default_attention": function(inputs=dict.fromkeys("qkv", (2, 6, 3, 4)), causal=True),
        "RingAttention": module(
            dim=12,
            **HEADS,
            bucket_size=3,
            use_cuda_kernel=False,
            inputs=x(2, 6, 12),
            dtype=torch.float32,
            tolerance=ROUGH,
        ),
    },
    "ring_attention_pytorch/ring_flash_attention.py": {
        "RingFlashAttentionFunction": function(
            inputs=dict.fromkeys("qkv", (2, 6, 3, 4)),
            call=lambda f, q, k, v: f(q, k, v, None, False, 3, False, False, None, None, False, 50.0),
            dtype=torch.float32,
            tolerance=ROUGH,
        ),
        "ring_flash_attn": function(
            inputs=dict.fromkeys("qkv", (2, 6, 3, 4)), bucket_size=3, dtype=torch.float32, tolerance=ROUGH
        ),
    },
    "linear_attention_transformer/images.py": {
        "ImageLinearAttention": module(12, heads=3, key_dim=4, value_dim=5, inputs=x(2, 12, 3, 2)),
    },
    "linear_attention_transformer/linear_attention_transformer.py": {
        "linear_attn": function(inputs=qkv()),
        "causal_linear_attn": function(inputs=qkv(queries=8, keys=8), bucket_size=4),
        "SelfAttention": module(12, 3, inputs=x(2, 6, 12)),
        "LinearAttentionTransformer": module(12, 2, 6, heads=3, inputs=x(2, 6, 12)),
        "LinearAttentionTransformerLM": module(
            num_tokens=11,
            dim=12,
            depth=1,
            max_seq_len=6,
            heads=3,
            inputs={},
            call=lambda m: m(torch.arange(12).view(2, 6) % 11),
        ),
    },
    "flash_cosine_sim_attention/flash_cosine_sim_attention.py": {
        "plain_cosine_sim_attention": function(inputs=qkv(keys=8), scale=3),
    },
    "flash_cosine_sim_attention/transformer.py": {
        "non_cosine_sim_attn_fn": function(inputs=qkv()),
        "Attention": module(12, **HEADS, inputs=x(2, 6, 12)),
    },
    "flash_cosine_sim_attention/triton_flash_cosine_sim_attention.py": {
        "TritonFlashCosineSimAttention": function(
            inputs=qkv(1, 2, 32, 32, 16),
            call=lambda f, q, k, v: f(q, k, v, None, 1.5, False, True),
            **KERNEL,
        ),
        "triton_flash_cosine_sim_attention": function(inputs=qkv(1, 2, 32, 32, 16), scale=3, **KERNEL),
    },
    "routing_transformer/routing_transformer.py": {
        "apply_rotary_pos_emb": function(
            inputs=dict.fromkeys("qkv", (6, 5, 4)),
            call=lambda f, q, k, v: f(q, k, v, torch.linspace(-1, 1, 20).view(1, 5, 4)),
        ),
        "KmeansAttention": module(
            num_clusters=3, window_size=4, num_heads=2, head_dim=4, inputs=qkv(2, 2, 12, 12, 4), evaluating=True
        ),
        "SelfAttention": module(
            12, 1, 12, heads=3, local_attn_heads=1, window_size=4, inputs=x(2, 12, 12), evaluating=True
        ),
    },
    "x_transformers/attend.py": {
        "Attend": module(heads=3, inputs=qkv(keys=8)),
    },
    "x_transformers/x_transformers.py": {
        "TransformerBlock": module(12, heads=3, attn_dim_head=4, inputs=x(2, 6, 12), tolerance=ROUGH),
        "AttentionResidual": module(20, lora_rank=4, inputs=x(4, 2, 5, 20)),
        "Attention": module(12, **HEADS, inputs=x(2, 6, 12)),
        "AttentionLayers": module(12, 1, heads=3, attn_dim_head=4, inputs=x(2, 6, 12), tolerance=ROUGH),
        "AttentionPool": module(12, heads=3, dim_head=4, inputs=x(2, 6, 12), tolerance=ROUGH),
        "CoPE": module(4, 3, 5, inputs={"query": (2, 3, 6, 4), "logits": (2, 3, 6, 6)}),
    },
    "agent_attention_pytorch/agent_attention_pytorch.py": {
        "AgentSelfAttention": module(12, num_agent_tokens=4, **HEADS, inputs=x(2, 6, 12)),
    },
    "agent_attention_pytorch/agent_transformer.py": {
        "AgentSelfAttention": module(
            12,
            num_agent_tokens=4,
            **HEADS,
            inputs={"x": (2, 6, 12), "agent": (2, 4, 12)},
            call=lambda m, a, b: m(a, agent_tokens=b),
        ),
    },
    "infini_transformer_pytorch/infini_transformer.py": {
        "CausalAttention": module(12, **HEADS, inputs=x(2, 6, 12)),
    },
    "mega_pytorch/mega_pytorch.py": {
        "LaplacianAttnFn": module(inputs=x(2, 5, 6)),
        "SingleHeadedAttention": module(dim=12, dim_qk=5, dim_value=7, inputs=x(2, 6, 12)),
    },
    "recurrent_memory_transformer_pytorch/attend.py": {
        "Attend": module(inputs=qkv(keys=8)),
    },
    "recurrent_memory_transformer_pytorch/recurrent_memory_transformer.py": {
        "Attention": module(dim=12, **HEADS, inputs=x(2, 6, 12)),
    },
    "slot_attention/slot_attention.py": {
        "SlotAttention": module(3, 12, hidden_dim=16, inputs=x(2, 6, 12)),
    },
    "slot_attention/multi_head_slot_attention.py": {
        "MultiHeadSlotAttention": module(3, 12, heads=3, dim_head=4, hidden_dim=16, inputs=x(2, 6, 12)),
    },
    "slot_attention/slot_attention_experimental.py": {
        "WeightedAttention": module(12, inputs={"x": (2, 3, 12), "context": (2, 6, 12)}),
        "SlotAttentionExperimental": module(3, 12, hidden_dim=16, inputs=x(2, 6, 12)),
    },
    "native_sparse_attention_pytorch/compress_networks.py": {
        "SimpleMultiheadSelfAttention": module(12, 3, inputs=x(2, 6, 12)),
        "AttentionPool": module(4, 3, inputs=x(2, 2, 3, 3, 4)),
    },
    "native_sparse_attention_pytorch/native_sparse_attention.py": {
        "attend": function(inputs=qkv(keys=8)),
        "SparseAttention": module(
            12,
            8,
            2,
            2,
            compress_block_size=4,
            compress_block_sliding_stride=2,
            selection_block_size=4,
            num_selected_blocks=1,
            causal=True,
            inputs=x(2, 12, 12),
        ),
    },
    "native_sparse_attention_pytorch/transformer.py": {
        "Attention": module(12, 4, 3, inputs=x(2, 6, 12)),
    },
    "titans_pytorch/nested_attention.py": {
        "NestedAttention": module(12, **HEADS, inputs=x(2, 6, 12)),
    },
    "titans_pytorch/mac_transformer.py": {
        "SegmentedAttention": module(
            12,
            4,
            num_persist_mem_tokens=2,
            num_longterm_mem_tokens=1,
            heads=3,
            dim_head=4,
            inputs=x(2, 8, 12),
            tolerance=ROUGH,
        ),
    },
    "titans_pytorch/memory_models.py": {
        "MemoryAttention": module(12, inputs=x(2, 6, 12)),
    },
    "titans_pytorch/neural_memory.py": {
        "AttentionPool": module(12, 3, inputs=x(2, 6, 12)),
    },
    "titans_pytorch/implicit_mlp_attention.py": {
        "ImplicitMLPAttention": module(12, (4, 4, 4), heads=3, inputs=x(2, 6, 12)),
    },
    "colt5_attention/attend.py": {
        "Attend": module(inputs=qkv(keys=8)),
    },
    "colt5_attention/transformer_block.py": {
        "SelfAttention": module(12, heads=3, dim_head=4, inputs=x(2, 6, 12)),
        "Attention": module(12, heads=3, dim_head=4, inputs=x(2, 6, 12)),
        "ConditionalRoutedAttention": module(12, **COLT5, inputs=x(2, 8, 12)),
        "ConditionalRoutedImageAttention": module(12, **{**COLT5, "light_window_size": 4}, inputs=x(2, 4, 4, 12)),
        "ConditionalRoutedAutoregressiveAttention": module(
            12, **{**COLT5, "num_heavy_tokens_q": 1, "num_heavy_tokens_kv": 2}, inputs=x(2, 12, 12)
        ),
    },
    "reformer_pytorch/reformer_pytorch.py": {
        "LSHAttention": module(bucket_size=4, n_hashes=2, inputs={"qk": (2, 16, 6), "v": (2, 16, 6)}, tolerance=EXACT),
        "FullQKAttention": module(inputs={"qk": (2, 6, 4), "v": (2, 6, 4)}),
        "LSHSelfAttention": module(12, heads=3, bucket_size=4, n_hashes=2, inputs=x(2, 16, 12)),
    },
    "sinkhorn_transformer/sinkhorn_transformer.py": {
        "AttentionSortNet": module(3, 2, 2, 4, True, 0.75, 5, inputs={"q": (6, 8, 4), "k": (6, 8, 4)}),
        "CausalAttentionSortNet": module(3, 2, 4, 0.75, inputs={"q": (6, 8, 4), "k": (6, 8, 4)}),
        "SinkhornAttention": module(2, 12, 4, 3, 8, inputs=qkv(queries=8, keys=8)),
        "SinkhornCausalAttention": module(2, 12, 4, 4, 8, inputs=qkv(heads=4, queries=8, keys=8)),
        "SinkhornSelfAttention": module(12, 2, 8, heads=3, inputs=x(2, 8, 12)),
    },
}

CASES = {f"{file}:{symbol}": make for file, cases in FILES.items() for symbol, make in cases.items()}
