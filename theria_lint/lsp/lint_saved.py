"""The process that lints a saved file for the server: ``python -m theria_lint.lsp.lint_saved PATH SERVER``.

Its answer, a pickled Report or UserError, is all that it writes to standard output. It ends with the server, whose
process number it is told.
"""

from __future__ import annotations

import os
import pickle
import sys

from theria_lint.errors import UserError
from theria_lint.lsp.check_document import settings_for
from theria_lint.pipeline import lint
from theria_lint.result import Report
from theria_lint.sandbox import linux


def main(path: str, server: int) -> None:
    """Lint ``path`` as the command line would, in the working directory that was chosen for it."""
    if linux.die_with_parent() and os.getppid() != server:
        return  # it has ended before we asked
    answers = os.dup(1)
    os.dup2(2, 1)  # what anything prints is no answer
    with open(answers, "wb") as stream:
        pickle.dump(_answer(path), stream)


def _answer(path: str) -> Report | UserError:
    try:
        return lint([path], settings_for(path))
    except UserError as error:
        return error


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
