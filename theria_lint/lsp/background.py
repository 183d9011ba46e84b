"""Run the dynamic stage for the server, in a process that can be ended at any moment."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from asyncio.subprocess import DEVNULL, PIPE

from theria_lint.errors import UserError
from theria_lint.report.editor_messages import say_ended
from theria_lint.result import LintReport


class RunError(Exception):
    """The process ended without an answer; the message holds what it wrote to standard error."""


async def lint_saved_file(path: str, folder: str) -> LintReport:
    """Lint a file from the disk, run it included, with ``folder`` as the working directory.

    Cancelling ends the process, and with it everything that runs below it. Raises UserError and RunError.
    """
    # -P: what lies in the folder must not be imported in place of our modules.
    program = (sys.executable, "-P", "-m", "theria_lint.lsp.lint_saved", path, str(os.getpid()))
    process = await asyncio.create_subprocess_exec(*program, cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        answer, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            # What it wrote has to be read: the transport waits for the ends of the pipes, which stay full otherwise.
            await process.communicate()
    if process.returncode:
        raise RunError(complaints.decode("utf-8", "replace").strip() or say_ended(process.returncode))
    report: LintReport | UserError = pickle.loads(answer)
    if isinstance(report, UserError):
        raise report
    return report
