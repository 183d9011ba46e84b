"""The parts of the server that need no client: places, edits, what survives an edit, what a client may set."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types

from tests.support.lsp_editor import applied
from theria.verdicts import Verdict
from theria_lint.errors import UserError
from theria_lint.lsp.client import ClientOptions, count_code_units, make_position, make_row_span, read_options
from theria_lint.lsp.code_actions import iter_quick_fixes, make_text_edits
from theria_lint.lsp.diagnostics import DiagnosticBuilder, DocumentMark, format_hover
from theria_lint.lsp.documents import FinishedRun, find_folder_around, merge_reports
from theria_lint.model import Disposition, Finding, Rewrite, Span, Suspect, Target, TargetKind, TargetResult
from theria_lint.reasons import Ground, Reason
from theria_lint.report.sentences import say
from theria_lint.result import Environment, LintReport
from theria_lint.rules.loader import load_rules

UTF8, UTF16, UTF32 = types.PositionEncodingKind.Utf8, types.PositionEncodingKind.Utf16, types.PositionEncodingKind.Utf32
LINES = st.lists(st.sampled_from(["", "a", "b", "🦜", "  c"]), max_size=8)
TEXT = "def f(q):\n    x.detach()\n    x.detach()\n"


def told(text: str) -> Reason:
    return Reason(Ground.RAISED, {"kind": text, "message": ""})


def finding(line: int, disposition: Disposition = Disposition.UNCONFIRMED, **more: object) -> Finding:
    suspect = Suspect(
        "THL002", "detach", "error", "k.py", Span(line, 5, line, 13), "f", "cuts", "mend", (line, line), "call"
    )
    return Finding(suspect, disposition, None, told("why"), **more)  # type: ignore[arg-type]


def report(*findings: Finding) -> LintReport:
    return LintReport(Environment(), 1, findings, (), ())


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_units_are_those_of_the_encoding(text: str) -> None:
    assert count_code_units(text, UTF32) == len(text)
    assert count_code_units(text, UTF16) == len(text.encode("utf-16-le")) // 2
    assert count_code_units(text, UTF8) == len(text.encode())


def test_places_behind_the_end_are_the_end() -> None:
    assert make_position(["a", "🦜b"], 3, 1, UTF16) == types.Position(1, 3)
    assert make_position(["a", "🦜b"], 2, 2, UTF16) == types.Position(1, 2)
    assert make_row_span(["", "  ab  "], 9) == Span(2, 3, 2, 5)
    assert make_row_span([""], 1) == Span(1, 1, 1, 1)


@given(LINES, LINES)
def test_edits_turn_one_text_into_the_other(before: list[str], after: list[str]) -> None:
    old, new = "\n".join(before), "\n".join(after)
    assert applied(old, make_text_edits(old, new, "\n", UTF32)) == new


@given(LINES, LINES)
def test_edits_keep_the_line_ends_of_the_document(before: list[str], after: list[str]) -> None:
    old, new = "\n".join(before), "\n".join(after)
    edited = applied(old.replace("\n", "\r\n"), make_text_edits(old, new, "\r\n", UTF32))
    assert edited == new.replace("\n", "\r\n")


def test_a_disposition_survives_an_edit_elsewhere() -> None:
    first, second = finding(2, Disposition.CLEARED), finding(3, Disposition.CONFIRMED)
    moved = "\n" + TEXT
    merged = merge_reports(moved, report(finding(3), finding(4)), FinishedRun(TEXT, report(first, second)))
    assert [(item.suspect.span.line, item.disposition) for item in merged.findings] == [
        (3, Disposition.CLEARED),
        (4, Disposition.CONFIRMED),
    ]
    assert say(merged.findings[0].reason) == "as last saved: why"


def test_what_was_edited_is_unconfirmed_again() -> None:
    edited = TEXT.replace("x.detach()", "y.detach()")
    merged = merge_reports(
        edited, report(finding(2), finding(3)), FinishedRun(TEXT, report(finding(2, Disposition.CONFIRMED)))
    )
    assert [item.disposition for item in merged.findings] == [Disposition.UNCONFIRMED] * 2


def test_an_edit_withdraws_the_rewrite_that_was_verified() -> None:
    rewrite = Rewrite("f", (("k.py", "mended"),))
    merged = merge_reports(TEXT + "\n", report(finding(2)), FinishedRun(TEXT, report(finding(2, rewrite=rewrite))))
    assert merged.findings[0].rewrite is None


def marks(shown: LintReport, text: str = TEXT) -> list[DocumentMark]:
    return list(DiagnosticBuilder("file:///k.py", text.split("\n"), UTF16).build_marks(shown, show_cleared=False))


@pytest.mark.parametrize(
    ("files", "text", "offered"),
    [
        ((("k.py", "mended\n"),), TEXT, True),
        ((("k.py", "mended\n"),), TEXT + "\n", False),
        ((("k.py", "mended\n"), ("other.py", "mended\n")), TEXT, False),
    ],
)
def test_a_rewrite_is_offered_for_the_text_that_was_verified(
    files: tuple[tuple[str, str], ...], text: str, offered: bool
) -> None:
    found = report(finding(2, Disposition.CONFIRMED, rewrite=Rewrite("f", files)))
    texts = [
        after
        for title, after, _ in iter_quick_fixes(marks(found), text, FinishedRun(TEXT, found))
        if title.startswith("Rewrite")
    ]
    assert texts == (["mended\n"] if offered else [])


def test_no_comment_is_offered_that_would_change_the_code() -> None:
    text = 'def f(q):\n    s = """\n    x.detach()\n"""\n'
    assert list(iter_quick_fixes(marks(report(finding(3)), text), text, None)) == []


def test_an_unsafe_kernel_without_a_suspect_says_where_to_look() -> None:
    target = Target("k.py", 1, "f", TargetKind.FUNCTION)
    unsafe = TargetResult(target, Verdict.SILENT_COLLAPSE, told("all is zero"))
    (mark,) = marks(report()._replace(targets=(unsafe,)))
    assert mark.diagnostic.message == ("f is silent_collapse: all is zero\nnote: no suspect explains it")
    assert mark.diagnostic.range == types.Range(types.Position(0, 4), types.Position(0, 5))


def test_markup_of_the_code_under_test_is_shown_as_it_is() -> None:
    hostile = replace(finding(2), reason=told("![x](https://example.com/x.png) <img src=x>\n# loud `"))
    text = format_hover(marks(report(hostile)), load_rules)
    assert r"\!\[x\]\(https://example.com/x.png\) \<img src=x\> \# loud \`" in text


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, ClientOptions()),
        ({"confirm": False}, ClientOptions(confirm=False)),
        ({"showCleared": True, "confirm": True}, ClientOptions(show_cleared=True)),
        ({"confirm": 1}, "The client sets confirm to 1; expected true or false."),
        ({"colour": True}, "The client sets 'colour', which is unknown; the settings are confirm, showCleared."),
        ([], "The client's settings are []; expected an object with confirm, showCleared."),
    ],
)
def test_what_a_client_sets_is_validated(raw: object, expected: ClientOptions | str) -> None:
    if isinstance(expected, ClientOptions):
        assert read_options(raw, ClientOptions()) == expected
    else:
        with pytest.raises(UserError) as raised:
            read_options(raw, ClientOptions())
        assert str(raised.value) == expected


def test_what_a_client_does_not_set_stays_as_it_was() -> None:
    assert read_options({"showCleared": True}, ClientOptions(confirm=False)) == ClientOptions(
        confirm=False, show_cleared=True
    )
    assert read_options({}, ClientOptions(confirm=False)) == ClientOptions(confirm=False)


def test_the_innermost_folder_around_a_path() -> None:
    assert find_folder_around("/a/b/c.py", ["/a", "/a/b", "/x"]) == "/a/b"
    assert find_folder_around("/ab/c.py", ["/a", "/a/"]) is None
    assert find_folder_around("/a/c.py", ["/a/"]) == "/a/"
