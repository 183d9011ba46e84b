"""What must come out of the experiment, backend by backend."""

import pytest
import torch
from bad_backends import WRAPPERS
from diagnostics import BACKENDS, Settings, diagnose, parse_blocks

from tests.support.phase11_truth import EXPECTED

CPU = Settings(steps=1, inner_steps=1, seed=0, inner_lr=0.4, device="cpu", dtype="float64")
CUDA = Settings(steps=2, inner_steps=2, seed=0, inner_lr=0.4, device="cuda", dtype="float32")


def check_class(row):
    expected = EXPECTED[row["wrapper"]]
    assert (row["status"], row["verdict"], row["second_order_attn_inputs"]) == expected
    assert row["executed_backend"] == BACKENDS[row["attention_backend"]]
    if row["status"] != "OK":
        assert row["error"]
        assert row["attn_second_order_ok"] == row["rel_diff_mean"] == row["second_order_path_all"] == ""
        return
    assert row["error"] == ""
    assert row["attn_second_order_ok"] == str(expected[1] == "safe")
    assert row["second_order_path_attn_any"] == str(expected[2] != "")
    assert row["second_order_path_all"] == row["second_order_path_head_all"] == "True"
    assert float(row["rel_diff_mean"]) > 0.01


@pytest.fixture(scope="module")
def measured():
    rows = {}

    def row(wrapper, backend):
        if (wrapper, backend) not in rows:
            rows[wrapper, backend] = diagnose(wrapper, backend, CPU)
        return rows[wrapper, backend]

    return row


def test_every_wrapper_has_an_expectation():
    assert list(EXPECTED) == list(WRAPPERS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_wrapper_falls_into_its_class_on_every_backend(measured, wrapper, backend):
    check_class(measured(wrapper, backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_baseline_is_exact_and_its_errors_are_those_of_rounding(measured, backend):
    row = measured("baseline", backend)
    assert float(row["meta_gradient_error"]) < 1e-13
    blocks = parse_blocks(row["blocks"])
    assert len(blocks) == 12
    assert all(error < 1e-13 for _, error in blocks.values())
    assert [key for key, (state, _) in blocks.items() if state != "right"] == ["v.v"]


def test_the_three_baselines_agree(measured):
    differences = {measured("baseline", backend)["rel_diff_mean"] for backend in BACKENDS}
    assert len(differences) == 1


@pytest.mark.parametrize("wrapper", ["stats_detach_logits_sdpa", "stats_detach_softmax_output_sdpa"])
def test_detached_statistics_lose_every_block_of_q_and_k(measured, wrapper):
    row = measured(wrapper, "reference")
    blocks = parse_blocks(row["blocks"])
    missing = {key for key, (state, error) in blocks.items() if state == "missing" and error == 1}
    assert missing == set(blocks) - {"v.v", "v.W"}
    assert blocks["v.W"][0] == "right"
    assert float(row["meta_gradient_error"]) > 0.1


def test_a_silent_failure_does_not_show_in_rel_diff(measured):
    """Why the meta-gradient's error and the blocks stand beside it: FULL and FO differ by a broken kernel too."""
    broken = measured("backward_detach_logits_sim", "reference")
    assert float(broken["rel_diff_mean"]) > 0.1
    assert float(broken["meta_gradient_error"]) > 0.1


def test_a_wrapper_that_ignores_its_base_gets_no_row(monkeypatch):
    monkeypatch.setitem(WRAPPERS, "baseline", lambda base: torch.nn.functional.scaled_dot_product_attention)
    with pytest.raises(RuntimeError, match=r"baseline on custom executed \[\]"):
        diagnose("baseline", "custom", CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_classes_are_the_same_on_a_gpu(backend):
    rows = {wrapper: diagnose(wrapper, backend, CUDA) for wrapper in WRAPPERS}
    columns = ("status", "verdict", "second_order_attn_inputs")
    assert {wrapper: tuple(row[name] for name in columns) for wrapper, row in rows.items()} == EXPECTED
    for row in rows.values():
        check_class(row)
    assert float(rows["baseline"]["meta_gradient_error"]) < 1e-4
