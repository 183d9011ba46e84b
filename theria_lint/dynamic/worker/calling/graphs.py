"""Graphs for kernels that attend along edges: every node has an edge to itself, and none has one to all others."""

from __future__ import annotations

import re

import torch
from torch import Tensor

ADJACENCY = r"^(adj(_?(mat|matrix|mask))?|adjacency(_matrix)?|graph_mask)$"
EDGES = r"^edge_?(index|indices|list|idx)$|^edges$"


def is_graph(name: str) -> bool:
    """Whether an argument of this name is a graph."""
    return any(re.search(pattern, name.lower()) for pattern in (ADJACENCY, EDGES))


def adjacency(nodes: int, device: str) -> Tensor:
    """(N,N): 1 for an edge, else 0."""
    row, column = torch.meshgrid(torch.arange(nodes), torch.arange(nodes), indexing="ij")
    return ((row == column) | ((row + 2 * column) % 3 != 1)).to(device)


def edges(nodes: int, device: str) -> Tensor:
    """(2,E): the numbers of the nodes that an edge leaves and reaches."""
    return adjacency(nodes, device).nonzero().T.contiguous()


def graphs(name: str, nodes: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    """A graph of some nodes in the forms that an argument of this name may want."""
    if re.search(EDGES, name.lower()):
        return [edges(nodes, device)]
    whole = adjacency(nodes, device)
    return [whole.to(dtype), whole, whole.to(torch.int64), whole.to(dtype)[None]]
