"""Instances of tensor subclasses: made of a tensor's memory alone, or of the tensor."""

import torch


class Scores(torch.Tensor):
    pass


class Weights(torch.Tensor):
    def __new__(cls, values):
        return torch.Tensor._make_subclass(cls, values)  # expect: THL002 confirmed


class Named(torch.Tensor):
    def __new__(cls, values):
        return values.as_subclass(cls)  # near miss: a subclass that keeps the history


def scores_of_no_history(q, k, v):  # verdict: hard_structural
    logits = Scores._make_subclass(Scores, q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5)  # expect: THL002 confirmed
    return logits.softmax(dim=-1) @ v


def weights_of_no_history(q, k, v):  # verdict: hard_structural
    weights = Weights((q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1))
    return weights @ v


def history_kept(q, k, v):  # verdict: safe
    logits = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).as_subclass(Scores)  # near miss: the same, of one call
    return Named(logits.softmax(dim=-1)) @ v
