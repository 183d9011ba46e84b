"""Lint a saved file for the server: ``python -m theria_lint.lsp.lint_saved PATH SERVER``.

Writes nothing but a pickled LintReport or UserError to standard output. Ends when the server, given by its process id,
ends.
"""

from __future__ import annotations

import os
import pickle
import sys

from theria_lint.errors import UserError
from theria_lint.lsp.check_document import resolve_file_settings
from theria_lint.pipeline import lint_paths
from theria_lint.result import LintReport
from theria_lint.sandbox import linux


def write_answer(path: str, server: int) -> None:
    """Lint ``path`` as the command line would, in the working directory that was chosen for it."""
    if linux.die_with_parent() and os.getppid() != server:
        return  # it has ended before we asked
    answers = os.dup(1)
    os.dup2(2, 1)  # what anything prints is no answer
    with open(answers, "wb") as stream:
        pickle.dump(_lint_file(path), stream)


def _lint_file(path: str) -> LintReport | UserError:
    try:
        return lint_paths([path], resolve_file_settings(path))
    except UserError as error:
        return error


if __name__ == "__main__":
    write_answer(sys.argv[1], int(sys.argv[2]))
