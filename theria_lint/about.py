"""Answer --show-settings, --list-rules and --explain."""

from __future__ import annotations

from typing import Any

from theria_lint.config import ResolvedSettings, check_rules, format_settings
from theria_lint.errors import UserError
from theria_lint.rules.explain import explain_rule
from theria_lint.static.scan_files import load_configured_rules


def get_about_text(resolved: ResolvedSettings, options: dict[str, Any]) -> str | None:
    """The text that was asked for instead of a run, None if none was. Raises UserError for a rule that is none."""
    settings = resolved.settings
    rules = load_configured_rules(settings.rule_paths, settings.detach_names)
    check_rules(settings, [rule.id for rule in rules.rules], resolved.sources)
    if options["show_settings"]:
        return format_settings(resolved)
    if options["list_rules"]:
        return "".join(
            f"{rule.id}  {rule.name:<22} {rule.severity:<8} {_take_first_sentence(rule.what)}\n" for rule in rules.rules
        )
    if options["explain"]:
        wanted = options["explain"]
        for rule in rules.rules:
            if wanted in (rule.id, rule.name):
                return explain_rule(rule).rstrip("\n") + "\n"
        raise UserError(
            f"--explain {wanted}: no such rule; the rules are {', '.join(rule.id for rule in rules.rules)}."
        )
    return None


def _take_first_sentence(text: str) -> str:
    """The first sentence, on one line."""
    return " ".join(text.split()).partition(". ")[0].rstrip(".") + "."
