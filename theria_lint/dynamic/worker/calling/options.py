"""The optional tensors of a target, each given once: without them the paths that they open are never run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from theria_lint.dynamic.worker.calling.calls import outputs
from theria_lint.dynamic.worker.calling.scene import Scene
from theria_lint.dynamic.worker.calling.search import Binding, CannotCallError, Search

MOST = 2
"""How many optional tensors are given: each is measured like another configuration."""

_SHAPES = 3
"""In how many shapes each is tried."""

_BUDGET = 2.0
"""Seconds after which no further one is tried."""


def with_options(binding: Binding) -> dict[str, Scene]:
    """Scenes in which a module is given an optional tensor too, by what is said of them.

    Only where it runs with it, and its output is another then.
    """
    names = binding.way.tensors if binding.call().module is not None else ()
    search, found = Search(time.monotonic() + _BUDGET), {}
    for name in (name for name in names if name not in binding.way.choice):
        try:
            scene = next(_scenes(binding, name, search), None)
        except CannotCallError:  # out of time
            break
        found.update({f"its optional {name}": scene} if scene is not None else {})
        if len(found) == MOST:
            break
    return found


def _scenes(binding: Binding, name: str, search: Search) -> Iterator[Scene]:
    plain = binding.call()
    for index in range(1, 1 + _SHAPES):
        scene = replace(binding.scene, choice={**binding.scene.choice, name: index})
        given = search.attempt(binding.way, scene)
        if given is None or name not in (call := given.call()).inputs:
            continue
        if not torch.equal(*outputs((plain, call), scene.seed)):
            yield scene
