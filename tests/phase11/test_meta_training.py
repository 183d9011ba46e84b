"""The meta-training runs: one command, resumable, and tasks that need what they say they need."""

from __future__ import annotations

import json

import meta_plots
import pytest
import run_meta_training as command
import torch

from theria.maml import AttentionClassifier, meta_gradient

ARMS = "baseline:FULL,no_double_backward:FULL,no_grad_attention:FULL"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs" / "meta.jsonl"


def run(out, *arguments):
    return command.main(
        ["--seeds", "1", "--steps", "2", "--arms", ARMS, "--families", "moving", "--out", str(out), *arguments]
    )


def test_what_is_finished_is_not_run_again(out, capsys, monkeypatch):
    monkeypatch.setattr(command, "HELD_OUT", 2)
    monkeypatch.setattr(command, "VALIDATION", 2)
    assert run(out) == 0
    first = out.read_text()
    rows = [json.loads(line) for line in first.splitlines()]
    assert [row["attention"] for row in rows] == ["baseline", "no_double_backward", "no_grad_attention"]
    assert rows[0]["alignment"] == [pytest.approx(1.0)]
    assert rows[1]["alignment"][0] < 0.999
    assert "UnusedParameterError" in rows[2]["error"]
    assert all(0 <= value <= 1 for value in rows[0]["accuracy"].values())
    out.write_text(first + '{"cut off')
    capsys.readouterr()
    assert run(out) == 0
    assert capsys.readouterr().err == ""
    assert out.read_text() == first + '{"cut off'


def test_learners_side_by_side_know_nothing_of_one_another():
    shape, sample = command.FAMILIES["moving"]
    tasks = [[sample(torch.Generator().manual_seed(10 * seed + i)) for i in range(2)] for seed in (3, 4)]
    learners = command.SideBySide(command.base, shape, (3, 4))
    theta = {name: value.detach() for name, value in learners.named_parameters()}
    found = command.average_meta_gradients(learners, theta, command.stack(tasks), command.Mode.FULL)
    for place, seed in enumerate((3, 4)):
        alone = AttentionClassifier(command.base, shape, command.HEAD_DIM, torch.Generator().manual_seed(seed))
        parameters = dict(alone.named_parameters())
        each = [meta_gradient(alone, parameters, task, command.INNER, command.Mode.FULL) for task in tasks[place]]
        for name in parameters:
            mean = (each[0][name] + each[1][name]) / 2
            torch.testing.assert_close(found[name.replace(".", "_")][place], mean, rtol=1e-9, atol=1e-12)


def test_an_interruption_keeps_what_is_finished(out, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "train", interrupted)
    assert run(out) == 130
    assert "the same command resumes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--arms", "baseline:BOTH"], "there is no arm 'baseline:BOTH'; write NAME:FULL or NAME:FO, --help has names"),
        (["--families", "hills"], "there is no family 'hills'; take of spots, moving"),
        (["--seeds", "0"], "'0' is no whole number of at least 1"),
    ],
)
def test_what_is_wrong_is_told(words, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(words)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def test_in_moving_tasks_only_the_telling_type_shows_the_class():
    task = command.sample_moving(torch.Generator().manual_seed(0))
    types = task.support_x[..., : command.TYPES].argmax(-1)
    content = task.support_x[..., command.TYPES :]
    spread = []
    for kind in range(command.TYPES):
        means = torch.stack(
            [content[types == kind].reshape(12, 2, 6).mean(1)[task.support_y == c].mean(0) for c in range(3)]
        )
        spread.append(float((means - means.mean(0)).norm()))
    telling, *others = sorted(spread, reverse=True)
    assert telling > 2 * others[0]
    assert sorted(torch.bincount(types[0]).tolist()) == [2, 2, 2, 2]


def test_estimates_have_intervals_and_steps_are_counted():
    assert meta_plots.estimate([1.0, 3.0]) == (2.0, pytest.approx(12.71))
    assert meta_plots.count_steps({"family": "moving", "curve": [0.3, 0.91, 0.5], "every": 20}) == 20
    assert meta_plots.count_steps({"family": "moving", "curve": [0.3], "every": 20}) is None


def test_the_figure_is_drawn(out, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(command, "HELD_OUT", 1)
    monkeypatch.setattr(command, "VALIDATION", 1)
    assert run(out, "--plot") == 0
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
