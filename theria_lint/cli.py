"""The command line: turn options into settings, write the reports, return an exit code."""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TextIO

import click

from theria_lint import __version__
from theria_lint.commands import COMMANDS
from theria_lint.commands.command_output import (
    CommandFailure,
    PlainCommand,
    complete_paths,
    complete_rules,
    complete_words,
    escape_unprintable_output,
    make_inert,
    print_text,
    say_line,
)
from theria_lint.config import CALLS, DEVICES, FAIL_ON, FORMATS, KEYS, Settings
from theria_lint.errors import UserError, suggest_name
from theria_lint.report import ReportView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from theria_lint.reasons import Reason
    from theria_lint.result import LintReport, Progress

EPILOG = """Exit codes: 0 nothing to report; 1 confirmed or unconfirmed findings, unsafe targets, or files
that could not be checked (--fail-on narrows it); 2 wrong usage or configuration, a missing path, an internal error;
130 interrupted with Ctrl-C, after a report of what was known by then."""

INTERRUPTED_EXIT_CODE = 130


def _split_codes(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    """A comma-separated list."""
    return None if value is None else [item.strip() for item in value.split(",") if item.strip()]


class _DeviceChoice(click.Choice[str]):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take a GPU by its number too, which the settings check."""
        return value if str(value).startswith("cuda:") else super().convert(value, param, ctx)


class _MainCommand(PlainCommand):
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands that may stand in the place of the first path, then the options."""
        if ctx.info_name not in COMMANDS:
            with formatter.section("Commands"):
                formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])
        super().format_options(ctx, formatter)


