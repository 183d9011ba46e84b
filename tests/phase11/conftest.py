"""The scripts of phase 11 import one another by name: Python puts a script's folder on its path, pytest has to."""

from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "experiments" / "phase11" / "scripts"

pytest.MonkeyPatch().syspath_prepend(SCRIPTS)
