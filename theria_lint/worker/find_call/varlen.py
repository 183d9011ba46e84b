"""Sequences of different lengths laid end to end: which arguments say where they end, and what those are given."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from theria.probes.layouts import sequence_lengths
from theria_lint.worker.find_call.trial_spec import Scene

BORDERS = r"^([qk]_|kv_)?cu_?(seq|[qk]_|len)|cumul\w*len|^cum_?seq|indptr|^(seq_?)?offsets(_[qk]|_kv)?$"
"""What the names of running totals of lengths look like: 0, the end of the first sequence, of the second, …"""

LENGTHS = r"(^|_)((seq|[qk]|kv|context|ctx)_?)?len(s|gths)(_[qk]|_kv)?$"
"""What the names of the lengths themselves look like, one a sequence."""

SEGMENTS = r"(segment|seg|sequence|seq|sample|doc|document)_?(ids?|idx|indices)(_[qk]|_kv)?$"
"""What the names of the numbers of the sequences look like, one a position."""

LONGEST = r"^max_?(seq|len|[qk]_?len|s_)"
"""What the names of the length of the longest sequence look like."""

_HOST = re.compile(r"cpu|host|list|_py$")
_OF_KEYS = re.compile(r"(^|_)(kv?|keys?|src|source|context|ctx)(_|$)")


def tells_borders(name: str) -> bool:
    """Whether an argument of this name says where packed sequences end."""
    name = name.lower().strip("_")
    return any(re.search(pattern, name) for pattern in (BORDERS, LENGTHS)) and not re.search(LONGEST, name)


def takes_one_length(names: Iterable[str]) -> bool:
    """Whether borders are told once, for queries and keys alike."""
    return not any(tells_borders(name) and _of_keys(name) for name in names)


def given(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """The optional parameters that get a value where sequences are packed."""
    unset = [n for n, p in parameters.items() if p.default in (None, 0) and not _HOST.search(n.lower())]
    ends = [name for name in unset if re.search(BORDERS, name.lower().strip("_"))]
    ends = ends or [name for name in unset if tells_borders(name)]
    return ends + [name for name in unset if re.search(LONGEST, name.lower().strip("_"))]


def _of_keys(name: str) -> bool:
    return _OF_KEYS.search(name.lower()) is not None


def _lengths(name: str, scene: Scene) -> list[int]:
    spread = scene.spread
    return sequence_lengths(spread.keys if _of_keys(name) else spread.queries)


def _integers(values: Iterable[int], scene: Scene) -> list[Any]:
    """As kernels take them, as indices, and as a list."""
    numbers = list(values)
    return [torch.tensor(numbers, dtype=d, device=scene.device) for d in (torch.int32, torch.int64)] + [numbers]


def borders(name: str, scene: Scene) -> list[Any]:
    """The ends of the sequences, after a 0; None where nothing is packed."""
    if not scene.packed:
        return [None]
    ends = torch.tensor([0, *_lengths(name, scene)]).cumsum(0).tolist()
    return _integers(ends, scene)


def lengths(name: str, scene: Scene) -> list[Any]:
    """The lengths of packed sequences; of padded ones None, or how much of each holds."""
    if scene.packed:
        return _integers(_lengths(name, scene), scene)[::-1]
    length = scene.shape.keys
    return [None, *_integers([max(1, length - 2 * i) for i in reversed(range(scene.shape.batch))], scene)]


def segments(name: str, scene: Scene) -> list[Any]:
    """The number of its sequence for each position; where nothing is packed, None or two sequences in each row."""
    if scene.packed:
        numbers = torch.repeat_interleave(torch.tensor(_lengths(name, scene)))
        return _integers(numbers.tolist(), scene)[:2]
    length = scene.shape.keys if _of_keys(name) else scene.shape.queries
    halves = (torch.arange(length, device=scene.device) >= length // 2).to(torch.int64)
    return [None, halves.expand(scene.shape.batch, -1), halves]


def longest(name: str, scene: Scene) -> list[Any]:
    """The length of the longest sequence."""
    shape = scene.shape
    single = shape.keys if _of_keys(name) else shape.queries
    return [max(_lengths(name, scene)) if scene.packed else single]


def sequences(name: str, scene: Scene) -> list[Any]:
    """How many sequences there are."""
    return [len(_lengths(name, scene)) if scene.packed else scene.shape.batch]


def positions(name: str, scene: Scene) -> list[Any]:
    """The numbers of the positions, from 0 in each sequence."""
    if scene.packed:
        return [torch.cat([torch.arange(n, device=scene.device) for n in _lengths(name, scene)])]
    numbers = torch.arange(scene.shape.queries, device=scene.device)
    return [None, numbers.expand(scene.shape.batch, -1), numbers, numbers.to(scene.dtype)]


def moved(tensor: Tensor, scene: Scene) -> Tensor:
    """A packed tensor with another first position of the middle sequence."""
    spread, changed = scene.spread, tensor.clone()
    for count in {spread.queries, spread.keys} & set(tensor.shape):
        position = changed.select(tensor.shape.index(count), sequence_lengths(count)[0])
        position.add_(torch.linspace(0.5, 1.0, position.numel()).view(position.shape).to(position))
    return changed


def respects_borders(output: Tensor, moved: Tensor, scene: Scene) -> bool:
    """Whether the first position of the middle sequence is felt by others of that sequence, and nowhere else.

    What ignores the borders, or takes another axis for that of positions, was not called as it wants to be.

    Args:
        output: of the target.
        moved: its output where that position is another.
        scene: in which both were computed.
    """
    ends = torch.tensor(sequence_lengths(scene.spread.queries)).cumsum(0).tolist()
    axis = next((i for i, size in enumerate(output.shape) if size == ends[-1]), None)
    if axis is None or moved.shape != output.shape:
        return False
    difference = (moved - output).movedim(axis, 0).flatten(1).abs().amax(1)
    felt = (difference > 1e-6 * output.abs().max()).nonzero().flatten().tolist()
    return len(felt) > 1 and all(ends[0] <= position < ends[1] for position in felt)
