"""Backwards whose gradients come from where autograd records nothing."""

import numpy as np
import torch


class NumpyAttention(torch.autograd.Function):  # verdict: silent_collapse
    @staticmethod
    def forward(ctx, q, k, v):
        q = q.contiguous()
        ctx.save_for_backward(q, k, v)  # near miss: no derivative passes the backward that a copy could lose
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v, do = (np.asarray(x.tolist()) for x in (*ctx.saved_tensors, grad_out))  # expect: THL004 confirmed
        s = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
        p = np.exp(s - s.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        dp = do @ v.swapaxes(-1, -2)
        ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / q.shape[-1] ** 0.5
        grads = ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ do
        return tuple(torch.from_numpy(grad).to(grad_out) for grad in grads)
