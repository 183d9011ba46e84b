"""Detaching in other words: by a helper, by the name of the method, by handing the function on."""

import torch


class Record:
    data = 0.5


cut = lambda x: x.detach()  # expect: THL002 confirmed
scaled = lambda x: x / x.shape[-1] ** 0.5  # near miss: nothing is cut


def cut_by_a_helper(q, k, v):  # verdict: hard_structural
    logits = cut(scaled(q @ k.transpose(-2, -1)))
    return logits.softmax(dim=-1) @ v


def cut_by_name(q, k, v):  # verdict: hard_structural
    logits = getattr(q @ k.transpose(-2, -1), "detach")() / q.shape[-1] ** 0.5  # expect: THL002 confirmed
    return logits.softmax(dim=-1) @ v


def cut_one_by_one(q, k, v):  # verdict: hard_structural
    q, k = map(torch.detach, (q, k))  # expect: THL002 confirmed
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


def nothing_cut(q, k, v, config=Record()):  # verdict: safe
    temperature = getattr(config, "data", 1.0)  # near miss: an attribute with a default
    q, k = map(torch.clone, (q, k))  # near miss: another function
    return (temperature * (q @ getattr(k, "mT"))).softmax(dim=-1) @ v  # near miss: another attribute
