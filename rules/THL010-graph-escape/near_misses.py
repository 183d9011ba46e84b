"""Numbers that are sizes or logged, and constants."""

import copy
import math

import torch
from torch import nn


def masked_attention(q, k, v, lengths=None):  # verdict: safe
    rows = int(q.shape[-2])
    if lengths is not None:
        rows = lengths.max().item()  # near miss: a length
    scale = float(q.shape[-1]) ** -0.5  # near miss: a size
    scores = q[..., :rows, :] @ k.transpose(-2, -1) * scale
    scores = scores.clamp(min=float("-inf"))  # near miss: a constant
    if not math.isfinite(scores.sum().item()):  # near miss: a check
        raise ValueError("the scores overflow")
    return scores.softmax(dim=-1) @ v


def attend_with_settings(q, k, v, layout=None):  # verdict: safe
    layout = copy.deepcopy(layout or {"causal": False})  # near miss: no tensor
    heads = k.view(k.shape)  # near miss: the same type
    paired = torch.view_as_real(torch.view_as_complex(q.view(*q.shape[:-1], -1, 2)))  # near miss: the same bits
    scores = paired.flatten(-2) @ heads.transpose(-2, -1) * q.new_tensor(0.5)  # near miss: a constant
    return scores.softmax(dim=-1) @ (v if not layout["causal"] else v.cumsum(-2))


def reparametrised_attention(q, k, v):  # verdict: safe
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return torch.distributions.Normal(scores, 0.1).rsample().softmax(dim=-1) @ v  # near miss: reparametrised


class ProjectedAttention(nn.Module):  # verdict: safe
    def __init__(self, dim=16):
        super().__init__()
        self.to_out = nn.Sequential(nn.Identity(), nn.Linear(dim, dim))
        self.earlier = copy.deepcopy(self.to_out)

    def follow(self):
        self.earlier.load_state_dict(self.to_out.state_dict())  # near miss: no attention

    def forward(self, x):
        state = self.to_out[1].state_dict(keep_vars=True)  # near miss: the parameters themselves
        if "bias" in self.to_out[1].state_dict():  # near miss: names
            x = x + state["bias"]
        return (x @ x.transpose(-2, -1)).softmax(dim=-1) @ x @ state["weight"].T
