"""Calls whose backward depends on the kernel that PyTorch takes."""

import torch.nn.functional as F
from torch import nn


def fused_attention(q, k, v):  # verdict: first_order_only
    return F.scaled_dot_product_attention(q, k, v)  # expect: THL008 confirmed


class Encoder(nn.Module):  # verdict: first_order_only
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)  # expect: THL008 confirmed
        self.layers = nn.TransformerEncoder(layer, num_layers=1)

    def forward(self, x):
        return self.layers(x)
