"""Encodings, line ends, files that cannot be read, and notebooks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.lint_case import UNSAFE, Lint
from theria_lint.sources import source_text


@pytest.mark.parametrize(
    "data",
    [
        UNSAFE.encode(),
        b"\xef\xbb\xbf" + UNSAFE.encode(),
        UNSAFE.replace("\n", "\r\n").encode(),
        UNSAFE.replace("\n", "\r").encode(),
        UNSAFE.replace("import", "# -*- coding: latin-1 -*- caf\xe9\nimport", 1).encode("latin-1"),
        UNSAFE.replace("import", "# coding: cp1251 \u0436\nimport", 1).encode("cp1251"),
        UNSAFE.replace("import", "# 漢字\nimport", 1).encode(),
        UNSAFE.replace("import", "# -*- coding: utf-8-unix -*- 漢字\nimport", 1).encode(),
        UNSAFE.replace("import", "# coding: Latin_1-dos caf\xe9\nimport", 1).encode("latin-1"),
    ],
    ids=["utf-8", "bom", "crlf", "cr", "latin-1", "cp1251", "wide", "emacs", "emacs latin-1"],
)
def test_a_place_is_found_whatever_the_encoding(lint: Lint, folder: Path, data: bytes) -> None:
    (folder / "kernel.py").write_bytes(data)
    line = 6 + (b"#" in data)
    result = lint("--output-format", "concise")
    assert result.stdout.startswith(f"kernel.py:{line}:20: THL002 ")
    assert result.stdout.count("\n") == 1


def test_an_encoding_is_declared_on_the_second_line_whatever_ends_the_first(lint: Lint, folder: Path) -> None:
    head = "#!/usr/bin/python\r\n# coding: latin-1 caf\xe9\r\n".encode("latin-1")
    (folder / "kernel.py").write_bytes(head + UNSAFE.encode())
    assert lint("--output-format", "concise").stdout.startswith("kernel.py:8:20: THL002 ")


def test_columns_count_characters(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE.replace("(p @ v)", '("漢é" and p @ v)'), encoding="utf-8")
    result = lint()
    assert "kernel.py:6:29: THL002" in result.stdout
    rows = result.stdout.splitlines()
    source, carets = next((rows[i], rows[i + 1]) for i, row in enumerate(rows) if row.startswith("  6 | "))
    # The wide character takes two places on a terminal and one in the string: the carets start one place later.
    assert carets.index("^") == source.index("detach") + 1


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            b"# coding: klingon\nimport torch\n",
            "kernel.py:1: error: is in the encoding 'klingon', which is unknown\n  help: Save it as UTF-8\n",
        ),
        (b"import torch\nx = '\xff'\n", "kernel.py:2: error: is not valid utf-8\n  help: Declare its encoding"),
        (b"# coding: hex\nimport torch\n", "kernel.py:1: error: is in the encoding 'hex', which is unknown"),
        (
            b"# coding: undefined\nimport torch\n",
            "kernel.py:1: error: is in the encoding 'undefined', which is unknown",
        ),
        (b"# coding: punycode\nimport torch; f(x)\n", "kernel.py:1: error: is not valid punycode"),
        (b"import torch\nx = \x00\n", "kernel.py:"),
    ],
)
def test_text_that_is_none_is_an_error_of_the_file(lint: Lint, folder: Path, data: bytes, sentence: str) -> None:
    (folder / "kernel.py").write_bytes(data)
    result = lint()
    assert result.stdout.startswith(sentence)
    assert result.stdout.endswith("1 file, 0 suspects; 1 error.\n")
    assert result.exit_code == 1


def test_a_huge_file_is_an_error_and_is_not_read(lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "huge.py").open("wb") as stream:
        stream.truncate(source_text.LARGEST_FILE + 2**20)
    result = lint()
    message = "huge.py: error: is 11 MB, more than the 10 MB that are read\n  help: Exclude it or split it\n"
    assert result.stdout.startswith(message)
    assert result.exit_code == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_an_error(lint: Lint, folder: Path) -> None:
    (folder / "kernel.py").write_text(UNSAFE)
    (folder / "kernel.py").chmod(0)
    assert lint().stdout.startswith("kernel.py: error: cannot be read: Permission denied\n")


def test_a_file_that_cannot_be_opened_is_an_error(lint: Lint, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "kernel.py").write_text(UNSAFE)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("theria_lint.sources.source_text.open", denied, raising=False)
    result = lint()
    assert result.stdout.startswith("kernel.py: error: cannot be read: Permission denied\n")
    assert result.exit_code == 1


def test_deep_nesting_does_not_end_the_run(lint: Lint, folder: Path) -> None:
    (folder / "deep.py").write_text(UNSAFE + "x = " + "(" * 5000 + ")" * 5000 + "\n")
    (folder / "long.py").write_text(UNSAFE + "x = " + "+".join(["1"] * 20000) + "\n")
    (folder / "kernel.py").write_text(UNSAFE)
    result = lint("--output-format", "concise")
    assert "kernel.py:6:20: THL002" in result.stdout
    assert "internal error" not in result.stdout
    assert result.stderr == ""
    assert result.exit_code == 1


def _notebook(*cells: object, language: str = "python") -> str:
    return json.dumps({"cells": cells, "metadata": {"kernelspec": {"language": language}}, "nbformat": 4})


def _code(source: str | list[str]) -> dict[str, object]:
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": []}


def test_a_finding_in_a_notebook_has_cell_and_line(lint: Lint, folder: Path) -> None:
    head, body = UNSAFE.split("\n\n\n")
    text = {"cell_type": "markdown", "source": "# a title"}
    magic = _code(["%matplotlib inline\n", "!pip install torch\n", head])
    (folder / "n.ipynb").write_text(_notebook(text, magic, _code("%%bash\nls ("), _code(body)))
    result = lint()
    assert result.stdout.startswith("n.ipynb:cell 4:3:20: THL002 detach: unconfirmed (error)\n")
    assert "  3 |     return (p @ v).detach()\n" in result.stdout
    finding = json.loads(lint("--output-format", "json").stdout)["findings"][0]
    assert (finding["path"], finding["cell"], finding["line"], finding["end_line"]) == ("n.ipynb", 4, 3, 3)


def test_a_broken_cell_is_named(lint: Lint, folder: Path) -> None:
    (folder / "n.ipynb").write_text(_notebook(_code("import torch"), _code("x = 1\ndef f(:\n")))
    assert lint().stdout.startswith("n.ipynb:cell 2:2: error: ")


def test_a_notebook_in_another_language_is_left_alone(lint: Lint, folder: Path) -> None:
    (folder / "n.ipynb").write_text(_notebook(_code("x <- c(1, 2) |> f()"), language="R"))
    assert lint().exit_code == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": 3}', '{"cells": [{}]}', "nul", '{"cells": [[]]}'])
def test_a_file_that_is_no_notebook_is_an_error(lint: Lint, folder: Path, text: str) -> None:
    (folder / "n.ipynb").write_text(text)
    result = lint()
    assert result.stdout.startswith("n.ipynb: error: is not a valid notebook: ")
    assert result.exit_code == 1


def test_an_old_notebook_is_read(lint: Lint, folder: Path) -> None:
    cell = {"cell_type": "code", "input": UNSAFE.splitlines(keepends=True)}
    (folder / "n.ipynb").write_text(json.dumps({"worksheets": [{"cells": [cell]}], "metadata": {}, "nbformat": 3}))
    assert lint("--output-format", "concise").stdout.startswith("n.ipynb:cell 1:6:20: THL002 ")
