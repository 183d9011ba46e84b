"""Log the shims that a job used, what its code asked about a GPU, and the packages it missed; told with every run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

from theria_lint.reasons import Reason, ReasonCode

_FUSED = frozenset(
    {"flash_attn", "flash_attn_interface", "flashinfer", "flash_mla", "xformers", "sageattention", "triton", "fla"}
    | {"tilelang", "natten", "apex", "transformer_engine", "aiter"}
)


class ShimLog:
    """What a job has used so far. A process forked from the job's goes on in a log of its own."""

    def __init__(self) -> None:
        self._used_shims: dict[Reason, None] = {}
        self._launches = 0
        self._kernel_packages: set[str] = set()
        self._gpu_queries: dict[tuple[str, str], None] = {}
        self._missing_packages: dict[str, dict[str, None]] = {}

    def record_shim(self, code: ReasonCode, **data: str) -> None:
        """Record that a stand-in was used."""
        self._used_shims[Reason(code, data)] = None

    def list_used_shims(self) -> tuple[Reason, ...]:
        """The stand-ins used so far, in the order of their first use."""
        return tuple(self._used_shims)

    def record_gpu_query(self, question: str, module: str) -> None:
        """Record that a module asked whether it runs on a GPU: it may take another path there."""
        self._gpu_queries[question, _name_package(module)] = None

    def list_gpu_queries(self, module: str) -> tuple[str, ...]:
        """The questions that the package of a module has asked so far."""
        return tuple(question for question, package in self._gpu_queries if package == _name_package(module))

    def record_missing_package(self, package: str, module: str) -> None:
        """Record that a module looked for a package that is not installed."""
        self._missing_packages.setdefault(_name_package(module), {})[package] = None

    def list_missing_packages(self, module: str) -> tuple[str, ...]:
        """What the package of a module has looked for in vain."""
        return tuple(self._missing_packages.get(_name_package(module), ()))

    def forget_import_queries(self) -> None:
        """Forget the questions that were asked while modules were imported."""
        self._gpu_queries.clear()

    def record_kernel_module(self, module: str) -> None:
        """Note a module that holds Triton kernels."""
        self._kernel_packages.add(_name_package(module))

    def holds_kernels(self, module: str) -> bool:
        """Whether the package of a module, by its dotted name, holds such kernels."""
        return _name_package(module) in self._kernel_packages

    def record_launch(self) -> None:
        """Count a kernel that the code under test launches."""
        self._launches += 1

    def count_launches(self) -> int:
        """How many kernels were launched so far."""
        return self._launches

    def watch_missing_packages(self) -> None:
        """From now on, in this process and those forked from it."""
        sys.meta_path.append(_MissingPackageFinder(self))


def _name_package(module: str) -> str:
    return module.partition(".")[0]


class _MissingPackageFinder:
    """The last of the finders: it is asked for what none before it has found, and finds nothing either."""

    def __init__(self, log: ShimLog) -> None:
        self._log = log

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name in _FUSED:
            self._log.record_missing_package(name, _find_asking_module())


def _find_asking_module() -> str:
    """The module that imports something, or asks whether it could."""
    frame = sys._getframe(2)  # behind the finder
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("importlib"):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))
