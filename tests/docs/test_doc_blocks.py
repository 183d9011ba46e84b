"""Every block of README and documentation does what it says; a page runs from its top to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.doc_pages import LANGUAGES, PARSERS, ROOT, Block, Session, blocks, matches, pages
from theria_lint.config import read_values

NOT_RUN = {
    "pip install './theria-lint[confirm]'": "downloads torch; CI does it from the checkout",
    "pip install './theria-lint[lsp]'  # the folder of a checkout": "the editor tests run the server from the checkout",
    "pip install pre-commit": "CI does it from the checkout",
    "pre-commit install": "tests/release does it in a repository of its own",
    "mkdocs serve": "does not end; CI builds the site",
    "theria-lint server": "does not end by itself; the editor tests speak to it",
}
"""Commands that are shown and not run here, and what covers them."""


@pytest.mark.parametrize("page", [page for page in pages() if blocks(page)])
def test_a_page_does_what_it_shows(page: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the kernels that pages show need torch")
    found = blocks(page)
    session = Session(tmp_path)
    for block in found:
        parse(block)
        if block.title:
            session.write(block)
        for command, shown in block.commands():
            if command not in NOT_RUN:
                check(session, block, command, shown)
    script = "\n".join(block.text for block in found if block.language == "python" and not block.title)
    if script:
        (session.folder / "script.py").write_text(script, encoding="utf-8")
        code, printed = session.run("python script.py")
        assert code == 0, f"{page}: its Python blocks fail (one with a title is a file instead):\n{printed}"


def parse(block: Block) -> None:
    assert block.language in LANGUAGES, f"{block.place}: {block.language or 'no language'} is not one that is tested"
    if block.language == "python":
        compile(block.text, block.place, "exec")
    if block.language in PARSERS:
        value = PARSERS[block.language](block.text)
        if block.title == "theria-lint.toml":
            read_values(value, ".", block.place)
        elif block.language == "toml" and "tool" in value:
            read_values(value["tool"]["theria-lint"], ".", block.place)


def check(session: Session, block: Block, command: str, shown: list[str]) -> None:
    code, printed = session.run(command)
    assert code in (0, 1), f"{block.place}: {command} exits with {code}:\n{printed}"
    assert matches(shown or ["…"], printed), f"{block.place}: {command} prints\n{printed}"


def test_commands_that_are_not_run_are_still_shown() -> None:
    shown = {command for page in pages() for block in blocks(page) for command, _ in block.commands()}
    assert set(NOT_RUN) - shown == set()


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (["a", "b"], "a\nb\n"),
        (["…", "b"], "a\na\nb\n"),
        (["a", "…"], "a\n"),
        (["a … c"], "a b c\n"),
        (["error 2.1e-16"], "error 3.9e-17\n"),
        (["a", ""], "a\n\n\n"),
    ],
)
def test_what_is_shown_may_leave_things_out(shown: list[str], printed: str) -> None:
    assert matches(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (["a"], "a\nb\n"),
        (["b", "a"], "a\nb\n"),
        (["a b"], "a  b\n"),
        (["a", "b"], "a\n\nb\n"),
        (["error 2.1e-6"], "error 2.2e-6\n"),
        (["a…c"], "a\nc\n"),
    ],
)
def test_what_is_shown_is_what_is_printed(shown: list[str], printed: str) -> None:
    assert not matches(shown, printed)


def test_blocks_say_where_they_are_and_what_they_are() -> None:
    found = blocks("README.md")
    assert {block.language for block in found} >= {"console", "python", "yaml"}
    text = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert all(text[block.line - 1].startswith(f"```{block.language}") for block in found)
