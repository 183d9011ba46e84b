"""What a target is probed in beside the scene that worked: each shows damage that the others do not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from theria.probes.point import isolated, trial
from theria.probes.qkv import ODD, ROUND
from theria_lint.worker.base_attention import SdpaCalls
from theria_lint.worker.discontinuity import telling_point
from theria_lint.worker.find_call.argument_values import may_be_learned
from theria_lint.worker.find_call.call_strategy import outputs, tensors_in
from theria_lint.worker.find_call.further_calls import variants, with_options
from theria_lint.worker.find_call.run_trial import Binding
from theria_lint.worker.find_call.trial_spec import Scene
from theria_lint.worker.shims import shim_log
from theria_lint.worker.shims.no_codegen import uncompiled

_FIRST = "the first sizes"

_SMALL = replace(ROUND, batch=2, dim=6, value_dim=6)
"""With smaller defaults: a few heads of a few channels, and lengths that windows and buckets divide."""

LONGER = "a longer sequence"

_SLOW = 0.1
"""Seconds of processor time a call from which a longer sequence, which takes a hundred calls, is left out."""

_LENGTHS = (129, 256)
"""Past a chunk of any usual size, where what is carried from one to the next shows; some code wants whole chunks."""

Configurations = Mapping[str, Scene]
"""The scenes that a target is probed in, by what is said of them; it refuses some."""


def configurations(binding: Binding) -> Configurations:
    """The scene that worked first, then others, each at a point of its own: some damage is there at some points only.

    They are smaller defaults, evaluation mode and optional tensors for a module, strided inputs, a causal mask, other
    sizes, packed sequences and heads that share keys where the target knows of them, and a longer sequence where no
    kernel is launched: to interpret one takes long, and to compile one that holds it in one tile.
    """
    scene = binding.scene
    launched = shim_log.launches()
    found = {_FIRST: scene}
    if binding.call().module is not None:
        found["smaller defaults"] = telling_point(
            binding, replace(scene, small=True, shape=_SMALL, seed=scene.seed + 1)
        )
        found["evaluation mode"] = replace(scene, evaluating=True)
    found["strided inputs"] = replace(scene, strided=True)
    masked = replace(scene, masking=True, shape=replace(scene.shape, keys=scene.shape.queries))
    if _differs(binding, masked, replace(masked, masking=False)):
        found["a causal mask"] = masked
    other = ROUND if scene.shape != ROUND else ODD
    if scene.shape.queries == scene.shape.keys:
        other = replace(other, keys=other.queries)
    found["round sizes" if other.dim == ROUND.dim else "odd sizes"] = replace(scene, shape=other)
    found |= variants(binding) | with_options(binding)
    found |= _with_learned(binding, found)
    if _returns_several(binding):
        found["all that it returns"] = replace(scene, whole=True)
    for length in _LENGTHS if shim_log.launches() == launched else ():
        longer = replace(scene, shape=replace(scene.shape, batch=1, queries=length, keys=length))
        began = time.process_time()
        if _outputs(binding, longer):
            if time.process_time() - began < _SLOW:
                found[LONGER] = longer
            break
    return {name: replace(s, seed=s.seed or number) for number, (name, s) in enumerate(found.items())}


def _with_learned(binding: Binding, scenes: Configurations) -> dict[str, Scene]:
    """Scenes with what is given beside the inputs as inputs: what adds to the logits, say, may be learned elsewhere.

    They come beside those without: where such a tensor changes the output by much more, it would hide what is lost.
    """
    found = {}
    for name, scene in scenes.items():
        if name != _FIRST and not scene.choice:
            continue
        names = tuple(extra for extra in binding.call(scene).extras if may_be_learned(extra))
        if names and _outputs(binding, replace(scene, learned=names)):
            found[f"{name}, with its {', '.join(names)} as inputs"] = replace(scene, learned=names)
    return found


def _returns_several(binding: Binding) -> bool:
    """Whether more than one tensor that the target returns is in the graph."""
    made = binding.call()
    leaves = [tensor.detach().clone().requires_grad_() for tensor in made.inputs.values()]
    try:
        with uncompiled(), isolated(binding.scene.seed):
            returned = made.function(*leaves)
    except Exception:  # code that was not written for us, called once more
        return False
    return sum(tensor.grad_fn is not None for tensor in tensors_in(returned)) > 1


def only_first(scenes: Configurations) -> Configurations:
    """Triton's interpreter is slow: under our own kernels one small scene shows what the target makes of them."""
    first = scenes[_FIRST]
    return {_FIRST: replace(first, shape=replace(first.shape, batch=1))}


def _differs(binding: Binding, scene: Scene, other: Scene) -> bool:
    """Whether both scenes run and give different outputs."""
    found = _outputs(binding, scene, other)
    return bool(found) and not torch.equal(found[0], found[1])


def _outputs(binding: Binding, *scenes: Scene) -> list[Tensor]:
    """What the target gives in some scenes, nothing where it refuses one; nothing is compiled for their sizes yet."""
    try:
        with uncompiled():
            return outputs(map(binding.call, scenes), scenes[0].seed)
    except Exception:  # code that was not written for us, at sizes that were not tried before
        return []


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
