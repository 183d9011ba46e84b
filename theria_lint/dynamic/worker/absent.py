"""Notes which packages of fused kernels code looks for in vain: where they are installed, it takes another path."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

from theria_lint.dynamic.worker import helps

_FUSED = frozenset(
    {"flash_attn", "flash_attn_interface", "flashinfer", "flash_mla", "xformers", "sageattention", "triton", "fla"}
    | {"tilelang", "natten", "apex", "transformer_engine", "aiter"}
)


class _Listener:
    """The last of the finders: it is asked for what none before it has found, and finds nothing either."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name in _FUSED:
            helps.lack(name, _asker())


def listen() -> None:
    """From now on, in this process and those forked from it."""
    sys.meta_path.append(_Listener())


def _asker() -> str:
    """The module that imports something, or asks whether it could."""
    frame = sys._getframe(2)  # behind the finder
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("importlib"):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))
