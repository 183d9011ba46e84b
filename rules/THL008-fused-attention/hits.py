"""Calls whose backward depends on the kernel that PyTorch takes."""

import torch.nn.functional as F


def fused_attention(q, k, v):  # verdict: first_order_only
    return F.scaled_dot_product_attention(q, k, v)  # expect: THL008 confirmed
