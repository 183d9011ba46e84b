"""The command line of ``theria-lint clean``: remove the results that are kept, and nothing that is not ours."""

from __future__ import annotations

import os

import click

from theria_lint.commands.command_output import PlainCommand, escape_unprintable_output, make_inert, print_text


@click.command(cls=PlainCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--cache-dir", metavar="DIR", help="Where results are kept, if not where the settings say.")
@click.option("--config", metavar="FILE", help="This configuration file instead of the nearest.")
@click.option("--isolated", is_flag=True, help="Read no configuration file.")
def clean_cache(cache_dir: str | None, config: str | None, isolated: bool) -> None:
    """Remove the results that are kept between runs.

    Only files that bear theria-lint's own signature are removed, in a folder that bears its mark; what else is there
    stays, and is counted. Recorded calls, baselines and trusted interpreters are no results. To lint a folder that is
    called clean, write ./clean.
    """
    from theria_lint.config import resolve_settings

    escape_unprintable_output()
    given = {} if cache_dir is None else {"cache-dir": cache_dir}
    settings = resolve_settings((".",), given, config, isolated).settings
    for line in _remove_results(settings.cache_dir, settings.linted):
        print_text(make_inert(line) + "\n")


def _remove_results(cache_dir: str | None, linted: tuple[str, ...]) -> list[str]:
    """What was done, in words."""
    from theria_lint.cache import KINDS, EntryStore, Removal, place_of
    from theria_lint.report.command_messages import list_removed, say_foreign_cache
    from theria_lint.sources.owned_folder import NAME, find_foreign_folder

    place = place_of(cache_dir, linted)
    folder = os.path.join(place.folder, NAME)
    if find_foreign_folder(place.folder):
        return [say_foreign_cache(folder)]
    removed = Removal()
    for kind in KINDS:
        try:
            found = EntryStore(place, kind).remove_entries()
        except OSError:
            continue
        removed = Removal(*(a + b for a, b in zip(removed, found, strict=True)))
    return list_removed(folder, removed.entries, removed.size, removed.left)
