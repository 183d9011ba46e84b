"""Recognise and fill the arguments of packed sequences: cu_seqlens, lengths, segment ids, the longest length."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from theria.probes.layouts import sequence_lengths
from theria_lint.worker.find_call.trial_spec import TrialSpec

CU_SEQLENS_NAMES = r"^([qk]_|kv_)?cu_?(seq|[qk]_|len)|cumul\w*len|^cum_?seq|indptr|^(seq_?)?offsets(_[qk]|_kv)?$"
"""What the names of running totals of lengths look like: 0, the end of the first sequence, of the second, …"""

LENGTH_NAMES = r"(^|_)((seq|[qk]|kv|context|ctx)_?)?len(s|gths)(_[qk]|_kv)?$"
"""What the names of the lengths themselves look like, one a sequence."""

SEGMENT_NAMES = r"(segment|seg|sequence|seq|sample|doc|document)_?(ids?|idx|indices)(_[qk]|_kv)?$"
"""What the names of the numbers of the sequences look like, one a position."""

MAX_SEQLEN_NAMES = r"^max_?(seq|len|[qk]_?len|s_)"
"""What the names of the length of the longest sequence look like."""

_HOST = re.compile(r"cpu|host|list|_py$")
_OF_KEYS = re.compile(r"(^|_)(kv?|keys?|src|source|context|ctx)(_|$)")


def is_varlen_argument(name: str) -> bool:
    """Whether an argument of this name says where packed sequences end."""
    name = name.lower().strip("_")
    return any(re.search(pattern, name) for pattern in (CU_SEQLENS_NAMES, LENGTH_NAMES)) and not re.search(
        MAX_SEQLEN_NAMES, name
    )


def takes_one_length(names: Iterable[str]) -> bool:
    """Whether borders are told once, for queries and keys alike."""
    return not any(is_varlen_argument(name) and _is_of_keys(name) for name in names)


def list_varlen_parameters(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """The optional parameters that get a value where sequences are packed."""
    unset = [n for n, p in parameters.items() if p.default in (None, 0) and not _HOST.search(n.lower())]
    ends = [name for name in unset if re.search(CU_SEQLENS_NAMES, name.lower().strip("_"))]
    ends = ends or [name for name in unset if is_varlen_argument(name)]
    return ends + [name for name in unset if re.search(MAX_SEQLEN_NAMES, name.lower().strip("_"))]


def _is_of_keys(name: str) -> bool:
    return _OF_KEYS.search(name.lower()) is not None


def _list_sequence_lengths(name: str, spec: TrialSpec) -> list[int]:
    spread = spec.spread
    return sequence_lengths(spread.keys if _is_of_keys(name) else spread.queries)


def _make_integer_forms(values: Iterable[int], spec: TrialSpec) -> list[Any]:
    """As kernels take them, as indices, and as a list."""
    numbers = list(values)
    return [torch.tensor(numbers, dtype=d, device=spec.device) for d in (torch.int32, torch.int64)] + [numbers]


def make_cu_seqlens(name: str, spec: TrialSpec) -> list[Any]:
    """The ends of the sequences, after a 0; None where nothing is packed."""
    if not spec.packed:
        return [None]
    ends = torch.tensor([0, *_list_sequence_lengths(name, spec)]).cumsum(0).tolist()
    return _make_integer_forms(ends, spec)


def make_lengths(name: str, spec: TrialSpec) -> list[Any]:
    """The lengths of packed sequences; of padded ones None, or how much of each holds."""
    if spec.packed:
        return _make_integer_forms(_list_sequence_lengths(name, spec), spec)[::-1]
    length = spec.shape.keys
    return [None, *_make_integer_forms([max(1, length - 2 * i) for i in reversed(range(spec.shape.batch))], spec)]


def make_segment_ids(name: str, spec: TrialSpec) -> list[Any]:
    """The number of its sequence for each position; where nothing is packed, None or two sequences in each row."""
    if spec.packed:
        numbers = torch.repeat_interleave(torch.tensor(_list_sequence_lengths(name, spec)))
        return _make_integer_forms(numbers.tolist(), spec)[:2]
    length = spec.shape.keys if _is_of_keys(name) else spec.shape.queries
    halves = (torch.arange(length, device=spec.device) >= length // 2).to(torch.int64)
    return [None, halves.expand(spec.shape.batch, -1), halves]


def make_max_seqlen(name: str, spec: TrialSpec) -> list[Any]:
    """The length of the longest sequence."""
    shape = spec.shape
    single = shape.keys if _is_of_keys(name) else shape.queries
    return [max(_list_sequence_lengths(name, spec)) if spec.packed else single]


def make_sequence_count(name: str, spec: TrialSpec) -> list[Any]:
    """How many sequences there are."""
    return [len(_list_sequence_lengths(name, spec)) if spec.packed else spec.shape.batch]


def make_positions(name: str, spec: TrialSpec) -> list[Any]:
    """The numbers of the positions, from 0 in each sequence."""
    if spec.packed:
        return [torch.cat([torch.arange(n, device=spec.device) for n in _list_sequence_lengths(name, spec)])]
    numbers = torch.arange(spec.shape.queries, device=spec.device)
    return [None, numbers.expand(spec.shape.batch, -1), numbers, numbers.to(spec.dtype)]


def move_middle_sequence(tensor: Tensor, spec: TrialSpec) -> Tensor:
    """A packed tensor with another first position of the middle sequence."""
    spread, changed = spec.spread, tensor.clone()
    for count in {spread.queries, spread.keys} & set(tensor.shape):
        position = changed.select(tensor.shape.index(count), sequence_lengths(count)[0])
        position.add_(torch.linspace(0.5, 1.0, position.numel()).view(position.shape).to(position))
    return changed


def keeps_sequences_apart(output: Tensor, moved: Tensor, spec: TrialSpec) -> bool:
    """Whether the first position of the middle sequence is felt by others of that sequence, and nowhere else.

    What ignores the borders, or takes another axis for that of positions, was not called as it wants to be.

    Args:
        output: of the target.
        moved: its output where that position is another.
        spec: in which both were computed.
    """
    ends = torch.tensor(sequence_lengths(spec.spread.queries)).cumsum(0).tolist()
    axis = next((i for i, size in enumerate(output.shape) if size == ends[-1]), None)
    if axis is None or moved.shape != output.shape:
        return False
    difference = (moved - output).movedim(axis, 0).flatten(1).abs().amax(1)
    felt = (difference > 1e-6 * output.abs().max()).nonzero().flatten().tolist()
    return len(felt) > 1 and all(ends[0] <= position < ends[1] for position in felt)
