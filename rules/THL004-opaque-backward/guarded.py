"""An opaque backward that says so: the decorator is found, and named as the messenger."""

import numpy as np
import torch
from torch.autograd.function import once_differentiable


class GuardedAttention(torch.autograd.Function):  # verdict: first_order_only
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v

    @staticmethod
    @once_differentiable  # expect: THL003 confirmed
    def backward(ctx, grad_out):
        q, k, v, do = (np.asarray(x.tolist()) for x in (*ctx.saved_tensors, grad_out))  # near miss: it is guarded
        s = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
        p = np.exp(s - s.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        dp = do @ v.swapaxes(-1, -2)
        ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / q.shape[-1] ** 0.5
        grads = ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ do
        return tuple(torch.from_numpy(grad).to(grad_out) for grad in grads)
