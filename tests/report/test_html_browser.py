"""The HTML report in headless Chromium: it opens in silence, filters, obeys the keyboard, and can be read."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.support.browsing import Page, chromium
from tests.support.html_case import EMPTY, REWRITTEN, hostile, large
from theria_lint.result import LintReport

CONTRAST = """
const channels = (colour) => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = (rgb) => {
  const [r, g, b] = rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = channels(getComputedStyle(at).backgroundColor);
    if (colour[3] === 255) return colour.slice(0, 3);
  }
  return [255, 255, 255];
};
const poor = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
  const [a, b] = [light(channels(getComputedStyle(element).color).slice(0, 3)), light(behind(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) poor.add(`${element.tagName}.${element.className}: ${ratio.toFixed(2)}`);
}
return [...poor];
"""
UNNAMED = """
return [...document.querySelectorAll('a, button, input, summary, [role=img], [role=group]')]
  .filter(e => !(e.ariaLabel || e.textContent.trim() || e.labels?.length || e.getAttribute('aria-labelledby')))
  .map(e => e.outerHTML.slice(0, 80));
"""
LEVELS = "return [...document.querySelectorAll('main h1, main h2, main h3, main h4')].map(e => +e.tagName[1])"
OPEN_ALL = "for (const e of document.querySelectorAll('details')) e.open = true"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    pytest.importorskip("selenium", reason="selenium is not installed: pip install selenium")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    session = chromium(browser, driver, tmp_path_factory.mktemp("profile"))
    try:
        yield Page(session, tmp_path_factory.mktemp("pages"))
    finally:
        session.quit()


@pytest.mark.parametrize("report", [REWRITTEN, EMPTY, hostile()], ids=["sample", "nothing", "hostile"])
def test_it_opens_in_silence_and_asks_for_nothing(page: Page, report: LintReport) -> None:
    page.open(report)
    page.run(OPEN_ALL)
    assert page.console() == []
    assert page.requests() == [page.file.as_uri()]
    assert page.driver.title.startswith("theria-lint: ")
    assert page.run("return document.querySelectorAll('img').length + document.scripts.length") == 1


def test_a_script_that_slips_in_does_not_run(page: Page) -> None:
    page.open(REWRITTEN)
    page.run("const s = document.createElement('script'); s.textContent = 'window.owned = 1'; document.body.append(s)")
    page.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = 1\">')")
    assert page.run("return window.owned ?? null") is None
    assert any("Content Security Policy" in message for message in page.console())


def test_filters_narrow_and_say_how_much_is_left(page: Page) -> None:
    page.open(REWRITTEN)
    assert page.run("return document.getElementById('shown').textContent") == "4 of 4 findings, 4 of 4 targets shown"
    page.click("[data-group=verdict][data-value=silent_collapse]")
    assert (page.visible(".finding"), page.visible(".target")) == (["f1", "f2"], ["t1"])
    assert page.run("return document.getElementById('shown').textContent") == "2 of 4 findings, 1 of 4 targets shown"
    page.click("[data-group=verdict][data-value=safe]")
    assert page.visible(".target") == ["t1", "t3"]
    page.click("[data-group=rule][data-value=THL001]")
    assert (page.visible(".finding"), page.visible(".target")) == (["f1"], ["t1"])
    pressed = page.run("return [...document.querySelectorAll('[aria-pressed=true]')].map(e => e.dataset.value)")
    assert pressed == ["silent_collapse", "safe", "THL001"]
    page.click("#reset")
    assert len(page.visible(".item")) == 10
    page.click("[data-group=disposition][data-value=unconfirmed]")
    assert page.visible(".finding") == ["f3"]
    assert page.visible(".source") == ["s2"]
    assert page.console() == []


def test_search_looks_for_every_word_anywhere(page: Page) -> None:
    page.open(REWRITTEN)
    page.press("/", "flash SECOND")
    assert page.visible(".target") == ["t2"]
    assert page.visible(".finding") == []
    page.press("\ue00c")  # Escape
    assert len(page.visible(".target")) == 4


def test_the_keyboard_is_enough(page: Page) -> None:
    page.open(REWRITTEN)
    page.press("\ue004")  # Tab
    assert page.run("return document.activeElement.textContent") == "Skip to the report"
    assert page.run("return document.activeElement.getBoundingClientRect().left >= 0")
    page.press("\ue007")  # Enter
    page.wait("return document.activeElement.id === 'main'")
    page.press("jj")
    assert page.focused() == "f2"
    page.press("k")
    assert page.focused() == "f1"
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    was_open = page.run("return document.getElementById('f1').open")
    page.press("\ue007")
    assert page.run("return document.getElementById('f1').open") is not was_open
    page.press("jjjj")
    assert page.focused() == "t1"
    page.run("document.querySelector('.choice').focus()")
    page.press(" ")
    assert page.run("return document.querySelector('.choice').getAttribute('aria-pressed')") == "true"


def test_a_finding_leads_to_its_line_and_back(page: Page) -> None:
    page.open(REWRITTEN)
    page.click("#f2 .links a[href='#s1-7']")
    page.wait("return document.activeElement.hash === '#f2'")
    assert page.run("return document.getElementById('s1').open")
    assert page.run("return document.getElementById('s1-7').matches(':target')")
    page.press("\ue007")
    page.wait("return document.activeElement.closest('#f2') !== null")


def test_a_link_leads_to_what_is_filtered_out(page: Page) -> None:
    page.open(REWRITTEN)
    page.click("[data-group=rule][data-value=THL001]")
    page.run("location.hash = '#t4'")
    page.wait("return document.getElementById('t4').open")
    assert "t4" in page.visible(".target")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read(page: Page, scheme: str) -> None:
    page.open(REWRITTEN, scheme=scheme)
    page.run(OPEN_ALL)
    page.click(".choice")
    page.click(".choice")
    assert page.run(CONTRAST) == []


def test_the_theme_follows_the_system_until_it_is_chosen(page: Page) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    page.open(REWRITTEN)
    light = page.run(background)
    page.open(REWRITTEN, scheme="dark")
    dark = page.run(background)
    assert dark != light
    assert page.run("return document.getElementById('theme').getAttribute('aria-pressed')") == "true"
    for patience in (0.1, 0.5, 2.0):  # the browser writes down what is stored a moment later, and not if left before
        page.click("#theme")
        assert page.run(background) == light
        time.sleep(patience)
        page.driver.refresh()
        if page.run(background) == light:
            break
    assert page.run(background) == light
    page.run("localStorage.clear()")


def test_everything_has_a_name_and_headings_do_not_skip(page: Page) -> None:
    page.open(REWRITTEN)
    page.run(OPEN_ALL)
    assert page.run(UNNAMED) == []
    levels = page.run(LEVELS)
    assert levels[0] == 2
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.run("return document.documentElement.lang") == "en"


@pytest.mark.parametrize("width", [360, 800, 1300])
def test_it_never_scrolls_sideways(page: Page, width: int) -> None:
    page.open(REWRITTEN, width=width)
    page.run(OPEN_ALL)
    assert page.run("return document.documentElement.scrollWidth") <= width
    page.open(hostile(), width=width)
    page.run(OPEN_ALL)
    assert page.run("return document.documentElement.scrollWidth") <= width


def test_without_scripts_it_reads_and_offers_nothing_that_needs_them(page: Page) -> None:
    page.open(REWRITTEN, scripts=False)
    tree = page.command("Accessibility.getFullAXTree")["nodes"]
    names = [(node.get("role", {}).get("value"), node.get("name", {}).get("value")) for node in tree]
    page.command("Emulation.setScriptExecutionDisabled", value=False)
    assert not [name for role, name in names if role in ("button", "searchbox")]
    texts = " ".join(str(name) for _, name in names)
    assert "alone it is enough" in texts
    assert "Attention" in texts


def test_paper_gets_every_finding_and_target(page: Page) -> None:
    page.open(REWRITTEN)
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    page.command("Emulation.setEmulatedMedia", media="print")
    assert page.run("return document.querySelectorAll('.finding:not([open]), .target:not([open])').length") == 0
    assert page.visible("aside") == []
    page.run("window.dispatchEvent(new Event('afterprint'))")
    page.command("Emulation.setEmulatedMedia", media="")
    assert not page.run("return document.getElementById('t1').open")


def test_hundreds_of_targets_come_folded_and_can_be_filtered(page: Page) -> None:
    page.open(large(100))
    assert page.run("return document.querySelectorAll('.item').length") == 800
    assert page.run("return document.querySelectorAll('.item[open]').length") == 0
    page.press("/", "module_77")
    assert len(page.visible(".target")) == 4
    assert page.console() == []
