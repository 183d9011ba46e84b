"""What parses is what has a tree, whatever else the compiler would say of it."""

from __future__ import annotations

import ast

import pytest

from theria_lint.errors import SourceError
from theria_lint.sources.source_text import check_syntax, is_valid_python

VALID = [
    "",
    "x = 1\n",
    b"\xef\xbb\xbfx = 1\n",
    b"# coding: latin-1\nx = '\xe9'\n",
    "x = '\\d'\n",  # a warning, no error
    "1 is 1\n",
    # The compiler refuses these, but not for their syntax.
    "def f(a):\n    global a\n",
    "def f(a, a): pass\n",
    "nonlocal x\n",
    "from __future__ import nothing_of_that_name\n",
    "return 1\n",
    "class A:\n    import_ = [await x for x in y]\n",
]
BROKEN = ["def f(:\n", "x = (\n", b"\xff = 1\n", "x = 1\x00\n", "  x\n y\n", "if x:\npass\n", b"# coding: nothing\n"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("source", VALID)
def test_what_has_a_tree_parses(source: str | bytes) -> None:
    ast.parse(source)
    assert is_valid_python(source)


@pytest.mark.parametrize("source", BROKEN)
def test_what_has_none_does_not(source: str | bytes) -> None:
    with pytest.raises((SyntaxError, ValueError)):
        ast.parse(source)
    assert not is_valid_python(source)


def test_the_line_of_an_error_is_told() -> None:
    check_syntax("def f(a):\n    global a\n")
    with pytest.raises(SourceError) as caught:
        check_syntax("x = 1\n\ndef f(:\n")
    assert caught.value.line == 3
