"""Log the shims that a run used, what its code asked about a GPU, and the packages it missed; told with every run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

from theria_lint.reasons import Reason, ReasonCode

_used_shims: dict[Reason, None] = {}
_launches = [0]
_kernel_packages: set[str] = set()
_gpu_queries: dict[tuple[str, str], None] = {}
_missing_packages: dict[str, dict[str, None]] = {}


def record_shim(code: ReasonCode, **data: str) -> None:
    """Record that a stand-in was used."""
    _used_shims[Reason(code, data)] = None


def list_used_shims() -> tuple[Reason, ...]:
    """The stand-ins used so far, in the order of their first use."""
    return tuple(_used_shims)


def record_gpu_query(question: str, module: str) -> None:
    """Record that a module asked whether it runs on a GPU: it may take another path there."""
    _gpu_queries[question, module.partition(".")[0]] = None


def list_gpu_queries(module: str) -> tuple[str, ...]:
    """The questions that the package of a module has asked so far."""
    return tuple(question for question, package in _gpu_queries if package == module.partition(".")[0])


def record_missing_package(package: str, module: str) -> None:
    """Record that a module looked for a package that is not installed."""
    _missing_packages.setdefault(module.partition(".")[0], {})[package] = None


def list_missing_packages(module: str) -> tuple[str, ...]:
    """What the package of a module has looked for in vain."""
    return tuple(_missing_packages.get(module.partition(".")[0], ()))


def forget_import_queries() -> None:
    """Forget the questions that were asked while modules were imported."""
    _gpu_queries.clear()


def record_kernel_module(module: str) -> None:
    """Note a module that holds Triton kernels."""
    _kernel_packages.add(module.partition(".")[0])


def holds_kernels(module: str) -> bool:
    """Whether the package of a module, by its dotted name, holds such kernels."""
    return module.partition(".")[0] in _kernel_packages


def record_launch() -> None:
    """Count a kernel that the code under test launches."""
    _launches[0] += 1


def count_launches() -> int:
    """How many kernels were launched so far."""
    return _launches[0]


_FUSED = frozenset(
    {"flash_attn", "flash_attn_interface", "flashinfer", "flash_mla", "xformers", "sageattention", "triton", "fla"}
    | {"tilelang", "natten", "apex", "transformer_engine", "aiter"}
)


class _MissingPackageFinder:
    """The last of the finders: it is asked for what none before it has found, and finds nothing either."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name in _FUSED:
            record_missing_package(name, _find_asking_module())


def watch_missing_packages() -> None:
    """From now on, in this process and those forked from it."""
    sys.meta_path.append(_MissingPackageFinder())


def _find_asking_module() -> str:
    """The module that imports something, or asks whether it could."""
    frame = sys._getframe(2)  # behind the finder
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("importlib"):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))
