"""Sizes at which PyTorch gives scaled_dot_product_attention to a fused kernel, where those that were tried met none."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import torch

from theria.probes.point import trial
from theria.probes.sweep import ROUND
from theria_lint.dynamic.worker.base import SdpaCalls
from theria_lint.dynamic.worker.calling.binding import Binding
from theria_lint.dynamic.worker.configurations import Configurations

_SHAPES = (ROUND, replace(ROUND, dim=64, value_dim=64))
"""Of the kind that is used in practice: as many channels in v as in q, and a power of two of them."""


TRAINED_IN = (torch.bfloat16, torch.float16, torch.float32)


def training_scenes(binding: Binding) -> Configurations:
    """Scenes in the precisions that people train in, at sizes that fused kernels take; by their names."""
    scenes = {}
    for dtype in TRAINED_IN:
        name = str(dtype).removeprefix("torch.")
        for shape in (_SHAPES[1], binding.scene.shape):
            scene = replace(binding.scene, dtype=dtype, shape=shape, seed=1)
            with suppress(Exception):  # code that was not written for us, at sizes that were not tried before
                made = binding.call(scene)
                trial(made.output, made.inputs, scene.seed)
                scenes[name] = scene
                break
    return scenes


def fused_scenes(binding: Binding, sdpa: SdpaCalls) -> Configurations:
    """The first of some scenes in which a fused kernel runs, by its name; nothing where none does."""
    for shape in _SHAPES:
        scene, before = replace(binding.scene, shape=shape, seed=1), sdpa.fused
        with suppress(Exception):  # code that was not written for us, at sizes that were not tried before
            made = binding.call(scene)
            trial(made.output, made.inputs, scene.seed)
        if sdpa.fused > before:
            return {"sizes of a fused kernel": scene}
    return {}
