"""Tensors that become numbers on their way to the output."""

import copy
import math

import torch


def scaled_by_number(q, k, v):  # verdict: silent_corruption
    temperature = q.square().mean().sqrt().item()  # expect: THL010 confirmed
    return (q @ k.transpose(-2, -1) / temperature).softmax(dim=-1) @ v


def scaled_by_float(q, k, v):  # verdict: silent_corruption
    norm = float(k.norm())  # expect: THL010 confirmed
    return (q @ k.transpose(-2, -1) / norm).softmax(dim=-1) @ v


def scaled_by_root(q, k, v):  # verdict: silent_corruption
    norm = math.sqrt(k.square().sum())  # expect: THL010 confirmed
    return (q @ k.transpose(-2, -1) / norm).softmax(dim=-1) @ v


def attend_to_a_copy(q, k, v):  # verdict: hard_structural
    scores = copy.copy(q @ k.transpose(-2, -1))  # expect: THL010 confirmed
    return scores.softmax(dim=-1) @ v
