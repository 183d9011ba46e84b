"""Attention under a meta-gradient: tasks, a tiny attention classifier, the unrolled inner loop and the MAML probe."""

from theria.maml.classifier import AttentionClassifier
from theria.maml.loop import InnerLoop, Mode, adapt, meta_gradient, outer_loss
from theria.maml.maml_report import MamlReport, MamlStep
from theria.maml.no_double_backward import sever_double_backward
from theria.maml.probe import maml_probe
from theria.maml.tasks import Task, TaskShape, sample_task

__all__ = [
    "AttentionClassifier",
    "InnerLoop",
    "MamlReport",
    "MamlStep",
    "Mode",
    "Task",
    "TaskShape",
    "adapt",
    "maml_probe",
    "meta_gradient",
    "outer_loss",
    "sample_task",
    "sever_double_backward",
]
