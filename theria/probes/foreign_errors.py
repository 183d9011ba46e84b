"""What Python, PyTorch and drivers say when they fail, as far as a probe has to tell it apart."""

from __future__ import annotations

_MACHINE_KINDS = (
    "MemoryError",
    "ImportError",
    "ModuleNotFoundError",
    "InterpreterError",
    "CompilationError",
    "OutOfResources",
)
_MACHINE_WORDS = (
    *("CUDA", "NVIDIA", "active driver", "no kernel image", "can't allocate memory"),
    *("pip install", "upgrade"),  # what is installed here will not do
)


def speaks_of_the_machine(kind: str, message: str) -> bool:
    """Whether an error, by the name of its class and its first line, tells of what this machine lacks."""
    return kind in _MACHINE_KINDS or any(word in message for word in _MACHINE_WORDS)
