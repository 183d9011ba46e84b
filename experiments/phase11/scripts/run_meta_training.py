"""Meta-trains the small attention classifier with sound and with broken attention, to see what a verdict costs.

    python experiments/phase11/scripts/run_meta_training.py --seeds 10

Each run (a task family, an attention, a mode, a seed) is a line of a JSONL file; what is in it is not run again. The
seeds of an arm run side by side.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

try:
    import torch
    from bad_backends import WRAPPERS
    from meta_plots import plot_accuracy, summarise
    from plots import MISSING_MATPLOTLIB, can_plot
    from torch.func import functional_call
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed here: run `pip install -e '.[confirm]'` in the checkout first")

from theria.attention.registry import attention
from theria.maml import AttentionClassifier, InnerLoop, Mode, Task, TaskShape, adapt, meta_gradient, sample_task
from theria.maml import sever_double_backward as sever
from theria.probes.point import draw

DEFAULT_OUT = Path(__file__).resolve().parent.parent / "runs" / "meta_training.jsonl"
HEAD_DIM = 8
INNER = InnerLoop(3, 0.4)
DEPTHS = (0, 1, 2, 3, 5, 10, 20)
BATCH, VALIDATION, HELD_OUT = 4, 20, 60
EVERY = 20
"""Meta-training steps from one look at the validation tasks, and at the true meta-gradient, to the next."""

TYPES = 4
SPOTS = TaskShape(examples=9)
MOVING = TaskShape(examples=12, features=TYPES + 6)


def sample_spots(generator: torch.Generator) -> Task:
    """New prototypes at new positions: what the class looks like is learnt from the support set."""
    return sample_task(SPOTS, generator)


def sample_moving(generator: torch.Generator) -> Task:
    """The same prototypes in every task; which type of position tells the class is learnt from the support set.

    Positions of all other types show a class as well, at random: the attention has to move to the type that counts.
    """
    prototypes = 2 * torch.nn.functional.normalize(draw((MOVING.classes, 6), torch.Generator().manual_seed(7)), dim=1)
    telling = int(torch.randint(TYPES, (), generator=generator))

    def split() -> tuple[torch.Tensor, torch.Tensor]:
        count, length = MOVING.examples, MOVING.length
        labels = torch.arange(count) % MOVING.classes
        types = torch.stack([torch.randperm(length, generator=generator) % TYPES for _ in range(count)])
        shown = torch.randint(MOVING.classes, (count, length), generator=generator)
        shown = torch.where(types == telling, labels[:, None], shown)
        content = prototypes[shown] + 0.5 * draw((count, length, 6), generator)
        return torch.cat([2.0 * torch.nn.functional.one_hot(types, TYPES), content], dim=-1), labels

    return Task(*split(), *split())


FAMILIES: dict[str, tuple[TaskShape, Callable[[torch.Generator], Task]]] = {
    "spots": (SPOTS, sample_spots),
    "moving": (MOVING, sample_moving),
}


class Arm(NamedTuple):
    """An attention by its name, and how the outer gradient treats the inner loop."""

    name: str
    mode: Mode


def base(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Sound attention."""
    return attention(q, k, v, backend="reference")


ATTENTIONS = {name: wrap(base) for name, wrap in WRAPPERS.items()} | {"no_double_backward": sever(base)}
"""The wrappers, and what a fused kernel is: right to first order, and without a second."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is not in the file yet; 0 when all is, 2 for settings that cannot be run, 130 when interrupted."""
    options = parse(arguments)
    torch.set_num_threads(1)
    if options.plot and not can_plot():
        print(f"error: {MISSING_MATPLOTLIB}", file=sys.stderr)
        return 2
    done = {identify(row) for row in load_rows(options.out)}
    jobs = [
        (family, arm, [seed for seed in range(options.seeds) if (family, arm, seed, options.steps) not in done])
        for family in options.families
        for arm in options.arms
    ]
    left = [job for job in jobs if job[2]]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        for number, (family, arm, seeds) in enumerate(left, 1):
            began = time.monotonic()
            made = train(family, arm, seeds, options.steps)
            with options.out.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in made)
            told = made[0].get("error") or f"{mean_accuracy(made):.0%} after {INNER.steps} inner steps"
            took = time.monotonic() - began
            print(f"{number}/{len(left)} {family} {arm.name}:{arm.mode}: {told}, {took:.0f} s", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"interrupted: {options.out} keeps what is finished, the same command resumes", file=sys.stderr)
        return 130
    wanted = {(family, arm, seed) for family, arm, _ in jobs for seed in range(options.seeds)}
    rows = [row for row in load_rows(options.out) if row["steps"] == options.steps and identify(row)[:3] in wanted]
    print(summarise(rows, INNER.steps))
    if options.plot:
        print(plot_accuracy(rows, options.out.with_suffix(".png"), INNER.steps))
    return 0


