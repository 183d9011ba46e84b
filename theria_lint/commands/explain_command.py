"""The command line of ``theria-lint explain``, and what --show-settings, --list-rules and --explain print."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import click

from theria_lint.cache import place_of
from theria_lint.commands.command_output import PlainCommand, complete_words, escape_unprintable_output, print_text
from theria_lint.config import ResolvedSettings, Settings, check_rules, format_settings, resolve_settings
from theria_lint.errors import UserError, suggest_name
from theria_lint.rules.loader import Rule
from theria_lint.rules.pages import explain_rule, take_first_clause
from theria_lint.sources.discovery import SKIPPED_DIRECTORIES
from theria_lint.sources.owned_folder import NAME
from theria_lint.static.scan_files import load_configured_rules


@click.command(cls=PlainCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", metavar="WORD...", nargs=-1, required=True, shell_complete=complete_words)
@click.option("--rule-path", "rule_paths", metavar="DIR", multiple=True, help="More rules of your own.")
@click.option("--config", metavar="FILE", help="This configuration file instead of the nearest.")
@click.option("--isolated", is_flag=True, help="Read no configuration file.")
def explain_words(words: tuple[str, ...], rule_paths: tuple[str, ...], config: str | None, isolated: bool) -> None:
    """Explain each WORD: a rule by its id or name, a verdict, a disposition or a reason code, in any case.

    For example: theria-lint explain THL005, theria-lint explain silent_collapse. To lint a folder that is called
    explain, write ./explain.
    """
    from theria_lint.report.style import shown

    escape_unprintable_output()
    given = {"rule-paths": rule_paths} if rule_paths else {}
    settings = resolve_settings((".",), given, config, isolated).settings
    print_text(shown("\n".join(explain_word(word, settings, "explain") for word in words)))


def get_about_text(resolved: ResolvedSettings, options: dict[str, Any]) -> str | None:
    """The text that was asked for instead of a run, None if none was. Raises UserError for a rule that is none."""
    settings = resolved.settings
    rules = load_configured_rules(settings.rule_paths, settings.detach_names)
    check_rules(settings, {rule.id: rule.name for rule in rules.rules}, resolved.sources)
    if options["show_settings"]:
        return format_settings(resolved) + _describe_surroundings(settings)
    if options["list_rules"]:
        return "".join(
            f"{rule.id}  {rule.name:<22} {rule.severity:<8} {take_first_clause(rule.what)}\n" for rule in rules.rules
        )
    return _explain_word(options["explain"], rules.rules, "--explain") if options["explain"] else None


def _describe_surroundings(settings: Settings) -> str:
    """What applies beside the settings, as comments: the result is a configuration still."""
    folder = os.path.join(place_of(settings.cache_dir, settings.linted).folder, NAME)
    kept = f"results are kept in {folder}" if settings.cache else "no results are kept"
    skipped = ", ".join(sorted(SKIPPED_DIRECTORIES))
    return f"# {kept}\n# never walked: {skipped}; folders with a pyvenv.cfg\n"


def explain_word(wanted: str, settings: Settings, asked_by: str) -> str:
    """What a rule, a verdict, a disposition or a reason code is, by its name in any case.

    Raises UserError, which begins with what asked for it.
    """
    return _explain_word(wanted, load_configured_rules(settings.rule_paths, settings.detach_names).rules, asked_by)


def _explain_word(wanted: str, rules: Sequence[Rule], asked_by: str) -> str:
    from theria_lint.report.glossary import explain_term, list_terms

    word = wanted.strip().lower().replace("-", "_")
    for rule in rules:
        if word in (rule.id.lower(), rule.name.replace("-", "_")):
            return explain_rule(rule).rstrip("\n") + "\n"
    told = explain_term(word)
    if told is None:
        known = [*(rule.id for rule in rules), *(rule.name for rule in rules), *list_terms()]
        raise UserError(
            f"{asked_by} {wanted}: no such rule, verdict, disposition or reason code{suggest_name(wanted, known)}; "
            f"the rules are {', '.join(rule.id for rule in rules)}."
        )
    return told
