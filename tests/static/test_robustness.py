"""Whatever a file holds, the static stage answers or raises SourceError, and every place it names holds the token."""

from __future__ import annotations

import ast
import random
import sysconfig
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from theria_lint.ablate.rewriting import ablate_suspects
from theria_lint.errors import SourceError
from theria_lint.model import Suspect
from theria_lint.rules.loader import load_rules
from theria_lint.rules.pages import load_examples
from theria_lint.sources.source_text import check_syntax, split_lines
from theria_lint.static.scan import scan_source
from theria_lint.static.targets import find_targets

RULES = load_rules()
SEEDS = [example.source for rule in RULES.rules for example in load_examples(rule)]
STANDARD_TESTS = Path(sysconfig.get_paths()["stdlib"]) / "test"


def everything(source: str) -> tuple[Suspect, ...]:
    """Run every call on a source; SourceError is the only error that may come out."""
    try:
        suspects = scan_source("file.py", source, RULES)
        whole = scan_source("file.py", source, RULES, prefilter=False)
        find_targets("file.py", source)
        variant = ablate_suspects(source, suspects)
    except SourceError:
        return ()
    assert suspects == whole
    assert len(split_lines(variant)) == len(split_lines(source))
    return suspects


def holds_token(source: str, suspect: Suspect) -> bool:
    line = split_lines(source)[suspect.span.line - 1]
    text = line[suspect.span.column - 1 :]
    quoted = suspect.message.split("`")[1].lstrip("@.").partition("(")[0].partition(".")[0].partition("[")[0]
    return text.lstrip("@").startswith(quoted)


def test_every_place_in_the_examples_holds_its_token() -> None:
    for source in SEEDS:
        for suspect in everything(source):
            assert holds_token(source, suspect), suspect


@pytest.mark.skipif(not STANDARD_TESTS.is_dir(), reason="this Python comes without its own tests")
def test_the_tests_of_the_standard_library_pass_through() -> None:
    paths = sorted(STANDARD_TESTS.rglob("*.py"))
    assert len(paths) > 500
    for path in paths:
        source = path.read_bytes().decode("utf-8", errors="replace")
        try:
            scan_source(str(path), source, RULES)
        except SourceError:
            with pytest.raises(SourceError):
                check_syntax(source)


def test_the_tests_of_the_standard_library_pass_through_as_attention_code() -> None:
    """The prefilter drops nearly all of them: prefixed with an attention kernel some are analysed in whole."""
    prefix = "import torch\ndef attention(q, k, v): return softmax(q @ k) @ v.detach()\n"
    paths = sorted(STANDARD_TESTS.rglob("*.py"))
    for path in random.Random(0).sample(paths, min(40, len(paths))):
        source = path.read_bytes().decode("utf-8", errors="replace").lstrip("\ufeff")
        if "from __future__" not in source:
            everything(prefix + source)


MUTATIONS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 12),
        st.sampled_from(
            [
                "",
                "\x00",
                "\f",
                "\t",
                "(",
                ")",
                '"""',
                "é",
                "\\\n",
                ":",
                "\r",
                "\r\n",
                "'",
                "@",
                "# ",
                "\n",
                "\u2028",
                " ",
                "def ",
                "class ",
                "if x:\n",
                "async ",
                "lambda: ",
                "\ufeff",
            ]
        ),
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SEEDS), MUTATIONS)
def test_mutated_kernels_never_raise_anything_else(source: str, mutations: list[tuple[float, int, str]]) -> None:
    for where, dropped, inserted in mutations:
        position = int(where * len(source))
        source = source[:position] + inserted + source[position + dropped :]
    for suspect in everything(source):
        assert suspect.span.line <= len(split_lines(source))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("abqkv.,:()[]{}=@#\"'\\ \n\t\fdetach0é"), max_size=80))
def test_arbitrary_text_never_raises_anything_else(text: str) -> None:
    everything("import torch\n" + text + "\nx.detach()\n")


@pytest.mark.parametrize(
    "expression",
    ["(" * 5000 + "x" + ")" * 5000, "-" * 100_000 + "x", "x" + ".a" * 20_000, "[" * 150 + "]" * 150,
     "x" + "+x" * 20_000, "x" + ".detach()" * 3_000, "lambda: " * 3_000 + "x", "not " * 50_000 + "x"],
    ids=["parentheses", "signs", "attributes", "lists", "sum", "calls", "lambdas", "nots"],
)  # fmt: skip
def test_nested_and_long_expressions_end_in_an_answer(expression: str) -> None:
    everything(f"import torch\ndef attention(q, k, v):\n    x = q.detach()\n    return {expression}\n")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_line_ends_are_kept(end: str) -> None:
    source = end.join(["import torch", "def attention(q, k, v):", "    return (q @ k).softmax(-1).detach() @ v", ""])
    (suspect,) = everything(source)
    assert suspect.span.line == 3
    if end != "\r":
        assert ablate_suspects(source, [suspect]) == source.replace(".detach()", "")


def test_a_form_feed_ends_no_line() -> None:
    source = "import torch\n\f\ndef attention(q, k, v):\n    s = '\f'; return q.detach()\n"
    (suspect,) = everything(source)
    assert (suspect.span.line, suspect.span.column) == (4, 23)


def test_columns_count_characters() -> None:
    source = "import torch\ndef attention(q, k, v):\n    é = 'äöü€𝄞'; return q.detach()\n"
    (suspect,) = everything(source)
    assert source.splitlines()[2][suspect.span.column - 1 :] == "detach()"
    assert suspect.span.end_column == len(source.splitlines()[2]) + 1
    assert ablate_suspects(source, [suspect]).splitlines()[2].endswith("return q")


def test_tabs_and_continuations() -> None:
    source = "import torch\ndef attention(q, k, v):\n\tx = q \\\n\t\t.detach(\n\t\t)\n\treturn x\n"
    (suspect,) = everything(source)
    assert suspect.span.line == 4
    variant = ablate_suspects(source, [suspect])
    ast.parse(variant)
    assert variant.splitlines()[5] == "\treturn x"


def test_what_does_not_parse_is_a_source_error_with_its_line() -> None:
    with pytest.raises(SourceError) as caught:
        check_syntax("import torch\n\ndef f(:\n")
    assert caught.value.line == 3
    assert caught.value.code == "not_parsed"


def test_null_bytes_are_a_source_error() -> None:
    with pytest.raises(SourceError):
        check_syntax("x = 1\x00\n")


def test_a_definition_inside_a_string_is_no_code() -> None:
    source = 'import torch\nTEMPLATE = """\ndef attention(q, k, v):\n    return q.detach()\n"""\n'
    assert everything(source) == ()