def mean_accuracy(rows: Sequence[dict[str, Any]]) -> float:
    """At the trained depth, over seeds."""
    return sum(row["accuracy"][str(INNER.steps)] for row in rows) / len(rows)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; argparse exits with 2 and a message for what it does not know."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s [--seeds N] [--steps N] [--families F,G] [--arms NAME:MODE,…] [options]",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="\n  ".join(["attentions:", *ATTENTIONS, "modes: FULL, FO"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=count, default=10, metavar="N", help="runs of each arm on each family")
    parser.add_argument("--steps", type=count, default=200, metavar="N", help=f"meta-training steps of {BATCH} tasks")
    parser.add_argument("--families", type=families, default=list(FAMILIES), metavar="F,G", help=", ".join(FAMILIES))
    parser.add_argument("--arms", type=arms, default=list_arms(), metavar="NAME:MODE,…", help="every attention in both")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="FILE", help="the lines of finished runs")
    parser.add_argument("--plot", action="store_true", help="draw a PNG beside the file")
    return parser.parse_args(arguments)


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def families(text: str) -> list[str]:
    """Task families by name."""
    if unknown := [name for name in text.split(",") if name not in FAMILIES]:
        raise argparse.ArgumentTypeError(f"there is no family {unknown[0]!r}; take of {', '.join(FAMILIES)}")
    return text.split(",")


def arms(text: str) -> list[Arm]:
    """Attentions with a mode each."""
    found = []
    for part in text.split(","):
        name, _, mode = part.partition(":")
        if name not in ATTENTIONS or mode not in ("FULL", "FO"):
            raise argparse.ArgumentTypeError(f"there is no arm {part!r}; write NAME:FULL or NAME:FO, --help has names")
        found.append(Arm(name, Mode(mode)))
    return found


def list_arms() -> list[Arm]:
    """Every attention in both modes."""
    return [Arm(name, mode) for name in ATTENTIONS for mode in (Mode.FULL, Mode.FO)]


def load_rows(path: Path) -> list[dict[str, Any]]:
    """The finished runs; a line that was cut off is none."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def identify(row: dict[str, Any]) -> tuple[str, Arm, int, int]:
    """What a row is a run of."""
    return row["family"], Arm(row["attention"], Mode(row["mode"])), row["seed"], row["steps"]


def train(family: str, arm: Arm, seeds: Sequence[int], steps: int) -> list[dict[str, Any]]:
    """A run for each seed, side by side: Adam on the meta-gradient; all arms of a seed see the same tasks."""
    shape, sample = FAMILIES[family]
    learners = SideBySide(ATTENTIONS[arm.name], shape, seeds)
    sound = SideBySide(base, shape, seeds)
    theta = {name: value.detach().clone() for name, value in learners.named_parameters()}
    optimiser = torch.optim.Adam(list(theta.values()), lr=0.01)
    generators = [torch.Generator().manual_seed(1000 + seed) for seed in seeds]
    validation = sample_apart(sample, seeds, 10**6, VALIDATION)
    curve, alignment = [], []
    same = {"family": family, "attention": arm.name, "mode": str(arm.mode), "steps": steps}
    rows: list[dict[str, Any]] = [{**same, "seed": seed} for seed in seeds]
    try:
        for step in range(steps):
            batch = stack([[sample(generator) for _ in range(BATCH)] for generator in generators])
            gradients = average_meta_gradients(learners, theta, batch, arm.mode)
            if step % EVERY == 0:
                true = average_meta_gradients(sound, theta, batch, Mode.FULL)
                alignment.append(torch.cosine_similarity(flatten_each(gradients), flatten_each(true), dim=1).tolist())
                curve.append(measure_accuracy(learners, theta, validation, (INNER.steps,))[INNER.steps])
            for name, value in theta.items():
                value.grad = gradients[name]
            optimiser.step()
    except RuntimeError as error:  # attention that cannot be meta-trained at all is a result
        return [{**row, "error": f"{type(error).__name__}: {error}"} for row in rows]
    accuracy = measure_accuracy(learners, theta, sample_apart(sample, seeds, 10**7, HELD_OUT), DEPTHS)
    return [
        {
            **row,
            "accuracy": {str(depth): values[i] for depth, values in accuracy.items()},
            "curve": [values[i] for values in curve],
            "every": EVERY,
            "alignment": [values[i] for values in alignment],
        }
        for i, row in enumerate(rows)
    ]


class SideBySide(torch.nn.Module):
    """Learners that know nothing of one another, one a seed: parameters (L, …) for sequences (L, E, T, features).

    `adapt` and `meta_gradient` take it for one learner. The mean of the loss is over L learners, so a gradient is an
    L-th of a learner's own.
    """

    def __init__(self, attend: Callable[..., torch.Tensor], shape: TaskShape, seeds: Sequence[int]) -> None:
        super().__init__()
        self.attend = attend
        drawn = [AttentionClassifier(base, shape, HEAD_DIM, torch.Generator().manual_seed(seed)) for seed in seeds]
        for name, _ in drawn[0].named_parameters():
            stacked = torch.stack([learner.get_parameter(name) for learner in drawn]).detach()
            self.register_parameter(name.replace(".", "_"), torch.nn.Parameter(stacked))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class logits (L · E, classes)."""
        weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        q, k, v = ((x @ weight.transpose(1, 2)[:, None]).flatten(0, 1).unsqueeze(1) for weight in weights)
        pooled = self.attend(q, k, v).squeeze(1).mean(dim=1).unflatten(0, x.shape[:2])
        logits = pooled @ self.classifier_weight.transpose(1, 2) + self.classifier_bias[:, None]
        return logits.flatten(0, 1)


