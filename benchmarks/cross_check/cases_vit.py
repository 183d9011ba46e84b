"""The attention of vit-pytorch: most of its files hold one that is built and called alike."""

from __future__ import annotations

import torch
from case import ROUGH, Make, function, module, qkv, x
from cases import HEADS

TOKENS = x(2, 6, 12)
IMAGE = x(2, 12, 4, 4)

PLAIN = [
    "cait",
    "cross_vit",
    "deepvit",
    "jet_vit",
    "jumbo_vit",
    "learnable_memory_vit",
    "local_vit",
    "look_vit",
    "looped_vit",
    "mp3",
    "na_vit",
    "normalized_vit",
    "parallel_vit",
    "pit",
    "simple_flash_attn_vit_3d",
    "simple_uvit",
    "simple_vit",
    "simple_vit_1d",
    "simple_vit_3d",
    "simple_vit_attn_residual",
    "simple_vit_orthog_residual_update",
    "simple_vit_with_fft",
    "simple_vit_with_hyper_connections",
    "simple_vit_with_patch_dropout",
    "simple_vit_with_qk_norm",
    "simple_vit_with_register_tokens",
    "simple_vit_with_sparse_gating",
    "simple_vit_with_value_residual",
    "vat",
    "vat_siglip",
    "vit",
    "vit_1d",
    "vit_3d",
    "vit_5",
    "vit_detpool",
    "vit_with_decorr",
    "vit_with_keel_post_ln",
    "vit_with_patch_dropout",
    "vit_with_patch_merger",
    "vivit",
    "vivit_with_moss",
    "xcit",
]
"""Files whose ``Attention`` takes a width, heads and their width, and then (B,T,C)."""

OTHERS: dict[str, Make] = {
    "ats_vit.py:Attention": module(
        12, **HEADS, inputs=TOKENS, call=lambda m, a: m(a, mask=torch.ones(2, 6, dtype=torch.bool))
    ),
    "attn_residual_with_dca_simple_vit.py:Attention": module(
        12, **HEADS, inputs={"q": (2, 6, 12), "k": (2, 6, 12), "v": (2, 6, 12)}
    ),
    "attn_residual_with_dca_simple_vit.py:AttentionResidual": module(
        12, inputs={"a": (2, 5, 12), "b": (2, 5, 12), "c": (2, 5, 12)}, call=lambda m, *history: m(list(history))
    ),
    "cct.py:Attention": module(12, num_heads=3, attention_dropout=0.0, projection_dropout=0.0, inputs=TOKENS),
    "cct_3d.py:Attention": module(12, num_heads=3, attention_dropout=0.0, projection_dropout=0.0, inputs=TOKENS),
    "crossformer.py:Attention": module(12, "short", 2, dim_head=4, inputs=IMAGE, dtype=torch.float32, tolerance=ROUGH),
    "cvt.py:Attention": module(12, 3, 2, **HEADS, inputs=IMAGE),
    "jet_vit.py:linear_attn": function(inputs=qkv(), call=lambda f, q, k, v: f(q.exp(), k.exp(), v)),
    "jet_vit.py:JetViTLinearAttention": module(12, 2, 3, **HEADS, inputs=TOKENS),
    "jet_vit.py:WindowAttention": module(12, 4, 4, dim_head=4, window_size=2, inputs=x(2, 16, 12)),
    "levit.py:Attention": module(12, 4, heads=3, dim_key=4, dim_value=5, inputs=IMAGE),
    "levjepa_nd.py:Attention": module(12, **HEADS, inputs=TOKENS, call=lambda m, a: m(a, None, None, None, None)),
    "max_vit.py:Attention": module(12, dim_head=4, window_size=2, inputs=x(2, 2, 2, 2, 2, 12)),
    "mobile_vit.py:Attention": module(12, **HEADS, inputs=x(2, 3, 5, 12)),
    "nest.py:Attention": module(12, heads=3, inputs=IMAGE),
    "regionvit.py:Attention": module(12, **HEADS, inputs=TOKENS),
    "rvt.py:Attention": module(
        12, **HEADS, use_rotary=False, use_ds_conv=False, inputs=TOKENS, call=lambda m, a: m(a, None, None)
    ),
    "scalable_vit.py:ScalableSelfAttention": module(12, heads=3, dim_key=4, dim_value=5, inputs=IMAGE),
    "scalable_vit.py:InteractiveWindowedSelfAttention": module(12, 2, heads=3, dim_key=4, dim_value=4, inputs=IMAGE),
    "simple_vit_attn_residual.py:AttentionResidual": module(
        torch.nn.Identity(),
        12,
        **HEADS,
        inputs={"a": (2, 5, 12), "b": (2, 5, 12), "c": (2, 5, 12)},
        call=lambda m, *history: m(list(history)),
    ),
    "twins_svt.py:GlobalAttention": module(12, **HEADS, k=2, inputs=IMAGE),
    "twins_svt.py:LocalAttention": module(12, **HEADS, patch_size=2, inputs=IMAGE),
    "vit_with_patch_merger.py:PatchMerger": module(12, 4, inputs=TOKENS),
    "xcit.py:XCAttention": module(12, **HEADS, inputs=x(2, 3, 5, 12)),
}

CASES = {f"vit_pytorch/{file}.py:Attention": module(12, heads=3, dim_head=4, inputs=TOKENS) for file in PLAIN}
CASES |= {f"vit_pytorch/{key}": make for key, make in OTHERS.items()}
