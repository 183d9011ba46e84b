import pytest
import torch

from theria.maml import TaskShape, sample_task


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_signal_sits_at_as_many_positions_as_asked_and_nowhere_else():
    shape = TaskShape(examples=300, length=10, signal_positions=3)
    task = sample_task(shape, generator(), noise=0.1)
    class_means = torch.stack([task.support_x[task.support_y == c].mean(0) for c in range(3)])
    separation = class_means.std(dim=0).norm(dim=-1)
    assert (separation > 0.5).sum() == 3
    assert (separation < 0.1).sum() == 7


def test_support_and_query_share_the_positions_and_the_prototypes():
    task = sample_task(TaskShape(examples=300), generator(), noise=0.01)
    means = [
        torch.stack([x[y == c].mean(0) for c in range(3)])
        for x, y in ((task.support_x, task.support_y), (task.query_x, task.query_y))
    ]
    assert torch.allclose(*means, atol=0.01)
    assert not torch.equal(task.support_x, task.query_x)


def test_positions_differ_between_tasks():
    source = generator()
    shape = TaskShape(examples=60, length=32)
    found = set()
    for _ in range(4):
        task = sample_task(shape, source, noise=0.01)
        found.add(tuple((task.support_x.norm(dim=-1).mean(0) > 1).nonzero().flatten().tolist()))
    assert len(found) == 4


def test_labels_are_balanced():
    task = sample_task(TaskShape(examples=9, classes=3), generator())
    assert torch.bincount(task.support_y).tolist() == [3, 3, 3]
    assert torch.bincount(task.query_y).tolist() == [3, 3, 3]


def test_the_same_seed_gives_the_same_task_and_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    first, second = (sample_task(TaskShape(), generator(7)) for _ in range(2))
    assert torch.equal(first.support_x, second.support_x)
    assert torch.equal(first.query_y, second.query_y)
    assert torch.equal(before, torch.get_rng_state())


def test_to_moves_features_and_keeps_labels_integers():
    task = sample_task(TaskShape(), generator()).to("cpu", torch.float32)
    assert task.support_x.dtype is task.query_x.dtype is torch.float32
    assert task.support_y.dtype is torch.int64


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"signal_positions": 9}, r"signal_positions is 9: give 1 to length \(8\)"),
        ({"signal_positions": 0}, "signal_positions is 0"),
        ({"classes": 1}, "two classes"),
        ({"examples": 0}, "at least one example"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        TaskShape(**sizes)
