"""What is told of reasons: heads that fit a line, notes and helps that stand alone, blocks that can be pasted."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from theria.verdicts import Reason, Verdict
from theria.wording import LONGEST_HEAD, Message, list_names, shorten
from theria_lint.config import read_values
from theria_lint.reasons import FIELDS, Field, Ground, ReasonCode
from theria_lint.report.sentences import compose_message
from theria_lint.rules.loader import Rule, load_rules

NAME = "KernelWithAName" * 4  # 60 characters
WORDS = "an error of another library that goes on and on\nover lines " * 5
OWN_TEXTS = {
    "verdict": "silent_corruption",
    "verdict_without": "silent_corruption",
    "dtype": "bfloat16",
    "place": "GPU",
    "dtypes": "bfloat16",
}
"""What stands in fields of ours: never longer than this."""

INNER = (
    Reason(Ground.ALL_AGREE, {"largest_error": 2.2e-16}),
    Reason(Ground.RAISED, {"kind": NAME, "message": WORDS}),
    Reason(
        Ground.SIGNAL_LOST, {"blocks": [NAME] * 99, "unclear": True, "gradients": [NAME] * 3, "gradient_error": 1.0}
    ),
    Reason(ReasonCode.PACKAGE_MISSING, {"package": NAME, "interpreter": "/" + NAME}),
)
SUSPECTS = [{"rule": "THL002", "line": 12345, "path": NAME}, {"rule": "THL004", "line": 6, "path": NAME}]
CHANGES = [{"block": f"∂g_{NAME}/∂k", "before": 0.5, "after": None}] * 9


def list_values(name: str, kind: Field) -> list[Any]:
    """The longest values that a field may have, and other kinds of them."""
    return {
        Field.TEXT: [OWN_TEXTS.get(name) or (WORDS if name in ("message", "problem", "kind") else NAME)],
        Field.OPTIONAL_TEXT: [None, NAME],
        Field.TEXTS: [[OWN_TEXTS.get(name, NAME)] * 3, ["q"]],
        Field.NUMBER: [2.0, 1234567.0],
        Field.OPTIONAL_NUMBER: [None, 0.123456789],
        Field.FLAG: [True, False],
        Field.REASON: list(INNER),
        Field.REASONS: [list(INNER)],
        Field.VALUES: [{NAME: 2, "b c": ["x", 1.5], "flag": True}, {}],
        Field.SUSPECTS: [SUSPECTS, SUSPECTS[:1]],
        Field.CHANGES: [CHANGES, []],
    }[kind]


def list_messages(code: str) -> list[Message]:
    """What is told of a code, with every kind of value in each of its fields."""
    choices = {name: list_values(name, kind) for name, kind in FIELDS[code].items()}
    most = max((len(values) for values in choices.values()), default=1)
    return [
        compose_message(Reason(code, {name: values[number % len(values)] for name, values in choices.items()}))
        for number in range(most)
    ]


@pytest.mark.parametrize("code", FIELDS)
def test_what_is_told_is_a_short_head_and_lines_of_their_own(code: str) -> None:
    for message in list_messages(code):
        assert 0 < len(message.head) <= LONGEST_HEAD, message.head
        for line in (message.head, *message.notes, *message.helps):
            assert line
            assert not line.endswith(".")
        assert not any("\n" in line for line in (message.head, *message.notes))
        assert len(set(message.helps)) == len(message.helps)


def list_blocks(message: Message) -> list[str]:
    """The blocks of configuration in what helps."""
    blocks = [help_.partition("\n")[2] for help_ in message.helps]
    return [block for block in blocks if block.startswith("[[tool")]


def test_every_block_that_is_offered_is_configuration() -> None:
    names = (NAME, 'odd"name\\', "a.b:C.forward", "führer")
    for name in names:
        for values in ({}, {"n": 2, "ratio": -0.5, "mode": 'a"b', "b c": True, "sizes": [1, 2]}):
            told = {"reason": INNER[1], "target": name, "guessed": list(values), "values": values, "is_class": False}
            message = compose_message(Reason(ReasonCode.NOT_CALLABLE, {**told, "has_layout": True}))
            (block,) = list_blocks(message)
            table = tomllib.loads(block)["tool"]["theria-lint"]
            (target,) = read_values(table, ".", "pyproject.toml")["targets"]
            assert target["target"] == name
            assert target.get("kwargs", {}) == values
            assert "…" not in block


def test_no_block_is_offered_that_cannot_help() -> None:
    told = {"reason": INNER[1], "target": "a:b", "guessed": ["graph"], "values": {}, "is_class": False}
    message = compose_message(Reason(ReasonCode.NOT_CALLABLE, {**told, "has_layout": False}))
    assert list_blocks(message) == []
    assert any("theria-lint record" in help_ for help_ in message.helps)
    unnamed = compose_message(Reason(ReasonCode.NOT_CALLABLE, {**told, "target": None, "has_layout": True}))
    assert unnamed.helps == ()


def test_a_branch_for_a_gpu_is_not_reached_by_arguments() -> None:
    for_gpu, other = (
        compose_message(Reason(ReasonCode.NOT_REACHED, {"targets": ["f"], "gpu": gpu})) for gpu in (True, False)
    )
    assert "--device cuda" in for_gpu.helps[0]
    assert "arguments" in other.helps[0]
    assert "arguments" not in " ".join(for_gpu.helps)


def test_with_and_without_a_suspect_stand_on_two_lines() -> None:
    told = {
        "target": "f", "verdict": "first_order_only", "reason": INNER[1], "verdict_without": "safe",
        "reason_without": INNER[0], "changes": CHANGES,
    }  # fmt: skip
    message = compose_message(Reason(ReasonCode.UNSAFE_WITH_IT, told))
    assert message.head == "with it f is first_order_only; without it safe"
    assert [note.partition(",")[0] for note in message.notes[:2]] == ["with it", "without it"]


RULES = load_rules().rules


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_messages_of_a_rule_fit_a_line_whatever_the_names(rule: Rule) -> None:
    for variant in (None, *dict(rule.messages)):
        for token, symbol in ((NAME, NAME), ("x.detach()", NAME), (NAME, "f")):
            for detail in ("", "numpy", "mylib.no_grad or torch.no_grad", NAME):
                text = rule.format_message(variant, token, symbol, detail)
                assert len(text) <= LONGEST_HEAD, text
        template = dict(rule.messages).get(variant or "", rule.message)
        whole = rule.format_message(variant, "x.detach()", "attention", "numpy" if "{detail}" in template else "")
        assert "x.detach()" in whole
        assert "…" not in rule.format_message(variant, "n" * 22, "m" * 22, "numpy" if "{detail}" in template else "")


def test_remedies_are_for_kinds_that_there_are() -> None:
    for rule in RULES:
        assert set(dict(rule.remedies)) <= {*dict(rule.messages), "registered"}
        for remedy in (rule.remedy, *dict(rule.remedies).values()):
            assert remedy.endswith(".")


def test_names_lose_their_middle_and_lists_their_end() -> None:
    assert shorten("short") == "short"
    assert shorten("a" * 30 + "b" * 30) == "a" * 19 + "…" + "b" * 20
    assert list_names(["q", "k", "v"]) == "q, k and v"
    assert list_names(["q"]) == "q"
    assert list_names([NAME, NAME]).endswith(" and 1 more")
    assert len(list_names([NAME] * 3, 30)) <= 42


def test_every_verdict_fits_into_a_head() -> None:
    assert all(len(verdict) <= len(OWN_TEXTS["verdict"]) for verdict in Verdict)
