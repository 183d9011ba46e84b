"""Where a probe measures: named inputs, a cotangent W and one direction per input, all from its own generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from torch import Tensor

Function = Callable[..., Tensor]
"""What is probed: takes the inputs of a point by position, in their order, and returns a tensor."""


def copy_strided(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A copy with the same strides: ``clone`` would make a slice contiguous, and some damage needs the strides."""
    dtype = dtype or tensor.dtype
    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device=tensor.device)
    return copy.copy_(tensor.detach())


@dataclass(frozen=True)
class Point:
    """The inputs at which derivatives are taken, by name, and the directions along which they are observed.

    ``cotangent`` is W of L = ⟨W, f(inputs)⟩ (float64, the output's shape); ``directions`` holds a float64 tensor u of
    each input's shape: a Hessian block ∂g_a/∂b is observed as the row ∂⟨u_a, g_a⟩/∂b. A random direction meets every
    column of a block, so a block that is wrong anywhere is seen to be wrong, at the price of one backward.
    ``sizes`` holds, of an input that is many tensors laid end to end, the number of entries of each.
    """

    inputs: Mapping[str, Tensor]
    cotangent: Tensor
    directions: Mapping[str, Tensor]
    seed: int
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def parts(self, name: str) -> dict[str, slice]:
        """The places of an input's parts, by the names that they go by; none of an input that is one tensor."""
        ends = list(accumulate(self.sizes.get(name, ())))
        places = zip([0, *ends], ends, strict=False)
        return {f"{name}[{i}]": slice(*place) for i, place in enumerate(places)} if len(ends) > 1 else {}

    def to(self, device: torch.device) -> Point:
        """The same point on another device."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        directions = {name: tensor.to(device) for name, tensor in self.directions.items()}
        return replace(self, inputs=inputs, cotangent=self.cotangent.to(device), directions=directions)

    def leaves(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Fresh copies of the inputs that require grad."""
        return {name: copy_strided(tensor, dtype).requires_grad_() for name, tensor in self.inputs.items()}


def place(
    inputs: Mapping[str, Tensor], output: Tensor, seed: int, sizes: Mapping[str, Sequence[int]] | None = None
) -> Point:
    """Draw W and the directions for some inputs and the output that a function gives for them."""
    generator = torch.Generator().manual_seed(seed)
    cotangent = draw(tuple(output.shape), generator).to(output.device)
    if output.dim() > 1 and not all(tensor.is_contiguous() for tensor in inputs.values()):
        cotangent = cotangent.mT.contiguous().mT  # who gives views takes the output for one, and backward gets a view
    directions = {name: draw(tuple(tensor.shape), generator).to(tensor.device) for name, tensor in inputs.items()}
    return Point(dict(inputs), cotangent, directions, seed, dict(sizes or {}))


def draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal float64 numbers on the CPU, whatever the default dtype and device are."""
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Grad mode on, and random numbers that neither depend on the caller's state nor change it.

    Generators are seeded one by one: ``torch.manual_seed`` formats a stack trace for every device it cannot reach yet.
    """
    generators = [torch.default_generator]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        generators += torch.cuda.default_generators
    states = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(seed)
    try:
        with torch.enable_grad():
            yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def carry(function: Function, device: torch.device) -> Function:
    """The function of inputs on the CPU that is computed on a device, in the graph all the while."""
    return lambda *inputs: function(*(tensor.to(device) for tensor in inputs)).cpu()


def trial(function: Function, inputs: Mapping[str, Tensor], seed: int) -> Tensor:
    """What the function returns for copies of the inputs that require grad: code may ask whether they do."""
    return call(function, {name: copy_strided(t).requires_grad_() for name, t in inputs.items()}, seed).detach()


def call(function: Function, arguments: Mapping[str, Tensor], seed: int) -> Tensor:
    """Call the function as a probe does; TypeError if it does not return a floating-point tensor."""
    with isolated(seed):
        output = function(*arguments.values())
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise TypeError(f"the function returned {type(output).__name__}, not a floating-point tensor")
    return output
