"""What Python, PyTorch and Triton say when they fail, as far as the worker has to tell it apart."""

from __future__ import annotations

import re

_OUT_OF_MEMORY = re.compile(r"can't allocate memory|CUDA out of memory|NVML_SUCCESS ==")
"""The last: before it complains, the allocator asks NVML what is left, which does not answer in the sandbox."""
_DEVICE_LOST = re.compile(r"device-side assert|illegal memory access|misaligned address|unspecified launch failure")
_INVALID_GRADIENT = "returned an invalid gradient at index"
_KERNEL_ERRORS = ("InterpreterError", "OutsideError", "CompilationError")
_IN_PLACE_ON_LEAF = "a leaf Variable that requires grad is being used in an in-place operation"
_FOR_LEAVES_ALONE = (
    "you can only change requires_grad flags of leaf variables",
    "Only Tensors created explicitly by the user",  # to copy.deepcopy
)
_DTYPES = re.compile(r"dtype|scalar type|\bDouble\b|to type float")
_SIZES_DIFFER = re.compile(r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)")
_OTHER_SIZES_DIFFER = re.compile(
    r"Expected size (\d+) but got size (\d+)|subscript \w has size (\d+) for .* previously seen size (\d+)"
    r"|expanded size of the tensor \((\d+)\) must match the existing size \((\d+)\)"
)
_NO_GPU = re.compile(r"cuda|\bgpus?\b|nvidia|\bdevice\b", re.IGNORECASE)
_MISSING_ARGUMENTS = re.compile(r"missing \d+ required (?:positional|keyword-only) arguments?: (.*)")
_UNEXPECTED_ARGUMENT = re.compile(r"got an unexpected keyword argument '(\w+)'")

_CHANNELS_DIFFER = re.compile(r"expected input\[.*\] to have (\d+) channels, but got \d+ channels instead")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is Python's or PyTorch's way to say that there is no memory left."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def is_device_lost(error: BaseException) -> bool:
    """Whether the process can do nothing more on its GPU: an index was out of bounds there, most often."""
    return _DEVICE_LOST.search(str(error)) is not None


def is_invalid_gradient(message: str) -> bool:
    """Whether PyTorch complains of a gradient that has another shape than its input."""
    return _INVALID_GRADIENT in message


def is_misfit(error: Exception) -> bool:
    """Whether a backward that raised says that its forward had the wrong arguments, more likely than anything else."""
    return is_invalid_gradient(str(error)) or type(error).__name__ in _KERNEL_ERRORS


def is_in_place_on_leaf(complaint: str) -> bool:
    """Whether the target writes into an input that nothing has made."""
    return _IN_PLACE_ON_LEAF in complaint


def is_for_leaves_alone(complaint: str) -> bool:
    """Whether the target does with a tensor that something has made what PyTorch allows with a parameter."""
    return any(message in complaint for message in _FOR_LEAVES_ALONE)


def is_about_dtype(complaint: str) -> bool:
    """Whether another precision may help."""
    return _DTYPES.search(complaint) is not None


def is_about_none(complaint: str) -> bool:
    """Whether something that is needed may have been None, or a number that stands for it."""
    return "NoneType" in complaint or "must be Tensor, not int" in complaint or complaint.startswith("AssertionError")


def wants_gpu(complaint: str) -> bool:
    """Whether what stopped a call sounds like the lack of a GPU."""
    return _NO_GPU.search(complaint) is not None


def find_differing_sizes(complaint: str) -> list[tuple[int, int]]:
    """The sizes of two tensors that should be the same."""
    return [(int(one), int(other)) for one, other in _SIZES_DIFFER.findall(complaint)]


def find_unequal_sizes(complaint: str) -> list[tuple[int, int]]:
    """The sizes of two tensors that should be the same, however they meet: added, joined, written into one another."""
    others = [match.groups() for match in _OTHER_SIZES_DIFFER.finditer(complaint)]
    pairs = [[int(size) for size in groups if size is not None] for groups in others]
    return find_differing_sizes(complaint) + [(one, other) for one, other in pairs]


def find_wanted_channels(complaint: str) -> int | None:
    """How many channels a convolution wants of its input; None where none complains."""
    found = _CHANNELS_DIFFER.search(complaint)
    return int(found[1]) if found else None


def find_missing_arguments(complaint: str) -> list[str]:
    """The names of arguments that a call lacks."""
    return [name for told in _MISSING_ARGUMENTS.findall(complaint) for name in re.findall(r"'(\w+)'", told)]


def find_unexpected_arguments(complaint: str) -> list[str]:
    """The names of arguments that a call takes none of."""
    return _UNEXPECTED_ARGUMENT.findall(complaint)
