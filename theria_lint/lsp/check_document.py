"""Lint what an editor shows: the text of a document that may not have been saved, or a saved file.

The static stage runs on a text, and both on a file: ``python -m theria_lint.lsp.check_document PATH SERVER`` writes
nothing but a pickled LintReport or UserError to standard output, and ends when the server, given by its process id,
ends.
"""

from __future__ import annotations

import os
import pickle
import sys
from codecs import BOM_UTF8
from dataclasses import replace

from theria_lint.config import Settings, check_rules, resolve_settings
from theria_lint.errors import UserError
from theria_lint.lsp.client import ClientOptions
from theria_lint.lsp.documents import StaticCheck
from theria_lint.pipeline import lint_paths
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.result import LintReport
from theria_lint.rules.loader import RuleSet
from theria_lint.sandbox import linux
from theria_lint.static.scan_files import load_configured_rules


def resolve_file_settings(path: str) -> Settings:
    """The settings that the command line would take for a file. Raises UserError."""
    resolved = resolve_settings([path], {}, None, False)
    settings = resolved.settings
    rules = load_configured_rules(settings.rule_paths, settings.detach_names)
    check_rules(settings, {rule.id: rule.name for rule in rules.rules}, resolved.sources)
    return settings


def load_document_rules(path: str) -> RuleSet:
    """The rules that are in force for a file. Raises UserError."""
    settings = resolve_file_settings(path)
    return load_configured_rules(settings.rule_paths, settings.detach_names)


def check_text(path: str, text: str, options: ClientOptions, inside: bool) -> StaticCheck:
    """Check ``text`` as the content of ``path``; ``inside``: that is in the workspace. Raises UserError."""
    settings = resolve_file_settings(path)
    confirm = settings.confirm and options.confirm
    # What is typed is not worth keeping in the cache. A byte order mark says UTF-8 whatever a coding comment says.
    shown, content = os.path.relpath(path).replace(os.sep, "/"), BOM_UTF8 + text.encode("utf-8", "surrogatepass")
    report = lint_paths([shown], settings._replace(confirm=False, cache=False), given={shown: content})
    unrun = ReasonCode.UNSAVED if inside else ReasonCode.OUTSIDE_WORKSPACE
    code = unrun if confirm else ReasonCode.CONFIRMING_OFF
    findings = tuple(replace(finding, reason=Reason(code)) for finding in report.findings)
    return StaticCheck(report._replace(findings=findings), confirm and inside)


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