@click.command(cls=_MainCommand, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, shell_complete=complete_paths)
@click.option("--confirm/--no-confirm", default=None, help="Run the code, to confirm or clear suspects.")
@click.option(
    "--python",
    metavar="PATH",
    help="Interpreter that runs the code; by default the first with torch of this one, the active environment's and, "
    "if it is trusted, the project's.",
)
@click.option("--trust", is_flag=True, help="Allow the project's own choice of interpreter, now and from now on.")
@click.option("--device", type=_DeviceChoice(DEVICES), help="Where the code runs; cuda is every GPU, cuda:N one.")
@click.option("--calls", type=click.Choice(CALLS), help="Call targets as recorded, as guessed, or as recorded if so.")
@click.option("--calls-dir", metavar="DIR", help='Where "theria-lint record" has kept calls.')
@click.option("--timeout", type=float, metavar="SECONDS", help="Time limit of a run of a target; fourfold on a GPU.")
@click.option(
    "--max-time", type=float, metavar="SECONDS", help="Time limit of the whole run, verdicts first; 0 for none."
)
@click.option("-j", "--jobs", type=int, metavar="N", help="Processes; 0 for one per CPU.")
@click.option(
    "--executor",
    metavar="NAME",
    help="Whose machines run the code: local (this one), slurm, or a Dask scheduler, as dask://HOST:PORT.",
)
@click.option(
    "--select",
    metavar="RULES",
    callback=_split_codes,
    shell_complete=complete_rules,
    help="Report only these rules (prefixes, with commas).",
)
@click.option(
    "--ignore",
    metavar="RULES",
    callback=_split_codes,
    shell_complete=complete_rules,
    help="Leave these rules out (prefixes, with commas).",
)
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Leave out paths, in the syntax of .gitignore.")
@click.option("--respect-gitignore/--no-respect-gitignore", default=None, help="Leave out what git ignores.")
@click.option("--rule-path", "rule_paths", metavar="DIR", multiple=True, help="More rules of your own.")
@click.option("--detach-name", "detach_names", metavar="NAME", multiple=True, help="A function that cuts the graph.")
@click.option("--fail-on", metavar="KINDS", callback=_split_codes, help=f"What exits with 1: {', '.join(FAIL_ON)}.")
@click.option("--output-format", type=click.Choice(FORMATS), help="Format of the report on standard output.")
@click.option("--output-file", "files", metavar="FORMAT:PATH", multiple=True, help="One more report, to a file.")
@click.option("-q", "--quiet", is_flag=True, help="Short for --output-format concise, without notes and progress.")
@click.option("-v", "--verbose", is_flag=True, help="Every run and every target, and tracebacks.")
@click.option("--show-cleared", is_flag=True, help="Show cleared suspects too.")
@click.option("--diff", is_flag=True, help="Print the rewrites that were verified, as a patch, instead of the report.")
@click.option("--fix", is_flag=True, help="Write the rewrites that were verified, to files that git can restore.")
@click.option("--backup", is_flag=True, help="With --fix: keep FILE.orig of each file, whatever git says.")
@click.option("--durations", type=int, metavar="N", help="How long the run and its N slowest targets took; 0 for all.")
@click.option("--statistics", is_flag=True, help="Count suspects by rule and disposition instead of listing them.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="When to use colours.")
@click.option("--stdin-filename", metavar="PATH", help="Name of what standard input (-) holds.")
@click.option("--baseline", metavar="FILE", help="Leave out the findings that this file accepts.")
@click.option("--write-baseline", metavar="FILE", help="Accept what is found now: write it to this file.")
@click.option("--add-ignores", is_flag=True, help="Write an ignore comment to every line with a finding.")
@click.option("--cache/--no-cache", default=None, help="Keep results between runs.")
@click.option("--cache-dir", metavar="DIR", help="Where results are kept.")
@click.option("--config", metavar="FILE", help="This configuration file instead of the nearest.")
@click.option("--isolated", is_flag=True, help="Read no configuration file.")
@click.option("--show-settings", is_flag=True, help="Print the settings and where each comes from.")
@click.option("--list-rules", is_flag=True, help="Print the rules.")
@click.option(
    "--explain",
    metavar="WORD",
    shell_complete=complete_words,
    help="Explain a rule, a verdict, a disposition or a reason code.",
)
@click.version_option(__version__, "-V", "--version", prog_name="theria-lint", message="%(prog)s %(version)s")
def run_command_line(paths: tuple[str, ...], **options: Any) -> None:
    """Find attention code that is not safe to differentiate twice, and prove it.

    PATHS are files and directories; - is standard input. Without any, the working directory is checked. The first word
    may be a command, with a --help of its own; a path that is called like one is given as ./record.
    """
    try:
        code = execute_options(paths, options)
    except (UserError, click.ClickException, click.exceptions.Exit, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        code = INTERRUPTED_EXIT_CODE
    except Exception as error:
        if options["verbose"]:
            _say_where()
        raise CommandFailure(
            f"internal error: {type(error).__name__}: {error}; please report it with what --verbose adds."
        ) from None
    sys.exit(code)


def execute_options(paths: tuple[str, ...], options: dict[str, Any]) -> int:
    """Do what the options say; returns the exit code. Raises UserError."""
    from theria_lint.config import resolve_settings

    escape_unprintable_output()
    given = _read_standard_input(paths, options["stdin_filename"])
    _refuse_misspelt_command(paths)
    paths = tuple(given) + tuple(path for path in paths if path != "-") or (".",)
    resolved = resolve_settings(paths, _select_configured_options(options), options["config"], options["isolated"])
    settings = resolved.settings
    if _needs_rules(settings, options):
        from theria_lint.commands.explain_command import get_about_text

        text = get_about_text(resolved, options)
        if text is not None:
            from theria_lint.report.style import shown

            print_text(shown(text))
            return 0
    return _lint_and_report(paths, given, settings, options)


def _read_standard_input(paths: tuple[str, ...], name: str | None) -> dict[str, bytes]:
    """The content of standard input under the name it is reported by, if it is to be read."""
    if "-" not in paths:
        if name is not None:
            raise UserError("--stdin-filename names what standard input holds; pass - as the path.")
        return {}
    shown = os.path.relpath(name).replace(os.sep, "/") if name else "<stdin>"
    return {shown: sys.stdin.buffer.read()}


def _refuse_misspelt_command(paths: tuple[str, ...]) -> None:
    """Raise UserError where a path that does not exist is, or nearly is, a command."""
    for number, path in enumerate(paths):
        if path == "-" or os.path.lexists(path):
            continue
        if path in COMMANDS:
            raise UserError(f"{path}: no such file or directory; the command {path} has to be the first word.")
        near = suggest_name(path, COMMANDS) if number == 0 and path.isalpha() else ""
        if near:
            raise UserError(
                f"{path}: no such file, directory or command{near}; the commands are {', '.join(COMMANDS)}."
            )


def _select_configured_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options that the configuration knows too, under its keys, if they were given."""
    values = {key: options.get(key.replace("-", "_")) for key in KEYS}
    return {key: value for key, value in values.items() if value not in (None, ())}


def _needs_rules(settings: Settings, options: dict[str, Any]) -> bool:
    asked = options["show_settings"] or options["list_rules"] or options["explain"]
    return bool(asked or settings.select or settings.ignore or settings.per_file_ignores)


def _lint_and_report(
    paths: tuple[str, ...], given: dict[str, bytes], settings: Settings, options: dict[str, Any]
) -> int:
    from theria_lint.pipeline import lint_paths

    outputs = [_parse_output_option(value) for value in options["files"]]
    _refuse_lost_options(settings, options, given)
    writing = options["write_baseline"]
    if settings.baseline and not writing and not os.path.isfile(settings.baseline):
        raise UserError(f"{settings.baseline}: no such baseline; write one with --write-baseline.")
    if writing:
        settings = settings._replace(baseline=None)
    if options["trust"]:
        from theria_lint.confirm.python_interpreter import trust_offered_interpreter
        from theria_lint.report.sentences import list_note_lines

        for line in list_note_lines([trust_offered_interpreter(settings)]):
            say_line(line)
    began = time.monotonic()
    with _open_progress_line(options) as progress:
        report = lint_paths(paths, settings, given=given, progress=progress)
    _refuse_sources([*([writing] if writing else ()), *(path for _, path in outputs)], report)
    if (writing or options["add_ignores"]) and not report.interrupted:
        return _accept_findings(report, options)
    said: list[str] = []
    if options["fix"] and not report.interrupted:
        from theria_lint.write_fixes import write_fixes

        if write_fixes(report, paths, options["backup"], lambda sentence: _print_notes(options, [sentence])):
            with _open_progress_line(options) as progress:
                report = lint_paths(paths, settings, progress=progress)
    from theria_lint.report import render
    from theria_lint.report.summary import compute_exit_code

    view = _make_view(options)._replace(elapsed=time.monotonic() - began)
    if view.verbose and view.durations is None and settings.output_format == "json":
        view = view._replace(durations=0)
    if options["diff"]:
        from theria_lint.report.patch import count_rewrites, make_patch

        patch, left_out = make_patch(report)
        said += [*left_out, count_rewrites(report)]
        print_text(patch)
    else:
        print_text(render(report, _choose_format(settings, options), view), view.colour)
    for name, path in outputs:
        from theria_lint.sources.atomic_write import write_text

        write_text(path, render(report, name, _make_file_view(options, view.elapsed)))
    failure = report.failure
    _print_notes(options, said, [note for note in report.notes if not failure or note.data.get("reason") != failure])
    if failure:
        from theria_lint.report.sentences import say

        raise UserError(f"nothing was run: {say(failure)}.")
    return INTERRUPTED_EXIT_CODE if report.interrupted else compute_exit_code(report, settings.fail_on)


def _refuse_sources(written: Sequence[str], report: LintReport) -> None:
    """Raise UserError where the name of a file to write is that of one that was linted: a value was forgotten."""
    linted = {os.path.realpath(path) for path in report.linted} if written else set()
    for path in written:
        if os.path.realpath(path) in linted:
            raise UserError(f"{path}: is a file that is linted; name another one to write.")


def _refuse_lost_options(settings: Settings, options: dict[str, Any], given: Mapping[str, bytes]) -> None:
    """Raise UserError for options of which one would say nothing beside another."""
    if options["backup"] and not options["fix"]:
        raise UserError("--backup keeps what --fix changes: add --fix.")
    if options["fix"] and given:
        raise UserError("--fix writes files, and standard input is none: name the file.")
    if options["fix"] and not settings.confirm:
        raise UserError("--fix writes rewrites that were run, and nothing is run (confirm is off): add --confirm.")
    if (options["durations"] or 0) < 0:
        raise UserError(f"--durations {options['durations']}: expected how many targets to list, 0 for all.")
    timed = {_choose_format(settings, options), *(value.partition(":")[0] for value in options["files"])}
    if options["durations"] is not None and not timed & {"text", "json"}:
        raise UserError(f"--durations has no form as {', '.join(sorted(timed))}: take text or json.")
    if options["statistics"] and settings.output_format != "text":
        raise UserError(f"--statistics has no form as {settings.output_format}: leave out one of the two.")
    if options["diff"] and options["statistics"]:
        raise UserError("--diff prints a patch in the place of a report: leave out --statistics.")
    writing = next((name for name in ("write_baseline", "add_ignores") if options[name]), None)
    if options["fix"] and (options["diff"] or writing):
        other = "--diff" if options["diff"] else f"--{str(writing).replace('_', '-')}"
        raise UserError(f"--fix writes the rewrites, which {other} keeps from being done: leave out one of the two.")
    if writing and (options["diff"] or options["files"]):
        lost = "--diff" if options["diff"] else "--output-file"
        raise UserError(f"--{writing.replace('_', '-')} writes no report: leave out {lost}.")


def _choose_format(settings: Settings, options: dict[str, Any]) -> str:
    """The format of the report on standard output; ``--quiet`` shortens the one for people and no other."""
    short = options["quiet"] and settings.output_format == "text" and not options["statistics"]
    return "concise" if short else settings.output_format


def _parse_output_option(value: str) -> tuple[str, str]:
    """The format and path of an ``--output-file``."""
    name, _, path = value.partition(":")
    if name not in FORMATS or not path:
        raise UserError(f"--output-file {value}: expected FORMAT:PATH with a format of {', '.join(FORMATS)}.")
    return name, path


def _make_view(options: dict[str, Any]) -> ReportView:
    """What to show, by the options and by what standard output can do."""
    return ReportView(
        colour=_wants_colour(options["color"]),
        unicode=_can_write("·∂…∅≠", sys.stdout.encoding),
        verbose=options["verbose"],
        show_cleared=options["show_cleared"],
        statistics=options["statistics"],
        width=_measure_terminal_width(sys.stdout),
        durations=options["durations"],
    )


def _make_file_view(options: dict[str, Any], elapsed: float) -> ReportView:
    """What a report in a file shows: everything but times, which differ from run to run, unless they are wanted."""
    show_cleared, durations = options["show_cleared"], options["durations"]
    return ReportView(verbose=True, show_cleared=show_cleared, durations=durations, elapsed=elapsed)


def _wants_colour(wanted: str) -> bool:
    """Whether to use colours: as the option says or, where it says nothing, the usual variables and the terminal."""
    if wanted != "auto":
        return wanted == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if any(os.environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _measure_terminal_width(stream: TextIO) -> int:
    """How wide the terminal is that a stream goes to; 0 where it goes to none."""
    if not stream.isatty():
        return 0
    from shutil import get_terminal_size

    return get_terminal_size().columns


def _can_write(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _open_progress_line(options: dict[str, Any]) -> AbstractContextManager[Progress | None]:
    """A line on the terminal that says what runs; none where nobody watches."""
    if options["quiet"] or not sys.stderr.isatty():
        return nullcontext()
    from theria_lint.report.progress_line import ProgressLine

    return ProgressLine(sys.stderr)


def _print_notes(options: dict[str, Any], said: Sequence[str], notes: Sequence[Reason] = ()) -> None:
    """What is worth knowing about the run, beside the report: on standard error; ``said`` is in words already."""
    if options["quiet"]:
        return
    if notes:
        from theria_lint.report.sentences import list_note_lines

        for line in list_note_lines(notes):
            say_line(line)
    for sentence in said:
        say_line(f"Note: {make_inert(sentence)}")


def _say_where() -> None:
    """Where the present exception was raised."""
    from traceback import format_exc

    from theria_lint.report.style import shown

    say_line(shown(format_exc()))


def _accept_findings(report: LintReport, options: dict[str, Any]) -> int:
    """Write a baseline or ignore comments instead of a report."""
    if options["write_baseline"]:
        from theria_lint.report.summary import list_unexplained_targets
        from theria_lint.suppress.baseline import write_baseline

        path = options["write_baseline"]
        count = write_baseline(path, report.findings, list_unexplained_targets(report), report.sources)
        print_text(make_inert(f"{path}: accepts {count} {'finding' if count == 1 else 'findings'}.") + "\n")
    if options["add_ignores"]:
        from theria_lint.report.style import describe_added_ignores
        from theria_lint.suppress.ignore_comments import add_ignores

        for added in add_ignores(report):
            print_text(make_inert(describe_added_ignores(*added)) + "\n")
    _print_notes(options, (), report.notes)
    return 0
