"""Triton kernels of packages from PyPI: how each is called."""

from __future__ import annotations

import torch
from case import KERNEL, Make, function, module, qkv, x

CASTLE = dict.fromkeys(("q", "k", "v", "qu", "ku", "vu"), (1, 2, 16, 16))

FILES: dict[str, dict[str, Make]] = {
    "flash_attention_triton/flash_attention_2.py": {
        "flash_attention_v2": function(inputs=qkv(1, 2, 32, 32, 16), **KERNEL),
    },
    "jvp_flash_attention/jvp_attention.py": {
        "JVPAttn": function(
            inputs=qkv(1, 2, 64, 64, 32),
            call=lambda f, q, k, v: f(q, k, v, None, None, None, None, 0.0, False, None, True, False, False),
            **KERNEL,
        ),
    },
    "kl_div_attention/fused_flash_attn.py": {
        "fused_flash_attn": function(inputs=qkv(1, 2, 32, 32, 16), **KERNEL),
    },
    "liger_kernel/ops/fused_neighborhood_attention.py": {
        "LigerFusedNeighborhoodAttentionFunction": function(inputs=qkv(1, 2, 16, 16, 16), **KERNEL),
    },
    "liger_kernel/transformers/functional.py": {
        "liger_fused_neighborhood_attention": function(inputs=qkv(1, 2, 16, 16, 16), kernel_size=3, **KERNEL),
    },
    "liger_kernel/transformers/fused_neighborhood_attention.py": {
        "LigerFusedNeighborhoodAttention": module(16, 1, 3, inputs=x(1, 16, 16), **KERNEL),
        "LigerFusedNeighborhoodAttentionLayer": module(16, 1, 3, inputs=x(1, 16, 16), **KERNEL),
    },
    "lightning_attn/ops/triton/lightning_attn2.py": {
        "LightningAttention2": function(
            inputs=qkv(1, 2, 64, 64, 32), call=lambda f, q, k, v: f(q, k, v, torch.tensor([0.1, 0.3])), **KERNEL
        ),
    },
    "lightning_attn/ops/triton/lightning_attn2_no_decay.py": {
        "LightningAttention2NoDecay": function(inputs=qkv(1, 2, 64, 64, 32), **KERNEL),
    },
    "lookahead_keys_attention/lookahead_keys_attention.py": {
        "Castle": module(12, heads=3, dim_head=16, use_triton=True, inputs=x(1, 16, 12), **KERNEL),
    },
    "lookahead_keys_attention/lookahead_keys_attention_triton.py": {
        "CastleAttentionFunction": function(inputs=CASTLE, call=lambda f, *six: f(*six, 0.25, False), **KERNEL),
    },
    "moda/kernels/moda_triton.py": {
        "moda_attention_triton": function(
            inputs={
                **dict.fromkeys(("Q", "K", "V"), (1, 2, 16, 16)),
                **dict.fromkeys(("K_depth", "V_depth"), (1, 2, 32, 16)),
            },
            num_layers=2,
            **KERNEL,
        ),
    },
    "sageattention/core.py": {
        "sageattn": function(
            inputs=qkv(1, 2, 64, 64, 64), call=lambda f, *all3: f(*(t.clone() for t in all3)), **KERNEL
        ),
    },
    "trinix/kernels/attention_kernel.py": {
        "TritonAttentionKernel.apply": function(inputs=dict.fromkeys("qkv", (1, 32, 2, 16)), **KERNEL),
    },
    "trinix/layers/attention/functional.py": {
        "triton_attn_func": function(inputs=dict.fromkeys("qkv", (1, 32, 2, 16)), **KERNEL),
    },
}

CASES = {f"{file}:{symbol}": make for file, cases in FILES.items() for symbol, make in cases.items()}
