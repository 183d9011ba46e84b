"""Dispositions from measurements alone: every case of the counterfactual rule."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theria.verdicts import Verdict
from theria_lint.confirm.attribution import attribute_suspects
from theria_lint.confirm.evidence import Attribution, Evidence
from theria_lint.confirm.protocol import Outcome
from theria_lint.model import Run, Span, Suspect
from theria_lint.reasons import Ground, Reason, ReasonCode
from theria_lint.report.sentences import compose_message, say


def suspect(line: int, neutraliser: str | None = "drop-call", symbol: str = "f") -> Suspect:
    span = Span(line, 1, line, 9)
    return Suspect("THL002", "detach", "error", "k.py", span, symbol, "m", "r", (line, line), neutraliser)


def outcome(verdict: str, **errors: float) -> Outcome:
    if verdict == "inconclusive":
        return Outcome(1, "f", reason=Reason(Ground.RAISED, {"kind": "it does not run", "message": ""}))
    blocks = {key.replace("_", ","): {"norm": 1.0, "oracle_norm": 1.0, "error": error} for key, error in errors.items()}
    run = Run(
        "self",
        "cpu",
        "float64",
        "reference",
        "OK",
        Verdict(verdict),
        reason=Reason(Ground.RAISED, {"kind": f"it is {verdict}", "message": ""}),
        blocks=blocks,
    )
    states = {key: "wrong" if block["error"] > 0.01 else "right" for key, block in blocks.items()}
    return Outcome(1, "f", (replace(run, gradients={"q": 0.0}, states={"q": "right", **states}),))


ONE, TWO, THREE, FOUR, OPAQUE = suspect(1), suspect(2), suspect(3), suspect(4), suspect(9, None)
BAD, SAFE, NOTHING = outcome("silent_corruption", q_q=1.0), outcome("safe", q_q=0.0), outcome("inconclusive")

Left = Collection[Suspect]
"""The suspects that a variant leaves in: what the tables below decide by."""


def attribution(
    table: Callable[[Left], Outcome],
    suspects: list[Suspect],
    fixed: Collection[Suspect] = (),
    replaceable: Collection[Suspect] = (),
    aside: Collection[Suspect] = (),
) -> Attribution:
    """What an inquiry says whose every question is answered from a table: what has a stand-in may be left out too."""
    everyone = {*suspects, *replaceable}
    evidence = Evidence(
        table(everyone).symbol,
        suspects,
        list(fixed),
        {frozenset(): table(everyone)},
        list(replaceable),
        lambda ablation: everyone - ablation,
        lambda ablation: aside,
    )
    inquiry = attribute_suspects(evidence)
    while True:
        try:
            asked = next(inquiry)
        except StopIteration as end:
            return end.value
        for ablation in asked:
            evidence.outcomes.setdefault(ablation, table(everyone - ablation))


def dispositions(
    table: Callable[[Left], Outcome], suspects: list[Suspect], fixed: Collection[Suspect] = ()
) -> list[str]:
    rulings = attribution(table, suspects, fixed).rulings
    return [str(rulings[s].disposition) for s in [*suspects, *fixed]]


def test_every_suspect_of_a_safe_target_is_cleared():
    assert dispositions(lambda left: SAFE, [ONE, TWO], [OPAQUE]) == ["cleared"] * 3


def test_every_suspect_of_an_inconclusive_target_is_unconfirmed_with_its_reason():
    ruling = attribution(lambda left: NOTHING, [ONE]).rulings[ONE]
    assert ruling.disposition == "unconfirmed"
    assert ruling.reason == Reason(ReasonCode.TARGET_INCONCLUSIVE, {"target": "f", "reason": NOTHING.reason})


@pytest.mark.parametrize("verdict", ["silent_collapse", "silent_corruption", "first_order_only", "hard_structural"])
def test_the_suspect_that_is_enough_alone_is_confirmed_and_the_other_cleared(verdict):
    found = attribution(lambda left: outcome(verdict) if ONE in left else SAFE, [ONE, TWO])
    assert [str(found.rulings[s].disposition) for s in (ONE, TWO)] == ["confirmed", "cleared"]
    assert found.mended == {ONE}


def test_two_that_are_enough_alone_are_both_confirmed():
    found = attribution(lambda left: BAD if left else SAFE, [ONE, TWO])
    assert [str(found.rulings[s].disposition) for s in (ONE, TWO)] == ["confirmed"] * 2
    assert found.mended == {ONE, TWO}


def test_the_evidence_says_what_changes_and_by_how_much():
    bad, safe = (
        outcome("silent_corruption", q_q=0.77, q_k=1e-9, k_k=2.0, v_k=1.0),
        outcome("safe", **dict.fromkeys(("q_q", "q_k", "k_k", "v_k"), 2e-16)),
    )
    reason = attribution(lambda left: bad if left else safe, [ONE]).rulings[ONE].reason
    assert reason.code == ReasonCode.UNSAFE_WITH_IT
    assert [(c["block"], c["before"], c["after"]) for c in reason.data["changes"]] == [
        ("∂g_q/∂q", 0.77, 2e-16), ("∂g_k/∂k", 2.0, 2e-16), ("∂g_v/∂k", 1.0, 2e-16),
    ]  # fmt: skip


def test_a_harmless_suspect_beside_an_opaque_backward_is_cleared():
    found = attribution(lambda left: BAD, [ONE], [OPAQUE])
    assert [str(found.rulings[s].disposition) for s in (ONE, OPAQUE)] == ["cleared", "confirmed"]
    assert not found.mended


@pytest.mark.parametrize("table", [lambda left: BAD, lambda left: outcome("hard_structural")])
def test_what_an_opaque_backward_may_hide_is_unconfirmed_and_says_what_to_do(table):
    found = attribution(table, [ONE], [OPAQUE], aside=[ONE])
    assert found.rulings[ONE].disposition == "unconfirmed"
    reason = found.rulings[ONE].reason
    assert (reason.code, [s["line"] for s in reason.data["by"]]) == (ReasonCode.MAY_BE_HIDDEN, [9])
    assert compose_message(reason).helps == ("Mend that, and lint again",)


@pytest.mark.parametrize("other", [Run("self", "cpu", "float64", "", "OK", Verdict.HARD_STRUCTURAL, "it stops")])
def test_nothing_clears_a_suspect_where_no_gradient_was_measured(other):
    assert dispositions(lambda left: Outcome(1, "f", (other,)), [ONE], [OPAQUE]) == ["unconfirmed", "confirmed"]


SAVED, OTHER = suspect(7, None, "F.forward"), suspect(8, None, "G.backward")


def test_stand_ins_tell_suspects_apart_that_no_rewrite_does():
    found = attribution(lambda left: BAD if OTHER in left else SAFE, [], [SAVED, OTHER], [SAVED, OTHER])
    assert [str(found.rulings[s].disposition) for s in (SAVED, OTHER)] == ["cleared", "confirmed"]
    assert "without it means with autograd of the forward in the place of G.backward" in say(
        found.rulings[OTHER].reason
    )
    assert not found.mended


def test_stand_ins_that_do_not_make_a_target_safe_tell_nothing():
    rulings = attribution(lambda left: BAD, [], [SAVED, OTHER], [SAVED, OTHER]).rulings
    assert say(rulings[SAVED].reason).endswith("no rewrite tells it apart from THL002 on line 8")
    assert rulings[OTHER].disposition == "confirmed"


def test_what_an_opaque_backward_hides_shows_beside_its_stand_in():
    def table(left: Left) -> Outcome:
        return BAD if {ONE, OTHER} & set(left) else SAFE

    found = attribution(table, [ONE, TWO], [OTHER], [OTHER], aside=[ONE, TWO])
    assert [str(found.rulings[s].disposition) for s in (ONE, TWO, OTHER)] == ["confirmed", "cleared", "confirmed"]


def test_a_suspect_that_makes_an_unsafe_target_worse_is_confirmed_and_names_the_blocks():
    bad, clean = outcome("silent_corruption", q_q=1.0, q_k=0.8), outcome("silent_corruption", q_q=1.0, q_k=0.1)
    ruling = attribution(lambda left: bad if left else clean, [ONE], [OPAQUE]).rulings[ONE]
    assert ruling.disposition == "confirmed"
    assert ruling.reason.code == ReasonCode.WORSE_WITH_IT
    assert ruling.reason.data["changes"] == [{"block": "∂g_q/∂k", "before": 0.8, "after": 0.1}]


def test_removing_once_differentiable_that_guards_an_opaque_backward_says_that_the_cause_lies_deeper():
    loud, silent = outcome("first_order_only"), outcome("silent_collapse")
    found = attribution(lambda left: loud if left else silent, [ONE], [OPAQUE])
    assert [str(found.rulings[s].disposition) for s in (ONE, OPAQUE)] == ["confirmed", "confirmed"]
    reason = found.rulings[ONE].reason
    assert (reason.code, reason.data["verdict_without"]) == (
        ReasonCode.UNSAFE_OTHERWISE_WITHOUT_IT, "silent_collapse",
    )  # fmt: skip
    assert not found.mended


def test_an_opaque_suspect_is_cleared_once_the_others_explain_everything():
    assert dispositions(lambda left: BAD if left else SAFE, [ONE], [OPAQUE]) == ["confirmed", "cleared"]


def test_two_opaque_suspects_are_not_told_apart_and_it_says_so():
    other = suspect(8, None)
    rulings = attribution(lambda left: BAD, [], [OPAQUE, other]).rulings
    assert say(rulings[OPAQUE].reason).endswith("no rewrite tells it apart from THL002 on line 8")


def test_two_that_do_harm_only_together_are_both_confirmed_and_a_third_is_cleared():
    found = attribution(lambda left: BAD if {ONE, THREE} <= left else SAFE, [ONE, TWO, THREE])
    assert [str(found.rulings[s].disposition) for s in (ONE, TWO, THREE)] == ["confirmed", "cleared", "confirmed"]
    assert "together with THL002 on line 3" in say(found.rulings[ONE].reason)
    assert found.mended == {ONE, THREE}


def test_three_that_do_harm_only_together_are_all_confirmed():
    assert dispositions(lambda left: BAD if len(left) == 3 else SAFE, [ONE, TWO, THREE]) == ["confirmed"] * 3


def test_a_pair_that_does_harm_together_is_found_beside_one_that_does_harm_alone():
    found = attribution(lambda left: BAD if ONE in left or {TWO, FOUR} <= left else SAFE, [ONE, TWO, THREE, FOUR])
    states = [str(found.rulings[s].disposition) for s in (ONE, TWO, THREE, FOUR)]
    assert states == ["confirmed", "confirmed", "cleared", "confirmed"]
    assert found.mended == {ONE, TWO, FOUR}


def test_two_that_cancel_out_are_cleared_beside_one_that_does_harm():
    found = attribution(
        lambda left: BAD if THREE in left or len({ONE, TWO} & set(left)) == 1 else SAFE, [ONE, TWO, THREE]
    )
    assert [str(found.rulings[s].disposition) for s in (ONE, TWO, THREE)] == ["cleared", "cleared", "confirmed"]
    reason = found.rulings[ONE].reason
    assert reason.code == ReasonCode.CANCELLED
    assert [s["line"] for s in reason.data["others"]] == [2]
    assert [s["line"] for s in reason.data["removed"]] == [3]
    assert found.mended == {THREE}


@given(st.sets(st.frozensets(st.sampled_from([ONE, TWO, THREE, FOUR]), min_size=1), min_size=1))
def test_whoever_does_harm_in_company_is_found_and_nobody_else(companies):
    least = [some for some in companies if not any(other < some for other in companies)]
    found = attribution(lambda left: BAD if any(some <= set(left) for some in least) else SAFE, [ONE, TWO, THREE, FOUR])
    confirmed = {s for s, ruling in found.rulings.items() if ruling.disposition == "confirmed"}
    assert confirmed == found.mended
    assert all(some & confirmed for some in least)
    assert confirmed <= frozenset().union(*least)
    assert {s for some in least if len(some) == 1 for s in some} <= confirmed


def test_a_lone_suspect_without_which_nothing_runs_is_unconfirmed_and_says_what_to_do():
    ruling = attribution(lambda left: BAD if left else NOTHING, [ONE]).rulings[ONE]
    assert ruling.disposition == "unconfirmed"
    assert (ruling.reason.code, ruling.reason.data["fails_otherwise"]) == (ReasonCode.NOTHING_TO_COMPARE, False)
    assert "lint again" in compose_message(ruling.reason).helps[0]


def test_where_not_all_can_be_left_out_the_one_whose_absence_is_enough_is_confirmed():
    found = attribution(lambda left: NOTHING if TWO not in left else BAD if ONE in left else SAFE, [ONE, TWO, THREE])
    assert [str(found.rulings[s].disposition) for s in (ONE, TWO, THREE)] == ["confirmed", "cleared", "cleared"]
    assert found.rulings[TWO].reason.code != ReasonCode.ENOUGH_TO_REMOVE
    assert found.mended == {ONE}


def test_where_not_all_can_be_left_out_the_pair_whose_absence_is_enough_is_confirmed():
    def table(left: Left) -> Outcome:
        return NOTHING if THREE not in left else BAD if {ONE, TWO} & set(left) else SAFE

    assert dispositions(table, [ONE, TWO, THREE]) == ["confirmed", "confirmed", "cleared"]


def test_where_not_all_can_be_left_out_and_nothing_mends_it_only_what_stays_in_is_unconfirmed():
    found = attribution(lambda left: NOTHING if TWO not in left else BAD, [ONE, TWO], [OPAQUE])
    states = [str(found.rulings[s].disposition) for s in (ONE, TWO, OPAQUE)]
    assert states == ["cleared", "unconfirmed", "unconfirmed"]


def test_one_that_does_not_run_alone_is_judged_beside_a_harmless_one():
    def table(guilty: bool) -> Callable[[Left], Outcome]:
        def measured(left: Left) -> Outcome:
            if set(left) == {ONE}:
                return NOTHING
            return BAD if (guilty and ONE in left) or THREE in left else SAFE

        return measured

    assert dispositions(table(True), [ONE, TWO, THREE]) == ["confirmed", "cleared", "confirmed"]
    assert dispositions(table(False), [ONE, TWO, THREE]) == ["cleared", "cleared", "confirmed"]


def test_one_that_does_not_run_alone_is_confirmed_where_it_makes_blocks_worse_beside_a_harmful_one():
    worse = outcome("silent_corruption", q_q=1.0, q_k=0.5)
    lone = outcome("silent_corruption", q_q=1.0, q_k=0.0)

    def table(left: Left) -> Outcome:
        if set(left) == {ONE}:
            return NOTHING
        return SAFE if not left else worse if ONE in left else lone

    assert dispositions(table, [ONE, TWO]) == ["confirmed", "confirmed"]


def test_one_of_which_nothing_is_known_is_unconfirmed():
    def table(left: Left) -> Outcome:
        return NOTHING if set(left) == {ONE} else BAD if left else SAFE

    found = attribution(table, [ONE, TWO])
    assert [str(found.rulings[s].disposition) for s in (ONE, TWO)] == ["unconfirmed", "confirmed"]
    assert found.rulings[ONE].reason.code == ReasonCode.VARIANT_DOES_NOT_RUN


def test_a_rewrite_that_makes_a_silent_target_raise_tells_nothing():
    loud = outcome("first_order_only")

    def needed(left: Left) -> Outcome:  # TWO is an enable_grad without which the backward raises, ONE does the harm
        return loud if TWO not in left else BAD if ONE in left else SAFE

    def hopeless(left: Left) -> Outcome:  # and here the harm is done by what is no suspect
        return loud if TWO not in left else BAD

    assert dispositions(needed, [ONE, TWO, THREE]) == ["confirmed", "cleared", "cleared"]
    assert dispositions(hopeless, [ONE, TWO]) == ["unconfirmed", "unconfirmed"]
    assert dispositions(hopeless, [ONE, TWO], [OPAQUE]) == ["unconfirmed", "unconfirmed", "confirmed"]
