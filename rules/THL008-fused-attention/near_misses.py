"""The same call with the backend fixed, and a function of the same name that is written out."""

import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def math_attention(q, k, v):  # verdict: safe
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v)  # near miss: the math backend has every derivative


def scaled_dot_product_attention(q, k, v):  # verdict: safe
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


def written_out(q, k, v):  # verdict: safe
    return scaled_dot_product_attention(q, k, v)  # near miss: this file's own function


class TransformerEncoderLayer(nn.Module):  # verdict: safe
    def forward(self, q, k, v):
        return written_out(q, k, v)


class Encoder(nn.Module):  # verdict: safe
    def __init__(self):
        super().__init__()
        self.layer = TransformerEncoderLayer()  # near miss: this file's own class

    def forward(self, q, k, v):
        return self.layer(q, k, v)
