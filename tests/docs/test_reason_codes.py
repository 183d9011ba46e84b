"""Every reason code is explained in docs/reasons.md, with the fields of its data, and can be put into words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from theria.verdicts import Reason
from theria_lint.model import Configuration, label_configuration
from theria_lint.reasons import FIELDS, Field, ReasonCode
from theria_lint.report.measurement_messages import describe_configuration
from theria_lint.report.sentences import say

PAGE = Path(__file__).parents[2] / "docs" / "reasons.md"
EXAMPLES: dict[Field, Any] = {
    Field.TEXT: "text",
    Field.OPTIONAL_TEXT: None,
    Field.TEXTS: ["one", "two"],
    Field.NUMBER: 2.0,
    Field.OPTIONAL_NUMBER: None,
    Field.FLAG: True,
    Field.REASON: Reason(ReasonCode.EXITS),
    Field.REASONS: [Reason(ReasonCode.EXITS), Reason(ReasonCode.EXITS)],
    Field.VALUES: {"n": 2, "name": "x"},
    Field.SUSPECTS: [{"rule": "THL002", "line": 3, "path": "a.py"}],
    Field.CHANGES: [{"block": "∂g_q/∂k", "before": 0.5, "after": None}],
}


def test_the_page_explains_every_code_and_its_fields() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*?)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    told = {code: dict(re.findall(r"`(\w+)` \(([^`]+)\)(?:,|$)", data.strip())) for code, _, data in rows}
    assert len(rows) == len(told)
    assert told == {code: {name: str(kind) for name, kind in kinds.items()} for code, kinds in FIELDS.items()}


def test_the_page_explains_every_configuration() -> None:
    section = PAGE.read_text(encoding="utf-8").split("\n## Configurations\n")[1]
    assert re.findall(r"^\| `(\w+)` \| [^|]+ \|$", section, re.MULTILINE) == list(Configuration)


@pytest.mark.parametrize("code", sorted(set(Configuration) - {Configuration.LEARNED}))
def test_every_configuration_has_words(code: Configuration) -> None:
    for label in (str(code), label_configuration(code, 3), label_configuration(code, "mask", "bias")):
        words = describe_configuration(label)
        assert "_" not in words
        assert "{" not in words
        learned = f"{label} + {label_configuration(Configuration.LEARNED, 'g', 'beta')}"
        assert describe_configuration(learned) == f"{words}, with its g, beta as inputs"


def test_a_configuration_is_told_in_words() -> None:
    reason = Reason(ReasonCode.SEEN_ON, {"configuration": label_configuration(Configuration.HEADS, 8)})
    assert say(reason) == "seen on 8 heads"


@pytest.mark.parametrize("code", FIELDS)
def test_every_code_has_a_sentence(code: str) -> None:
    text = say(Reason(code, {name: EXAMPLES[kind] for name, kind in FIELDS[code].items()}))
    assert text
    assert not text.endswith(".")
