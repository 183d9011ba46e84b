"""Every rule's examples say what must be found; this compares exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from theria_lint.ablate.rewriting import ablate_suspects
from theria_lint.rules.loader import Rule, load_rules
from theria_lint.rules.pages import RuleExample, load_examples
from theria_lint.static.scan import scan_source
from theria_lint.static.targets import find_targets

RULES = load_rules()
EXAMPLES = [example for rule in RULES.rules for example in load_examples(rule)]


def name(value: RuleExample | Rule) -> str:
    return value.id if isinstance(value, Rule) else f"{value.path.parent.name}/{value.path.name}"


@pytest.mark.parametrize("prefilter", [True, False], ids=["prefilter", "whole"])
@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_what_is_expected_is_found_and_nothing_else(example: RuleExample, prefilter: bool) -> None:
    suspects = scan_source("example.py", example.source, RULES, prefilter=prefilter)
    found = sorted((suspect.span.line, suspect.rule) for suspect in suspects)
    assert found == sorted((line, rule) for line, rule, _ in example.expected)


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_targets_are_those_with_a_verdict(example: RuleExample) -> None:
    found = [target.line for target in find_targets("example.py", example.source)]
    assert found == [line for line, _ in example.verdicts]


@pytest.mark.parametrize("rule", RULES.rules, ids=name)
def test_each_rule_has_hits_and_at_least_as_many_near_misses(rule: Rule) -> None:
    found = load_examples(rule)
    hits = sum(rule.id == expected for example in found for _, expected, _ in example.expected)
    near_misses = sum(len(example.near_misses) for example in found)
    assert hits >= 1
    assert near_misses >= hits


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_neutralised_examples_keep_their_lines_and_hold_nothing_that_can_be_neutralised(example: RuleExample) -> None:
    suspects = scan_source("example.py", example.source, RULES)
    variant = ablate_suspects(example.source, suspects)
    assert len(variant.splitlines()) == len(example.source.splitlines())
    left = {
        (suspect.rule, suspect.span.line, suspect.neutraliser) for suspect in scan_source("example.py", variant, RULES)
    }
    assert all(neutraliser is None for _, _, neutraliser in left)
    assert left >= {(s.rule, s.span.line, None) for s in suspects if s.neutraliser is None}


def test_every_rule_folder_is_named_after_its_rule() -> None:
    for rule in RULES.rules:
        assert rule.folder == Path(rule.folder.parent) / f"{rule.id}-{rule.name}"
