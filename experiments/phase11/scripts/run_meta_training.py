"""Meta-trains the small attention classifier with sound and with broken attention, to see what a verdict costs.

    python experiments/phase11/scripts/run_meta_training.py --seeds 10

Each run (a task family, an attention, a mode, a seed) is a line of a JSONL file; what is in it is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
from theria.maml.loop import flatten
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
    jobs = [(f, a, s) for s in range(options.seeds) for f in options.families for a in options.arms]
    left = [job for job in jobs if (*job, options.steps) not in done]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        for number, (family, arm, seed) in enumerate(left, 1):
            began = time.monotonic()
            row = train(family, arm, seed, options.steps)
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            told = row.get("error") or f"{row['accuracy'][str(INNER.steps)]:.0%} after {INNER.steps} inner steps"
            took = time.monotonic() - began
            print(f"{number}/{len(left)} {family} {arm.name}:{arm.mode} {seed}: {told}, {took:.0f} s", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"interrupted: {options.out} keeps what is finished, the same command resumes", file=sys.stderr)
        return 130
    rows = [row for row in load_rows(options.out) if row["steps"] == options.steps]
    print(summarise(rows, INNER.steps))
    if options.plot:
        print(plot_accuracy(rows, options.out.with_suffix(".png"), INNER.steps))
    return 0


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


def train(family: str, arm: Arm, seed: int, steps: int) -> dict[str, Any]:
    """One run: Adam on the meta-gradient; all arms of a seed begin alike, and see the same tasks."""
    shape, sample = FAMILIES[family]
    model = make_model(ATTENTIONS[arm.name], shape, seed)
    sound = make_model(base, shape, seed)
    theta = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimiser = torch.optim.Adam(list(theta.values()), lr=0.01)
    tasks = torch.Generator().manual_seed(1000 + seed)
    validation = [sample(torch.Generator().manual_seed(10**6 + 100 * seed + i)) for i in range(VALIDATION)]
    row: dict[str, Any] = {"family": family, "attention": arm.name, "mode": str(arm.mode), "seed": seed, "steps": steps}
    curve, alignment = [], []
    try:
        for step in range(steps):
            batch = [sample(tasks) for _ in range(BATCH)]
            gradients = [meta_gradient(model, theta, task, INNER, arm.mode) for task in batch]
            mean = {name: sum(g[name] for g in gradients) / BATCH for name in theta}
            if step % EVERY == 0:
                true = sum(flatten(meta_gradient(sound, theta, task, INNER, Mode.FULL)) for task in batch)
                alignment.append(float(torch.cosine_similarity(flatten(mean), true, dim=0)))
                curve.append(measure_accuracy(model, theta, validation, (INNER.steps,))[INNER.steps])
            for name, value in theta.items():
                value.grad = mean[name]
            optimiser.step()
    except RuntimeError as error:  # attention that cannot be meta-trained at all is a result
        return {**row, "error": f"{type(error).__name__}: {error}"}
    held_out = [sample(torch.Generator().manual_seed(10**7 + 100 * seed + i)) for i in range(HELD_OUT)]
    accuracy = {str(depth): value for depth, value in measure_accuracy(model, theta, held_out, DEPTHS).items()}
    return {**row, "accuracy": accuracy, "curve": curve, "every": EVERY, "alignment": alignment}


def make_model(attend: Callable[..., torch.Tensor], shape: TaskShape, seed: int) -> AttentionClassifier:
    """The learner, drawn from the seed alone."""
    return AttentionClassifier(attend, shape, HEAD_DIM, torch.Generator().manual_seed(seed))


def measure_accuracy(
    model: AttentionClassifier, theta: dict[str, torch.Tensor], tasks: Sequence[Task], depths: Sequence[int]
) -> dict[int, float]:
    """The share of query sequences that are told right after so many inner steps each, over tasks."""
    right = dict.fromkeys(depths, 0.0)
    for task in tasks:
        for depth, phi in iter_adapted(model, theta, task, depths):
            logits = functional_call(model, phi, (task.query_x,))
            right[depth] += float((logits.argmax(-1) == task.query_y).double().mean())
    return {depth: total / len(tasks) for depth, total in right.items()}


def iter_adapted(
    model: AttentionClassifier, theta: dict[str, torch.Tensor], task: Task, depths: Sequence[int]
) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """The adapted parameters at each depth, one after the other."""
    phi, reached = {name: value.detach() for name, value in theta.items()}, 0
    for depth in sorted(depths):
        phi = adapt(model, phi, task, InnerLoop(depth - reached, INNER.lr), Mode.FO_STRICT)
        phi, reached = {name: value.detach() for name, value in phi.items()}, depth
        yield depth, phi


if __name__ == "__main__":
    sys.exit(main())
