"""The static stage on the text of a document that may not have been saved."""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from dataclasses import replace
from typing import NamedTuple

from theria_lint.config import Settings, check_rules, resolve
from theria_lint.lsp.client import Options
from theria_lint.pipeline import lint
from theria_lint.result import Report
from theria_lint.static.scan_files import load_rules

UNSAVED = "not run yet: save the file to have it run"
SWITCHED_OFF = "not run: confirming is switched off"
OUTSIDE = "not run: the file is outside the workspace"


class Checked(NamedTuple):
    """What the static stage found, and whether saving the document would have it run."""

    report: Report
    would_run: bool


def settings_for(path: str) -> Settings:
    """The settings that the command line would take for a file. Raises UserError."""
    resolved = resolve([path], {}, None, False)
    settings = resolved.settings
    rules = load_rules(settings.rule_paths, settings.detach_names)
    check_rules(settings, [rule.id for rule in rules.rules], resolved.sources)
    return settings


def check(path: str, text: str, options: Options, inside: bool) -> Checked:
    """Check ``text`` as the content of ``path``; ``inside``: that is in the workspace. Raises UserError."""
    settings = settings_for(path)
    confirm = settings.confirm and options.confirm
    # What is typed is not worth keeping in the cache. A byte order mark says UTF-8 whatever a coding comment says.
    shown, content = os.path.relpath(path).replace(os.sep, "/"), BOM_UTF8 + text.encode("utf-8", "surrogatepass")
    report = lint([shown], settings._replace(confirm=False, cache=False), given={shown: content})
    reason = SWITCHED_OFF if not confirm else UNSAVED if inside else OUTSIDE
    findings = tuple(replace(finding, reason=reason) for finding in report.findings)
    return Checked(replace(report, findings=findings), confirm and inside)
