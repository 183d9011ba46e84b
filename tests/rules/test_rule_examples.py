"""Every rule's example kernels, run: dispositions and verdicts are those that their comments state."""

from __future__ import annotations

import pytest
from tests.support.confirming import confirm_files

from theria_lint.report.sentences import say
from theria_lint.rules.pages import load_examples
from theria_lint.rules.loader import load_rules

RULES = load_rules().rules


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_examples_of_a_rule(rule):
    known = load_examples(rule)
    found = confirm_files([example.path for example in known])
    for example in known:
        seen = {
            (f.suspect.span.line, f.suspect.rule, str(f.disposition)): say(f.reason)
            for f in found.findings
            if f.suspect.path == str(example.path)
        }
        assert set(seen) == set(example.expected), (example.path, seen)
        verdicts = {
            (t.target.line, str(t.verdict)): say(t.reason) for t in found.targets if t.target.path == str(example.path) and not t.configuration
        }
        assert set(verdicts) == set(example.verdicts), (example.path, verdicts)
