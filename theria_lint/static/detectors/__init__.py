"""The detectors, by the name that a rule gives in ``detector``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..code import Hit, ModuleCode
from ..rules import Rule
from . import named

Detector = Callable[[ModuleCode, Rule], Iterator[Hit]]

DETECTORS: Mapping[str, Detector] = {
    "names": named.find,
}