def stack(tasks: Sequence[Sequence[Task]]) -> Task:
    """Tasks of several learners as one, those of a learner next to one another."""
    flat = [task for one in tasks for task in one]
    x = [torch.stack([getattr(task, name) for task in flat]) for name in ("support_x", "query_x")]
    y = [torch.cat([getattr(task, name) for task in flat]) for name in ("support_y", "query_y")]
    return Task(x[0], y[0], x[1], y[1])


def sample_apart(sample: Callable[[torch.Generator], Task], seeds: Sequence[int], first: int, number: int) -> Task:
    """Tasks that no training sees, the same for every arm of a seed."""
    return stack([[sample(torch.Generator().manual_seed(first + 100 * s + i)) for i in range(number)] for s in seeds])


def repeat(theta: dict[str, torch.Tensor], tasks: Task) -> tuple[dict[str, torch.Tensor], int]:
    """Parameters for each task of its learner, and how many tasks a learner has."""
    number = len(tasks.support_x) // len(next(iter(theta.values())))
    return {name: value.repeat_interleave(number, dim=0) for name, value in theta.items()}, number


def average_meta_gradients(
    learners: SideBySide, theta: dict[str, torch.Tensor], tasks: Task, mode: Mode
) -> dict[str, torch.Tensor]:
    """The mean meta-gradient of each learner over its tasks."""
    each, number = repeat(theta, tasks)
    every = len(tasks.support_x)
    found = meta_gradient(learners, each, tasks, InnerLoop(INNER.steps, INNER.lr * every), mode)
    return {name: every * value.unflatten(0, (-1, number)).mean(dim=1) for name, value in found.items()}


def flatten_each(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    """One row a learner."""
    return torch.cat([value.flatten(1) for value in gradients.values()], dim=1)


def measure_accuracy(
    learners: SideBySide, theta: dict[str, torch.Tensor], tasks: Task, depths: Sequence[int]
) -> dict[int, list[float]]:
    """The share of query sequences that each learner tells right after so many inner steps, over its tasks."""
    phi, number = repeat(theta, tasks)
    found, reached = {}, 0
    for depth in sorted(depths):
        loop = InnerLoop(depth - reached, INNER.lr * len(tasks.support_x))
        phi = {name: value.detach() for name, value in adapt(learners, phi, tasks, loop, Mode.FO_STRICT).items()}
        reached = depth
        right = functional_call(learners, phi, (tasks.query_x,)).argmax(-1) == tasks.query_y
        found[depth] = right.double().unflatten(0, (-1, number * tasks.query_x.shape[1])).mean(dim=1).tolist()
    return found


if __name__ == "__main__":
    sys.exit(main())
