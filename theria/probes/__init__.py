"""Derivative blocks, oracles and verdicts: measures whether attention is twice differentiable."""

from theria.probes.layouts import Shape
from theria.probes.measure import Trusted, measure
from theria.probes.report import Block, Report
from theria.probes.sweep import probe
from theria.verdicts import Status, Verdict

__all__ = ["Block", "Report", "Shape", "Status", "Trusted", "Verdict", "measure", "probe"]
