"""What was done so that code runs and can be measured, most of it for code meant for a GPU that runs on the CPU.

It is recorded as it is used, and told with every run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

_given: dict[str, None] = {}
_launches = [0]
_kernels: set[str] = set()
_asked: dict[tuple[str, str], None] = {}
_lacking: dict[str, dict[str, None]] = {}


def give(help_: str) -> None:
    """Records that a stand-in was used, in words that fit after "ran on the CPU with" or "ran on the GPU with"."""
    _given[help_] = None


def given() -> tuple[str, ...]:
    """The stand-ins used so far, in the order of their first use."""
    return tuple(_given)


def ask(question: str, module: str) -> None:
    """Records that a module asked whether it runs on a GPU: it may take another path there."""
    _asked[question, module.partition(".")[0]] = None


def asked(module: str) -> tuple[str, ...]:
    """The questions that the package of a module has asked so far."""
    return tuple(question for question, package in _asked if package == module.partition(".")[0])


def lack(package: str, module: str) -> None:
    """Records that a module looked for a package that is not installed."""
    _lacking.setdefault(module.partition(".")[0], {})[package] = None


def lacking(module: str) -> tuple[str, ...]:
    """What the package of a module has looked for in vain."""
    return tuple(_lacking.get(module.partition(".")[0], ()))


def settle() -> None:
    """Forgets the questions that were asked while modules were imported."""
    _asked.clear()


def kernel(module: str) -> None:
    """Notes a module that holds Triton kernels."""
    _kernels.add(module.partition(".")[0])


def holds_kernels(module: str) -> bool:
    """Whether the package of a module, by its dotted name, holds such kernels."""
    return module.partition(".")[0] in _kernels


def launch() -> None:
    """Counts a kernel that the code under test launches."""
    _launches[0] += 1


def launches() -> int:
    """How many kernels were launched so far."""
    return _launches[0]


_FUSED = frozenset(
    {"flash_attn", "flash_attn_interface", "flashinfer", "flash_mla", "xformers", "sageattention", "triton", "fla"}
    | {"tilelang", "natten", "apex", "transformer_engine", "aiter"}
)


class _Listener:
    """The last of the finders: it is asked for what none before it has found, and finds nothing either."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name in _FUSED:
            lack(name, _asker())


def listen() -> None:
    """From now on, in this process and those forked from it."""
    sys.meta_path.append(_Listener())


def _asker() -> str:
    """The module that imports something, or asks whether it could."""
    frame = sys._getframe(2)  # behind the finder
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("importlib"):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))
