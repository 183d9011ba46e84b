"""The HTML report as text: well formed, self-contained, closed to what the code under test says."""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from tests.support.html_case import EMPTY, EVIL, REPORT, REWRITTEN, hostile, large
from theria_lint.model import Rewrite, Span
from theria_lint.reasons import Reason, ReasonCode
from theria_lint.report import ReportView, render
from theria_lint.report.html.evidence_pair import render_evidence
from theria_lint.report.html.markup import escape_text, render_prose, tag
from theria_lint.result import LintReport

VOID = ("input", "link", "meta", "wbr")
REPORTS = {"sample": REWRITTEN, "nothing": EMPTY, "hostile": hostile(), "large": large(30)}


class Reader(HTMLParser):
    """Elements with their attributes and text; refuses what is not closed in its order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: Counter[str] = Counter()
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts[self.open[-1] if self.open else ""] += len(data)

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None]


@pytest.fixture(params=REPORTS, scope="module")
def page(request: pytest.FixtureRequest) -> str:
    return render(REPORTS[request.param], "html", ReportView())


def test_it_is_well_formed_and_its_links_lead_somewhere(page: str) -> None:
    reader = Reader(page)
    ids = Counter(reader.values("id"))
    assert set(ids.values()) == {1}
    links = reader.values("href")
    assert [link for link in links if link.startswith("#") and link[1:] not in ids] == []
    assert [link for link in links if not link.startswith(("#", "data:image/svg+xml,"))] == []
    labelled = [value for name in ("aria-labelledby", "for") for value in reader.values(name)]
    assert [name for name in labelled if name not in ids] == []


def test_it_loads_nothing_and_runs_nothing_but_its_own(page: str) -> None:
    reader = Reader(page)
    assert reader.values("src") == []
    assert reader.values("style") == []
    assert [name for _, attributes in reader.elements for name in attributes if name.startswith("on")] == []
    names = Counter(name for name, _ in reader.elements)
    assert (names["script"], names["style"]) == (1, 1)
    assert not {"img", "iframe", "object", "embed", "base", "form"} & set(names)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert not re.search(r"url\(|@import|@font-face", style)


def test_its_policy_allows_its_own_style_and_script_alone(page: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    allowed = dict(part.strip().split(" ", 1) for part in policy.replace("&#x27;", "'").split(";"))
    assert allowed["default-src"] == "'none'"
    for name in ("style", "script"):
        (content,) = re.findall(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)
        assert allowed[f"{name}-src"] == f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
    assert set(allowed) == {"default-src", "style-src", "script-src", "img-src", "base-uri", "form-action"}


def test_it_is_ascii_and_ends_with_a_newline(page: str) -> None:
    assert page.isascii()
    assert page.endswith("</html>\n")
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", page)
    assert not [code for code in re.findall(r"&#(\d+);", page) if 0xD800 <= int(code) < 0xE000]


def test_nothing_from_outside_becomes_markup() -> None:
    page = render(hostile(), "html", ReportView())
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=") > 50
    assert 'onerror="' not in page
    assert "\\x1b\\u202e" in page
    assert EVIL not in page


def test_text_becomes_markup_in_one_place() -> None:
    assert tag("p", "<b>", tag("i", "&"), None, class_="x", data_rule='"', hidden=False, open=True) == (
        '<p class="x" data-rule="&quot;" open>&lt;b&gt;<i>&amp;</i></p>'
    )
    assert render_prose("use `a < b`, not c") == "use <code>a &lt; b</code>, not c"
    assert render_prose("one ` alone") == "one ` alone"
    assert escape_text("\x07") == "\\x07"


@pytest.mark.parametrize("name", ["sample", "hostile"])
def test_every_finding_target_run_and_error_is_there(name: str) -> None:
    report = REPORTS[name]
    reader = Reader(render(report, "html", ReportView()))
    kinds = Counter(reader.values("data-kind"))
    assert kinds["finding"] == len(report.findings)
    assert kinds["target"] == len(report.targets)
    assert kinds["source"] == len(report.sources)
    classes = Counter(name for value in reader.values("class") for name in value.split())
    assert classes["run"] == sum(len(result.runs) for result in report.targets)
    assert classes["small"] == sum(any(run.blocks for run in result.runs) for result in report.targets)


def page_of(report: LintReport) -> str:
    return render(report, "html", ReportView())


def test_the_states_of_blocks_are_told_apart_by_sign_class_and_word() -> None:
    page = page_of(REPORT)
    for state, sign, label in (
        ("missing", "&#8709;", "missing"),
        ("wrong shade3", "&#8800;", "2.5e-01"),
        ("wrong shade1", "&#8800;", "5.0e-04"),
        ("unclear", "?", "unclear"),
        ("right shade2", "&#183;", "2.0e-07"),
        ("zero", "0", "zero"),
    ):
        shown = rf'<span class="sign" aria-hidden="true">{re.escape(sign)}</span> {label}</td>'
        assert re.search(rf'<td class="[^"]*{state}" title="[^"]*">{shown}', page), state
    assert "norm 4, oracle&#x27;s 4, relative error 0.25" in page
    assert 'aria-label="Blocks: 3 missing, 5 wrong, 1 unclear, 2 right, 1 zero"' in page


def test_suspects_are_marked_in_the_source_and_lead_back() -> None:
    page = page_of(REPORT)
    mark = (
        r'<a href="#(f\d)" title="THL002 detach, confirmed: back to the finding"><mark class="confirmed">(.*?)</mark>'
    )
    (found,) = re.findall(mark, page)
    assert found[1] == ".detach("
    assert f'id="{found[0]}"' in page
    assert re.search(r'<span class="row cleared" id="s1-10" data-n="10">', page)
    assert page.count('<mark class="confirmed">') >= 5


def test_the_innermost_of_overlapping_suspects_is_marked() -> None:
    outer, inner = REPORT.findings[1], REPORT.findings[2]
    spans = (Span(4, 5, 7, 20), Span(7, 16, 7, 22))
    findings = [
        replace(finding, suspect=replace(finding.suspect, span=span))
        for finding, span in zip((outer, inner), spans, strict=True)
    ]
    page = page_of(REPORT._replace(findings=tuple(findings)))
    row = re.findall(r'id="s1-7".*?\n', page)[0]
    assert (
        re.sub(r"<(?!/?mark)[^>]*>", "", row)
        .split(">", 1)[1]
        .startswith('        <mark class="confirmed">return </mark><mark class="cleared">(&quot;')
    )


def test_a_verified_rewrite_is_a_diff() -> None:
    page = page_of(REWRITTEN)
    assert page.count("The rewrite that mends it") == 1
    (removed,) = re.findall(r'<span class="row removed">-(.*)', page)
    (added,) = re.findall(r'<span class="row added">\+(.*)', page)
    assert removed.replace(".detach()", "") == added
    other = replace(REPORT.findings[0], rewrite=Rewrite("Attention", (("kernels/other.py", "x\n"),)))
    assert "the report has not kept its text" in page_of(REPORT._replace(findings=(other,)))


def test_gates_parameters_and_a_lone_x_have_maps_that_fit_them() -> None:
    names = ("q", "k", "v", "g", "p")
    wide = {f"{a},{b}": {"norm": 1.0, "oracle_norm": 1.0, "error": 0.0} for a in names for b in (*names, "out")}
    narrow = {"x,x": wide["q,q"], "x,out": wide["q,q"]}
    run = REPORT.targets[0].runs[0]
    runs = tuple(
        replace(run, blocks=blocks, gradients={}, states=dict.fromkeys(blocks, "right")) for blocks in (wide, narrow)
    )
    page = page_of(REPORT._replace(targets=(replace(REPORT.targets[0], runs=runs),)))
    heads = [re.findall(r"<th scope=\"col\"[^>]*>&#8706;/&#8706;(\w+)</th>", table) for table in page.split("<table")]
    assert [head for head in heads if head] == [["q", "k", "v", "g", "p", "W"], ["x", "W"]]


def test_the_headline_says_what_it_amounts_to() -> None:
    def headline(report: LintReport) -> str:
        return re.findall(r"<title>theria-lint: (.*?)</title>", page_of(report))[0]

    assert headline(REPORT) == (
        "2 of 4 targets break when differentiated twice; 2 lines are to blame, and 1 target stays unexplained."
    )
    assert headline(EMPTY) == "No attention code found in 0 files."
    assert headline(REPORT._replace(targets=())) == "Nothing was run: 4 suspects in 5 files."
    assert headline(REPORT._replace(targets=REPORT.targets[3:])) == "None of 1 target could be judged."
    safe = REPORT._replace(targets=REPORT.targets[2:])
    assert headline(safe) == "No target breaks when it is differentiated twice; 1 of 2 targets judged."
    one = REPORT._replace(targets=REPORT.targets[:1], findings=())
    assert headline(one) == "1 of 1 target breaks when differentiated twice; no suspect explains it."


def test_what_is_so_with_a_suspect_and_without_it_stands_in_two_columns() -> None:
    inner = Reason(ReasonCode.NOTHING_MEASURED, {})
    changes = [{"block": f"∂g_q/∂{name}", "before": 1.0, "after": 2e-9} for name in "qkvWxy"]
    told = {"target": "a", "alone": False, "verdict": "silent_collapse", "verdict_without": "safe", "changes": changes}
    pair, rest = render_evidence(
        Reason(ReasonCode.UNSAFE_WITH_IT, {**told, "reason": inner, "reason_without": Reason(ReasonCode.SKIPPED, {})})
    )
    assert pair is not None
    assert pair.index("With it") < pair.index("silent_collapse") < pair.index("Without it") < pair.index("safe")
    assert "and 2 more" in pair
    assert rest.notes == ()
    assert render_evidence(inner)[0] is None


def test_the_page_ends_with_clean_files_and_protections_and_opens_what_is_undecided() -> None:
    report = REPORT._replace(
        linted=("clean.py", "kernels/b.py"), protections={"files": None, "calls": Reason(ReasonCode.NOT_TRIED)}
    )
    shown = page_of(report)
    assert shown.index('id="sources"') < shown.index('id="clean"') < shown.index('id="protections"')
    assert re.search(r'<section[^>]*id="clean".*?<span class="path">clean\.py</span>', shown, re.DOTALL)
    for kind in ("item finding unconfirmed", "item finding confirmed", "item target inconclusive"):
        opened = re.findall(rf'<details[^>]*class="{kind}"[^>]*>', shown)
        assert all(" open" in start for start in opened), kind
    assert re.search(r'<details[^>]*class="item finding unconfirmed"', shown)
