"""Switches that the output does not depend on: running the kernel clears them."""

import torch


def attention_with_logging(q, k, v):  # verdict: safe
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
    with torch.no_grad():  # expect: THL001 cleared
        attention_with_logging.entropy = -(weights * weights.log()).sum(dim=-1).mean()
    return weights @ v


class Rotary(torch.nn.Module):
    @torch.no_grad()  # expect: THL001 cleared
    def forward(self, length, dim):
        angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, dim, 2) / dim)
        return angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)


class RotaryAttention(torch.nn.Module):  # verdict: safe
    def __init__(self):
        super().__init__()
        self.rotary = Rotary()

    def forward(self, q, k, v):
        cos, sin = (table.to(q.dtype) for table in self.rotary(q.shape[-2], q.shape[-1]))
        q, k = (x * cos + torch.cat((-x[..., 1::2], x[..., ::2]), dim=-1) * sin for x in (q, k))
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v
