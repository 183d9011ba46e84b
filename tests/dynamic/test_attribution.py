"""Dispositions from measurements alone: every case of the counterfactual rule."""

from __future__ import annotations

import pytest

from theria.verdicts import Verdict
from theria_lint.dynamic.attribution import Evidence, rule_on
from theria_lint.dynamic.protocol import Outcome
from theria_lint.model import Run, Span, Suspect


def suspect(line: int, neutraliser: str | None = "drop") -> Suspect:
    span = Span(line, 1, line, 9)
    return Suspect("THL002", "detach", "error", "k.py", span, "f", "m", "r", (line, line), neutraliser)


def outcome(verdict: str, **errors: float) -> Outcome:
    if verdict == "inconclusive":
        return Outcome(1, "f", reason="it does not run")
    blocks = {key.replace("_", ","): {"norm": 1.0, "oracle_norm": 1.0, "error": error} for key, error in errors.items()}
    run = Run("self", "cpu", "float64", "reference", "OK", Verdict(verdict), reason=f"it is {verdict}", blocks=blocks)
    return Outcome(1, "f", (run,))


ONE, TWO, THREE, OPAQUE = suspect(1), suspect(2), suspect(3), suspect(9, None)


def dispositions(evidence: Evidence, suspects: list[Suspect], fixed: list[Suspect] | None = None) -> list[str]:
    rulings = rule_on(evidence, suspects, fixed or [])
    return [str(rulings[s].disposition) for s in [*suspects, *(fixed or [])]]


def test_every_suspect_of_a_safe_target_is_cleared():
    safe = outcome("safe")
    assert dispositions(Evidence(safe, safe), [ONE, TWO], [OPAQUE]) == ["cleared"] * 3


def test_every_suspect_of_an_inconclusive_target_is_unconfirmed_with_its_reason():
    nothing = outcome("inconclusive")
    rulings = rule_on(Evidence(nothing, nothing), [ONE], [])
    assert rulings[ONE].disposition == "unconfirmed"
    assert "it does not run" in rulings[ONE].reason


@pytest.mark.parametrize("verdict", ["silent_collapse", "silent_corruption", "first_order_only", "hard_structural"])
def test_the_suspect_that_is_enough_alone_is_confirmed_and_the_other_cleared(verdict):
    bad, safe = outcome(verdict), outcome("safe")
    evidence = Evidence(bad, safe, {ONE: bad, TWO: safe})
    assert dispositions(evidence, [ONE, TWO]) == ["confirmed", "cleared"]


def test_two_that_are_enough_alone_are_both_confirmed():
    bad = outcome("silent_collapse")
    assert dispositions(Evidence(bad, outcome("safe"), {ONE: bad, TWO: bad}), [ONE, TWO]) == ["confirmed"] * 2


def test_a_harmless_suspect_beside_an_opaque_backward_is_cleared():
    bad = outcome("silent_collapse", q_q=1.0)
    assert dispositions(Evidence(bad, bad, {ONE: bad}), [ONE], [OPAQUE]) == ["cleared", "confirmed"]


def test_a_suspect_that_makes_an_unsafe_target_worse_is_confirmed_and_names_the_blocks():
    bad, clean = outcome("silent_corruption", q_q=1.0, q_k=0.8), outcome("silent_corruption", q_q=1.0, q_k=0.1)
    rulings = rule_on(Evidence(bad, clean, {ONE: bad}), [ONE], [OPAQUE])
    assert rulings[ONE].disposition == "confirmed"
    assert "∂g_q/∂k" in rulings[ONE].reason
    assert "∂g_q/∂q" not in rulings[ONE].reason


def test_removing_once_differentiable_that_guards_an_opaque_backward_says_that_the_cause_lies_deeper():
    loud, silent = outcome("first_order_only"), outcome("silent_collapse")
    rulings = rule_on(Evidence(loud, silent, {ONE: loud}), [ONE], [OPAQUE])
    assert [str(rulings[s].disposition) for s in (ONE, OPAQUE)] == ["confirmed", "confirmed"]
    assert "still silent_collapse" in rulings[ONE].reason


def test_an_opaque_suspect_is_cleared_once_the_others_explain_everything():
    bad, safe = outcome("hard_structural"), outcome("safe")
    assert dispositions(Evidence(bad, safe, {ONE: bad}), [ONE], [OPAQUE]) == ["confirmed", "cleared"]


def test_a_counterfactual_that_does_not_run_is_no_evidence():
    bad, nothing = outcome("silent_collapse"), outcome("inconclusive")
    assert dispositions(Evidence(bad, nothing, {ONE: bad}), [ONE]) == ["unconfirmed"]
    evidence = Evidence(bad, outcome("safe"), {ONE: nothing, TWO: bad})
    assert dispositions(evidence, [ONE, TWO]) == ["unconfirmed", "confirmed"]


def test_pairs_are_blamed_where_no_suspect_is_enough_alone():
    bad, safe = outcome("silent_corruption"), outcome("safe")
    alone = dict.fromkeys([ONE, TWO, THREE], safe)
    pairs = {(ONE, TWO): bad, (ONE, THREE): safe, (TWO, THREE): safe}
    assert dispositions(Evidence(bad, safe, alone, pairs), [ONE, TWO, THREE]) == ["confirmed", "confirmed", "cleared"]
    assert dispositions(Evidence(bad, safe, alone), [ONE, TWO, THREE]) == ["confirmed"] * 3
