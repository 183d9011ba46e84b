"""Derivatives whose graph is kept, and derivatives that no attention takes."""

import torch


def softmax_attention(q, k, v):
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


class RecomputedAttention(torch.autograd.Function):  # verdict: safe
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return softmax_attention(q, k, v)

    @staticmethod
    def backward(ctx, grad_out):
        q, k, v = ctx.saved_tensors
        with torch.enable_grad():  # expect: THL001 cleared
            q, k, v = (x.view_as(x) for x in (q, k, v))
            out = softmax_attention(q, k, v)
        return torch.autograd.grad(out, (q, k, v), grad_out, create_graph=True)  # near miss: the graph is kept


def penalty(model, x):
    x = x.detach().requires_grad_()  # near miss: the input of a model, in no attention
    (slope,) = torch.autograd.grad(model(x).sum(), x)  # near miss: a first derivative for its own sake
    return slope.square().sum()


def train_step(model, x, optimiser):
    loss = model(x).square().mean()
    torch.autograd.backward(loss)  # near miss: the end of a step, in no attention
    optimiser.step()
