"""The parent's side of the dynamic stage: runs targets in a worker and rules on suspects. Never imports torch."""

from theria_lint.dynamic.confirm import Confirmation, ConfirmSettings, confirm

__all__ = ["ConfirmSettings", "Confirmation", "confirm"]
