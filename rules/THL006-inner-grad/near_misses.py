"""Derivatives whose graph is kept, and derivatives that no attention takes."""

import torch
from torch import nn


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


def train(attention: nn.Module, optimizer: torch.optim.Optimizer, x) -> float:
    loss = attention(x).square().mean()
    loss.backward()  # near miss: training differentiates once
    norm = sum(weight.grad.norm() for weight in attention.parameters())  # near miss: a number to look at
    optimizer.step()
    return norm


def fit(attention: nn.Module, optimizer: torch.optim.Optimizer, x) -> None:
    optimizer.zero_grad()
    attention(x).square().mean().backward()  # near miss: nor does this differentiate twice
    optimizer.step()
