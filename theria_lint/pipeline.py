"""The linter from end to end: discover, scan, link across files, confirm, suppress."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from theria_lint.config import CALLS_DIR, Settings, list_named_symbols, name_module, names_file
from theria_lint.result import Environment, LintError, LintReport, Progress, ScannedFile
from theria_lint.sources.discovery import Discovery, discover_files
from theria_lint.static.scan_files import counts_targets, scan_files

if TYPE_CHECKING:
    from theria_lint.reasons import Reason


def lint_paths(
    paths: Sequence[str],
    settings: Settings,
    *,
    given: Mapping[str, bytes] | None = None,
    progress: Progress | None = None,
) -> LintReport:
    """Everything there is to say about the files under ``paths``.

    ``given`` holds the content of files that are not read from the disk (standard input), by path. ``progress`` is
    told what runs, how many targets are done and how many there are. Raises UserError for what exit code 2 stands
    for; what is wrong with one file is in ``Report.errors``.
    """
    until = time.monotonic() + settings.max_time if settings.max_time else None
    given = given or {}
    found = discover_files(paths, settings, given)
    files = found.files
    scanned = scan_files(files, _with_closures(settings), given)
    if any(item.candidates for item in scanned):
        from theria_lint.static.owners import add_owners

        scanned = add_owners(scanned, files, settings, given)
    if not settings.confirm and any(
        item.roots or any(target.left_to_bases for target in item.targets) for item in scanned
    ):
        from theria_lint.static.cross_file import add_suspects_of_owners

        scanned = add_suspects_of_owners(scanned, files, settings)
    failed = (error for item in scanned for error in item.errors)
    unmatched = report_unmatched(scanned, files, settings) if settings.confirm and settings.targets else ()
    errors = sorted([*_report_unlisted(found), *failed, *unmatched], key=_sort_key_of_error)
    notes = [*_make_notes(found, files), *(_uncached(settings) if any(item.texts for item in scanned) else ())]
    report = LintReport(Environment(), len(files), (), (), tuple(errors), tuple(notes), linted=tuple(files))
    if not counts_targets(files, settings):
        report = report._replace(unmeasured=None)
    if any(item.texts for item in scanned):
        # Most files hold nothing: what only the others need is loaded for them alone.
        from theria_lint.confirm.eligibility import confirm_scanned_files
        from theria_lint.suppress.apply import restrict_to_linted, suppress_findings

        if settings.confirm:
            from theria_lint.static.cross_file import link_calls

            scanned = link_calls(scanned, files, settings, given)
        report = confirm_scanned_files(
            report, scanned, settings, given=given, linted=files, progress=progress, until=until
        )
        report = restrict_to_linted(suppress_findings(report, scanned, settings, files), files)
    return report


def _with_closures(settings: Settings) -> Settings:
    """The settings with the closures as targets of which calls are recorded: only these tell what made them."""
    folder = settings.calls_dir or os.path.join(settings.root, CALLS_DIR)
    if not settings.confirm or settings.calls == "guessed" or not os.path.isdir(folder):
        return settings
    from theria_lint.calls.call_file import find_closures

    made = [{"target": f"{name_module(path)}:{symbol}"} for path, symbol in find_closures(folder)]
    return settings._replace(targets=(*settings.targets, *made))


def report_unmatched(scanned: Sequence[ScannedFile], files: Sequence[str], settings: Settings) -> Iterator[LintError]:
    """The targets that the configuration names, and no linted file defines.

    An entry may be for a file that is not linted now: it is judged where its file is, or all of the project.
    """
    root = os.path.join(settings.root, "")
    whole = any(root.startswith(os.path.join(os.path.abspath(path), "")) for path in settings.linted[1:])
    for module, symbol in list_named_symbols(settings.targets):
        fitting = [path for path in files if module and names_file(module, path)]
        known = any(
            target.symbol == symbol and names_file(module, item.path) for item in scanned for target in item.targets
        )
        if not known and (fitting or whole):
            from theria_lint.reasons import Reason, ReasonCode

            name = f"{module}:{symbol}" if module else symbol
            where = fitting[0] if fitting else os.path.relpath(settings.root)
            yield LintError(
                where,
                None,
                Reason(ReasonCode.TARGET_NOT_DEFINED, {"symbol": symbol, "target": name}),
            )


def _sort_key_of_error(error: LintError) -> tuple[str, int, int]:
    return error.path, error.cell or 0, error.line or 0


def _report_unlisted(found: Discovery) -> list[LintError]:
    if not found.unlisted:
        return []
    from theria_lint.reasons import Reason, ReasonCode

    return [
        LintError(path, None, Reason(ReasonCode.FOLDER_UNREADABLE, {"message": message}))
        for path, message in found.unlisted
    ]


def _make_notes(found: Discovery, files: Sequence[str]) -> list[Reason]:
    """What is worth knowing about which files are linted; most runs have nothing of the kind."""
    if files and not (found.excluded or found.unread or found.outside):
        return []
    from theria_lint.reasons import Reason, ReasonCode

    notes = [Reason(ReasonCode.EXCLUDED, {"file": path}) for path in found.excluded]
    notes += [
        Reason(ReasonCode.NOT_HEEDED, {"file": path, "reason": Reason(e.code, e.data)}) for path, e in found.unread
    ]
    if found.outside:
        notes.append(Reason(ReasonCode.LINKS_OUT, {"files": sorted(found.outside)}))
    return notes if files else [*notes, Reason(ReasonCode.NO_FILES)]


def _uncached(settings: Settings) -> list[Reason]:
    """Why results are not kept where they would be."""
    if not settings.cache:
        return []
    from theria_lint.cache import place_of
    from theria_lint.sources.owned_folder import find_foreign_folder

    places = {*place_of(settings.cache_dir, settings.linted)}
    foreign = [folder for place in places if (folder := find_foreign_folder(place))]
    if not foreign:
        return []
    from theria_lint.reasons import Reason, ReasonCode

    return [Reason(ReasonCode.CACHE_FOREIGN, {"folder": folder}) for folder in foreign]
