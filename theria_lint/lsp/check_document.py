"""Run the static stage on the text of a document that may not have been saved."""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from dataclasses import replace

from theria_lint.config import Settings, check_rules, resolve_settings
from theria_lint.lsp.client import ClientOptions
from theria_lint.lsp.documents import StaticCheck
from theria_lint.pipeline import lint_paths
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.rules.loader import RuleSet
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
