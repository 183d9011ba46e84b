"""More eager packages from PyPI, of many authors: how each callable is built and called."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from case import EXACT, ROUGH, Make, Shape, function, module, qkv, x
from cases import HEADS

SINGLE: dict[str, Any] = {"dtype": torch.float32, "tolerance": ROUGH}
"""For code that computes in float32 whatever it is given."""

SDPA = {"Q": (2, 3, 6, 4), "K": (2, 3, 6, 4), "V": (2, 3, 6, 4)}
DEPTH = {**SDPA, "K_depth": (2, 3, 12, 4), "V_depth": (2, 3, 12, 4)}


MODA = SimpleNamespace(
    d_model=12, num_heads=3, num_kv_heads=3, head_dim=4, num_layers=2, use_triton=False, chunk_size=None, dropout=0.0
)

LATENT = SimpleNamespace(
    d_model=12, num_heads=3, kv_compressed_dim=5, q_compressed_dim=6, rope_dim=2, seq_len=6, dropout=0.0, use_bias=False
)
SCALES = SimpleNamespace(multiway=False, layernorm_eps=1e-6)
ALL = torch.ones(2, 6, dtype=torch.bool)
NEIGHBOURS = torch.arange(5)[None, :, None].add(torch.arange(3)).remainder(5).expand(2, -1, -1)
TURNS = torch.linspace(-1, 1, 24, dtype=torch.float64).view(6, 4)


def qkv3(batch: int, positions: int, width: int) -> dict[str, Shape]:
    """The shapes of q, k and v that a module projects itself."""
    return dict.fromkeys("qkv", (batch, positions, width))


FILES: dict[str, dict[str, Make]] = {
    "MEGABYTE_pytorch/attend.py": {
        "Attend": module(inputs=qkv(keys=8)),
    },
    "MEGABYTE_pytorch/megabyte.py": {
        "Attention": module(dim=12, **HEADS, inputs=x(2, 6, 12)),
    },
    "adjacent_attention_network/adjacent_attention_network.py": {
        "AdjacentAttention": module(
            dim=12, **HEADS, inputs=x(2, 5, 12), call=lambda m, a: m(a, NEIGHBOURS, torch.ones(2, 5, 3))
        ),
    },
    "attnhut/bigbird.py": {
        "BigBirdAttention": module(12, 3, 2, 1, 1, 1, inputs=x(2, 8, 12)),
    },
    "attnhut/cjepa.py": {
        "CausalJEPAAttention": module(12, 3, 4, 2, 1, 1, depth=1, inputs=x(2, 2, 4, 12)),
    },
    "attnhut/compressed.py": {
        "HeavilyCompressedAttention": module(24, 3, compression_rate=4, window=3, inputs=x(2, 8, 24), tolerance=ROUGH),
        "CompressedSparseAttention": module(
            24, 3, top_k=2, num_index_heads=2, index_dim=8, window=3, inputs=x(2, 8, 24), tolerance=ROUGH
        ),
    },
    "attnhut/deepseek_sparse.py": {
        "DeepSeekSparseAttention": module(12, 3, top_k=3, num_index_heads=2, index_head_dim=4, inputs=x(2, 8, 12)),
    },
    "attnhut/delta.py": {
        "DeltaAttention": module(12, 3, window=3, sink=1, stride=3, inputs=x(2, 8, 12)),
    },
    "attnhut/differential.py": {
        "DifferentialAttention": module(24, 3, inputs=x(2, 6, 24), tolerance=ROUGH),
    },
    "attnhut/gqa.py": {
        "GroupedQueryAttention": module(16, 4, 2, inputs=x(2, 6, 16)),
    },
    "attnhut/minimax_sparse.py": {
        "MiniMaxSparseAttention": module(16, 4, 2, block_size=2, top_k=2, inputs=x(2, 8, 16), tolerance=ROUGH),
    },
    "attnhut/mla.py": {
        "MultiHeadLatentAttention": module(24, 3, inputs=x(2, 6, 24)),
    },
    "attnhut/mqa.py": {
        "MultiQueryAttention": module(12, 3, inputs=x(2, 6, 12)),
    },
    "attnhut/slot.py": {
        "SlotAttention": module(12, 3, hidden_dim=16, inputs=x(2, 6, 12)),
    },
    "attnhut/standard.py": {
        "StandardAttention": module(12, 3, inputs=x(2, 6, 12)),
    },
    "bottleneck_transformer_pytorch/bottleneck_transformer_pytorch.py": {
        "Attention": module(dim=12, fmap_size=(3, 2), heads=3, dim_head=4, inputs=x(2, 12, 3, 2)),
    },
    "complex_valued_transformer/attend.py": {
        "Attend": module(inputs=qkv(keys=8)),
    },
    "compositional_attention_pytorch/compositional_attention_pytorch.py": {
        "CompositionalAttention": module(12, 4, 3, 2, inputs=x(2, 6, 12)),
    },
    "compressive_transformer_pytorch/compressive_transformer_pytorch.py": {
        "full_attn": function(inputs=qkv(keys=8)),
        "SelfAttention": module(12, 6, 4, 2, heads=3, inputs=x(2, 6, 12), call=lambda m, a: m(a, calc_memory=False)),
    },
    "conformer/conformer.py": {
        "Attention": module(12, **HEADS, max_pos_emb=5, inputs=x(2, 6, 12)),
    },
    "coordinate_descent_attention/coordinate_descent_attention.py": {
        "Attention": module(12, 4, 3, inputs=x(2, 6, 12)),
    },
    "egnn_pytorch/egnn_pytorch.py": {
        "Attention": module(12, **HEADS, inputs={"x": (2, 6, 12), "context": (2, 5, 12)}),
        "GlobalLinearAttention": module(dim=12, **HEADS, inputs={"x": (2, 6, 12), "queries": (2, 5, 12)}),
    },
    "en_transformer/en_transformer.py": {
        "EquivariantAttention": module(
            dim=12, dim_head=4, heads=3, coors_hidden_dim=5, inputs={"feats": (2, 6, 12), "coors": (2, 6, 3)}
        ),
    },
    "fast_transformer_pytorch/fast_transformer_pytorch.py": {
        "FastAttention": module(12, **HEADS, max_seq_len=6, inputs=x(2, 6, 12), call=lambda m, a: m(a, ALL)),
    },
    "fast_weight_attention/fast_weight_attention.py": {
        "ReverseCausalAttention": module(12, inputs=x(2, 6, 12)),
        "FastWeightAttention": module(12, 4, heads=3, inputs=x(2, 6, 12)),
    },
    "flash_pytorch/flash_pytorch.py": {
        "LaplacianAttnFn": module(inputs=x(2, 5, 6)),
        "GAU": module(dim=12, query_key_dim=5, inputs=x(2, 6, 12)),
    },
    "goat/attention.py": {
        "GoatAttention": module(24, 2, batch_first=True, pos_rank=2, abs_rank=2, inputs=qkv3(2, 6, 24), **SINGLE),
    },
    "grouped_query_attention_pytorch/attention.py": {
        "scaled_dot_product_gqa": function(inputs={"q": (2, 6, 4, 5), "k": (2, 7, 2, 5), "v": (2, 7, 2, 5)}),
        "MultiheadGQA": module(32, 4, 2, inputs=qkv3(2, 6, 32)),
    },
    "grouped_query_attention_pytorch/transformer.py": {
        "GQATransformerEncoderLayer": module(32, 4, 2, 20, 0.0, inputs=x(2, 6, 32)),
        "GQATransformerDecoderLayer": module(32, 4, 2, 20, 0.0, inputs={"x": (2, 6, 32), "memory": (2, 5, 32)}),
    },
    "gsa_pytorch/gsa_pytorch.py": {
        "GSA": module(12, rel_pos_length=3, heads=3, dim_key=4, inputs=x(2, 12, 3, 3), **SINGLE),
    },
    "halonet_pytorch/halonet_pytorch.py": {
        "HaloAttention": module(dim=12, block_size=2, halo_size=1, **HEADS, inputs=x(2, 12, 4, 4)),
    },
    "iTransformer/attend.py": {
        "Attend": module(inputs=qkv(keys=8)),
    },
    "iTransformer/iTransformer.py": {
        "Attention": module(12, 4, 3, inputs=x(2, 6, 12)),
    },
    "iTransformer/iTransformer2D.py": {
        "Attention": module(12, 4, 3, inputs=x(2, 6, 12)),
    },
    "iTransformer/iTransformerFFT.py": {
        "Attention": module(12, 4, 3, inputs=x(2, 6, 12)),
    },
    "invariant_point_attention/invariant_point_attention.py": {
        "InvariantPointAttention": module(
            dim=12,
            heads=2,
            scalar_key_dim=4,
            scalar_value_dim=4,
            inputs={"x": (2, 5, 12), "pairs": (2, 5, 5, 12), "rotations": (2, 5, 3, 3), "translations": (2, 5, 3)},
            call=lambda m, a, b, r, t: m(a, b, rotations=r, translations=t),
        ),
    },
    "isab_pytorch/isab_pytorch.py": {
        "Attention": module(12, **HEADS, inputs={"x": (2, 6, 12), "context": (2, 5, 12)}),
    },
    "kl_div_attention/kl_div_attention.py": {
        "KLDivAttention": module(12, **HEADS, inputs=x(2, 6, 12)),
    },
    "lambda_networks/lambda_networks.py": {
        "LambdaLayer": module(12, dim_k=4, r=3, heads=3, inputs=x(2, 12, 4, 4)),
    },
    "leetDecoding/methods/FleetAttention.py": {
        "FleetAttention": function(inputs=qkv()),
    },
    "leetDecoding/methods/causal_dot_product_torch.py": {
        "CausalDotProductTorch": function(inputs=qkv()),
    },
    "leetDecoding/methods/lightningAttention2_torch.py": {
        "lightningAttention2_torch": function(inputs=qkv(), tolerance=ROUGH),
    },
    "leetDecoding/methods/linear_attn.py": {
        "linear_attn": function(inputs=qkv(), tolerance=ROUGH),
    },
    "lightning_attn/ops/torch/linear_attention.py": {
        "linear_attn": function(inputs=qkv(), tolerance=ROUGH),
    },
    "memory_compressed_attention/memory_compressed_attention.py": {
        "MemoryCompressedAttention": module(12, heads=3, inputs=x(2, 6, 12)),
    },
    "mixture_of_attention/attend.py": {
        "Attend": module(inputs=qkv(keys=8)),
    },
    "mixture_of_attention/mixture_of_attention.py": {
        "Attention": module(12, dim_head=4, heads=3, inputs=x(2, 6, 12)),
        "MixtureOfAttention": module(
            12,
            num_routed_queries=3,
            num_routed_key_values=4,
            dim_head=4,
            heads=3,
            use_triton=False,
            flash_attn=False,
            inputs=x(2, 8, 12),
        ),
        "MixtureOfAutoregressiveAttention": module(
            12,
            num_routed_queries=1,
            num_routed_key_values=2,
            local_attn_window_size=3,
            dim_head=4,
            heads=3,
            flash_attn=False,
            inputs=x(2, 12, 12),
        ),
    },
    "mla/attention.py": {
        "MLA": module(LATENT, inputs=x(2, 6, 12)),
    },
    "moda/attention.py": {
        "MoDAAttention": module(MODA, inputs={"x": (2, 6, 12), "k": (2, 3, 12, 4), "v": (2, 3, 12, 4)}),
    },
    "moda/kernels/moda_naive.py": {
        "moda_attention_naive": function(inputs=DEPTH, num_layers=2, tolerance=EXACT),
        "_moda_chunked": function(inputs=DEPTH, num_layers=2, scale=0.5, chunk_size=2),
    },
    "mtla/mtla_hf/mtla_attention.py": {
        "MultiheadTemporalLatentAttentionHF": module(
            12,
            3,
            kv_lora_rank=8,
            qk_nope_head_dim=4,
            qk_rope_head_dim=2,
            v_head_dim=4,
            inputs=x(2, 6, 12),
            tolerance=ROUGH,
        ),
    },
    "noflash_attention/patch.py": {
        "chunked_sdpa": function(inputs=SDPA, block_m=2),
        "chunked_sdpa_online": function(inputs=SDPA, block_m=2, block_n=2, **SINGLE),
        "chunked_sdpa_inplace": function(inputs=SDPA, block_m=2),
        "patched_sdpa": function(inputs=SDPA),
    },
    "noflash_attention/patch_v9.py": {
        "chunked_sdpa": function(inputs=SDPA, block_m=2),
        "chunked_sdpa_inplace": function(inputs=SDPA, block_m=2),
        "patched_sdpa": function(inputs=SDPA),
    },
    "pascal_attn/_core.py": {
        "tiled_attention": function(inputs=SDPA, tile_size=3, **SINGLE),
    },
    "pascal_attn/functional.py": {
        "tiled_attention": function(inputs=SDPA, tile_size=3, **SINGLE),
    },
    "pascal_attn/hf.py": {
        "_eager_fallback": function(
            inputs=SDPA, call=lambda f, q, k, v: f(torch.nn.Identity(), q, k, v, None, 0.5, 0.0), **SINGLE
        ),
    },
    "pascal_attn/nn.py": {
        "TiledAttention": module(3, inputs=SDPA, tile_size=3, **SINGLE),
    },
    "point_transformer_pytorch/point_transformer_pytorch.py": {
        "PointTransformerLayer": module(
            dim=12, pos_mlp_hidden_dim=5, attn_mlp_hidden_mult=2, inputs={"x": (2, 5, 12), "points": (2, 5, 3)}
        ),
    },
    "simple_hierarchical_transformer/attention.py": {
        "Attend": module(inputs=qkv(keys=8)),
    },
    "simple_hierarchical_transformer/simple_hierarchical_transformer.py": {
        "Attention": module(12, **HEADS, inputs=x(2, 6, 12)),
    },
    "simplicial_attention/nth_directional_attn.py": {
        "nth_directional_attend": function(
            inputs=dict.fromkeys(("q", "v", "r", "w"), (2, 3, 4, 5)), call=lambda f, q, v, r, w: f((q, v), (r, w))
        ),
    },
    "simplicial_attention/simplicial_attention.py": {
        "nth_order_attend": function(
            inputs=dict.fromkeys(("q", "a", "b", "v", "w"), (2, 3, 4, 5)),
            call=lambda f, q, a, b, v, w: f(q, (a, b), (v, w)),
        ),
    },
    "simplicial_attention/simplicial_mha.py": {
        "TwoSimplicialMHA": module(dim=12, dim_head=4, heads=2, inputs=x(2, 5, 12)),
    },
    "simplicial_attention/two_simplicial_transformer.py": {
        "Attention": module(12, 4, 4, 2, inputs=x(2, 6, 12)),
    },
    "slot_attention_pytorch/slot_attention_module.py": {
        "SlotAttentionModule": module(3, 10, 12, mlp_size=16, inputs=x(2, 6, 10)),
    },
    "srf_attention/att.py": {
        "Attention": module(4, False, inputs=qkv(), call=lambda m, q, k, v: m(q, k, v, mode="train", attn_fn="torch")),
    },
    "srf_attention/torch_low_mem_attn.py": {
        "Attention": function(
            inputs=qkv(1, 2), call=lambda f, q, k, v: f(q.abs() + 0.1, k.abs() + 0.1, v, None, True, None)
        ),
    },
    "strassen_attention/strassen_attention.py": {
        "strassen_attend": function(inputs=dict.fromkeys(("q", "k1", "k2", "v1", "v2"), (2, 3, 4, 5))),
    },
    "strassen_attention/strassen_mha.py": {
        "StrassenMHA": module(12, 4, heads=3, inputs=x(2, 5, 12)),
    },
    "tab_transformer_pytorch/ft_transformer.py": {
        "Attention": module(12, **HEADS, inputs=x(2, 6, 12)),
    },
    "tab_transformer_pytorch/tab_transformer_pytorch.py": {
        "Attention": module(12, **HEADS, inputs=x(2, 6, 12)),
    },
    "torch_multi_head_attention/multi_head_attention.py": {
        "ScaledDotProductAttention": module(inputs=qkv()),
        "MultiHeadAttention": module(12, 3, inputs=qkv3(2, 6, 12)),
    },
    "torchscale/component/multiscale_retention.py": {
        "MultiScaleRetention": module(
            SCALES,
            12,
            12,
            3,
            inputs=x(2, 6, 12),
            call=lambda m, a: m(a, ((TURNS.sin(), TURNS.cos()), torch.ones(6, 6).tril())),
        ),
    },
    "trim_transformer/functional.py": {
        "_multi_linear_attn_no_mask": function(inputs=qkv(), dropout_p=0.0, kv_cache=0.5),
        "multi_linear_attn": function(inputs=qkv(), is_causal=True),
    },
    "trim_transformer/modules.py": {
        "TrimMultiheadAttention": module(12, 3, batch_first=True, inputs=qkv3(2, 6, 12)),
    },
    "trinix/layers/attention/grouped_query_attention.py": {
        "FastGroupedQueryAttention": module(16, 4, 2, inputs=x(2, 6, 16), **SINGLE),
    },
    "trinix/layers/attention/multi_query_attention.py": {
        "FastMultiQueryAttention": module(12, 3, inputs=x(2, 6, 12), **SINGLE),
    },
    "trinix/layers/attention/multihead_attention.py": {
        "FastMultiHeadAttention": module(12, 3, inputs=x(2, 6, 12), **SINGLE),
    },
    "trinix/layers/attention/multihead_latent_attention.py": {
        "FastMultiHeadLatentAttention": module(12, 3, latent_dim=5, inputs=x(2, 6, 12), **SINGLE),
    },
    "trinix/layers/attention/multihead_self_attention.py": {
        "FastMultiHeadSelfAttention": module(12, 3, inputs=x(2, 6, 12), **SINGLE),
    },
    "uattn/attention.py": {
        "UnifiedAttention": module(18, 3, inputs=x(2, 6, 18)),
    },
    "x_clip/x_clip.py": {
        "Attention": module(12, 4, 3, inputs=x(2, 6, 12), tolerance=ROUGH),
    },
}

CASES = {f"{file}:{symbol}": make for file, cases in FILES.items() for symbol, make in cases.items()}
