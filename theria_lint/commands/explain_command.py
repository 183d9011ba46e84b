"""The command line of ``theria-lint explain``."""

from __future__ import annotations

import click

from theria_lint.commands.command_output import PlainCommand, escape_unprintable_output, print_text
from theria_lint.commands.completion import complete_words


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
    from theria_lint.about import explain_word
    from theria_lint.config import resolve_settings
    from theria_lint.report.style import shown

    escape_unprintable_output()
    given = {"rule-paths": rule_paths} if rule_paths else {}
    settings = resolve_settings((".",), given, config, isolated).settings
    print_text(shown("\n".join(explain_word(word, settings, "explain") for word in words)))
