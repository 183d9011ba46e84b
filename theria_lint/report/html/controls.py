"""What stands beside the page: contents, search and filters. Without JavaScript only the contents show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from theria.verdicts import Verdict
from theria_lint.model import Report
from theria_lint.report.html.markup import Markup, joined, tag
from theria_lint.report.html.words import DISPOSITIONS, VERDICTS, sign

_KEYS = (("/", "search"), ("j k", "next, previous"), ("Enter", "open, close"), ("Esc", "clear the search"))


def contents(sections: Iterable[tuple[str, str, int | None]]) -> Markup:
    """Links to the sections: anchor, title, how many entries."""
    links = (tag("li", tag("a", title, *_count(count), href=f"#{anchor}")) for anchor, title, count in sections)
    return tag("nav", tag("ul", joined(*links)), aria_label="Contents")


def _count(count: int | None) -> Iterator[Markup]:
    if count is not None:
        yield Markup(" ")
        yield tag("span", str(count), class_="count")


def controls(report: Report) -> Markup:
    """Search and filters; the script keeps them."""
    search = tag(
        "input", type="search", id="search", autocomplete="off", spellcheck="false", placeholder="name, path, text"
    )
    keys = joined(*(tag("div", tag("dt", tag("kbd", key)), tag("dd", what)) for key, what in _KEYS))
    body = tag(
        "div",
        tag("label", "Search", for_="search"),
        search,
        *_groups(report),
        tag("p", role="status", id="shown"),
        tag("button", "Show everything", type="button", id="reset"),
        tag("dl", keys, class_="keys"),
    )
    return tag("details", tag("summary", "Search and filter"), body, id="controls", class_="scripted", open=True)


def _groups(report: Report) -> Iterator[Markup | None]:
    verdicts = Counter(result.verdict for result in report.targets)
    verdicts.update({f.verdict: 0 for f in report.findings if f.verdict})
    dispositions = Counter(finding.disposition for finding in report.findings)
    rules = Counter((finding.suspect.rule, finding.suspect.name) for finding in report.findings)
    yield _group("verdict", [(v.value, v.value, VERDICTS[v][0], verdicts[v]) for v in Verdict if v in verdicts])
    yield _group(
        "disposition",
        [(d.value, d.value, DISPOSITIONS[d][0], dispositions[d]) for d in DISPOSITIONS if d in dispositions],
    )
    yield _group("rule", [(rule, f"{rule} {name}", None, count) for (rule, name), count in sorted(rules.items())])


def _group(name: str, choices: list[tuple[str, str, str | None, int]]) -> Markup | None:
    if not choices:
        return None
    buttons = (
        tag(
            "button",
            sign(glyph) if glyph else None,
            tag("span", label),
            tag("span", str(count), class_="count"),
            type="button",
            aria_pressed="false",
            class_=f"choice {value}" if glyph else "choice",
            data_group=name,
            data_value=value,
        )
        for value, label, glyph, count in choices
    )
    title = tag("h2", name.capitalize(), id=f"by-{name}")
    return tag("div", title, *buttons, role="group", aria_labelledby=f"by-{name}", class_="choices")
