"""Make the picture of the HTML report that the README shows: the real report of the example kernels, by Chromium.

Usage: python benchmarks/report_picture.py, from a checkout in which the project is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "assets" / "report.png"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SIZE = "1180,860"
LARGEST = 200_000


def make_picture(picture: Path) -> None:
    """Lint the example kernels, and keep what a browser shows of the report."""
    browser = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"no browser: install one of {', '.join(PROGRAMS)}")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        command = [
            sys.executable,
            "-m",
            "theria_lint",
            "--quiet",
            "--output-file",
            f"html:{report}",
            "examples/kernels",
        ]
        subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        if not report.exists():
            sys.exit("the linter has written no report: see above")
        shown = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={SIZE}"]
        shown += [f"--user-data-dir={folder}/profile", f"--screenshot={picture}", report.as_uri()]
        subprocess.run(shown, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if picture.stat().st_size > LARGEST:
        sys.exit(f"{picture} has {picture.stat().st_size} bytes, more than {LARGEST}: take a smaller window")


if __name__ == "__main__":
    make_picture(PICTURE)
