"""What a shell is told when somebody asks it to complete a word."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from theria_lint.commands import COMMANDS

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

VARIABLE = "_THERIA_LINT_COMPLETE"


def take_command_out(environment: MutableMapping[str, str]) -> str | None:
    """The command that is being completed, if one is; its word is taken out of what the shell has passed on."""
    words = environment.get("COMP_WORDS", "").split("\n" if "fish" in environment.get(VARIABLE, "") else None, 2)
    if len(words) < 2 or words[1] not in COMMANDS:
        return None
    place = environment.get("COMP_CWORD", "")
    if place.isdigit() and int(place) < 2:
        return None  # the command itself is being typed
    environment["COMP_WORDS"] = " ".join([words[0], *words[2:]])
    if place.isdigit():
        environment["COMP_CWORD"] = str(int(place) - 1)
    return words[1]


def complete_rules(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The ids and names of rules, behind what is listed already."""
    from theria_lint.rules.loader import load_rules

    before, comma, word = incomplete.rpartition(",")
    known = {rule.id: rule.name for rule in load_rules().rules}
    items = [*known.items()] + [(name, rule) for rule, name in known.items()]
    return _select_items(items, before + comma, word)


def complete_words(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What can be explained: rules, verdicts, dispositions and reason codes."""
    from theria_lint.report.glossary import list_terms

    terms = [(term, "") for term in list_terms()]
    return complete_rules(context, parameter, incomplete) + _select_items(terms, "", incomplete)


def complete_paths(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Commands, where the word may be one, and files."""
    from click.shell_completion import CompletionItem

    is_first = not context.params.get("paths")
    commands = [(name, command.summary) for name, command in COMMANDS.items()] if is_first and incomplete else []
    return [CompletionItem(incomplete, type="file"), *_select_items(commands, "", incomplete)]


def _select_items(items: list[tuple[str, str]], before: str, word: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    fitting = [(value, told) for value, told in items if value.lower().startswith(word.lower())]
    return [CompletionItem(before + value, help=told or None) for value, told in fitting]
