"""Attention that is twice differentiable, and the probes that tell whether yours is.

Importing this package does not import torch: the linter reads ``theria.verdicts`` in environments without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from theria.version import __version__

if TYPE_CHECKING:
    from theria.diagnosis import Diagnosis, diagnose
    from theria.probes import Report, probe

__all__ = ["Diagnosis", "Report", "__version__", "diagnose", "probe"]


def __getattr__(name: str) -> Any:
    if name in ("Diagnosis", "diagnose"):
        from theria import diagnosis

        return getattr(diagnosis, name)
    if name in __all__:
        from theria import probes

        return getattr(probes, name)
    raise AttributeError(f"module 'theria' has no attribute {name!r}")
