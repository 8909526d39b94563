"""What a task's gradient costs: unrolled with and without recomputation, and several tasks batched or in turn.

Memory: the unrolled gradient of one task through a relaxed supernet, against the number of inner steps: `plain` keeps
one graph through all steps, `recomputed` is the product's. Each point has a process of its own, whose peak of resident
memory is read.

Batching: 1, 2 and 4 tasks along one path that all share, the best case for a batch, since the product draws a path for
each task. `in turn` is a task after another in the layout that the product uses, `batched` is `torch.func.vmap`: the
tasks' own weights become grouped convolutions. The two take turns, and the best of some rounds counts.

All on one thread and in seconds of its CPU, which other work on the machine disturbs least.

usage: python -m benchmarks.meta_runs.task_gradients [--rounds N]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, vmap

from benchmarks.machine import ROOT, describe, write
from search_spaces.architecture import Architecture
from search_spaces.supernet import Supernet, build_supernet
from workers.bayes.distributions import Batch, MetaPrior, Posterior, Task, posterior_at
from workers.bayes.elbo import Objective, negative_elbo
from workers.bayes.estimators import Relaxed
from workers.bayes.meta_gradient import meta_gradient
from workers.contracts.priors import MacroSpec
from workers.priors.model import HEAD_BIAS, HEAD_NAMES, HEAD_WEIGHT, fresh_prior, full_macro, supernet_likelihood

SPACE: Final = "nas_bench_201"
NUM_WAYS, SIDE = 10, 16
MACRO: Final = full_macro(MacroSpec(num_channels=16, num_cells=1), num_classes=NUM_WAYS, image_size=SIDE)
NUM_STEPS: Final = (1, 2, 4, 8, 16)
UNROLLED_BATCH: Final = 32
RATES: Final = {"loc": 0.01, "head": 0.1, "arch_logits": 0.1}
NUM_TASKS: Final = (1, 2, 4)
JOINT_BATCH, TASK_BATCH, TASK_STEPS = 128, 64, 4
PATH: Final = Architecture(SPACE, (3, 2, 1, 3, 4, 2))  # two 3x3 and two 1x1 convolutions, a skip, a pooling

Weights = Mapping[str, Tensor]


def main() -> int:
    """Measure, write the results, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("FORM", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        print(json.dumps(unrolled_here(options.one[0], int(options.one[1]))))
        return 0
    about = {**describe(), "threads": 1}
    unrolled = {form: {steps: unrolled_apart(form, steps) for steps in NUM_STEPS} for form in ("plain", "recomputed")}
    results = {
        "benchmark": "task_gradients",
        "unrolled_mb_per_step": {form: slope(points, "peak_mb") for form, points in unrolled.items()},
        "unrolled_cpu_s_per_step": {form: slope(points, "cpu_s") for form, points in unrolled.items()},
        "unrolled_largest_difference": max(
            abs(unrolled["plain"][steps]["norm"] / unrolled["recomputed"][steps]["norm"] - 1) for steps in NUM_STEPS
        ),
        "batched_over_in_turn": {},
        "gpu": "not run",
    }
    images_per_s = {
        "joint": batching(joint_forms, JOINT_BATCH, options.rounds),
        "task": batching(task_forms, TASK_BATCH, options.rounds),
    }
    results["batched_over_in_turn"] = {
        part: {tasks: round(rates["batched"] / rates["in turn"], 3) for tasks, rates in points.items()}
        for part, points in images_per_s.items()
    }
    write("task_gradients", results, {"unrolled": unrolled, "images_per_cpu_s": images_per_s, **about})
    return 0


def unrolled_apart(form: str, num_steps: int) -> dict[str, float]:
    """Return what `unrolled_here` finds, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.meta_runs.task_gradients", "--one", form, str(num_steps)]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    print(f"unrolled, {form}, {num_steps} steps: {found['peak_mb']} MB, {found['cpu_s']} s", flush=True)
    return found


def unrolled_here(form: str, num_steps: int) -> dict[str, float]:
    """Return peak memory above the start in MB, CPU seconds, and the norm of one task's unrolled gradient."""
    generator = torch.Generator().manual_seed(0)
    prior = fresh_prior(SPACE, MACRO, generator, weight_scale=0.1)
    supernet = build_supernet(SPACE, MACRO, generator=generator)
    head = {name: dict(supernet.named_parameters())[name].detach() for name in HEAD_NAMES}
    batches = [batch_of(UNROLLED_BATCH, generator) for _ in range(5)]
    task = Task(support=batches[:4], query=batches[4], num_examples=5 * UNROLLED_BATCH)
    objective = Objective(
        likelihood=supernet_likelihood(supernet),
        estimator=Relaxed(temperature=1.0),
        family="delta",
        weight_kl=1.0,
        arch_kl=1.0,
    )
    before_mb = resident_mb()
    started_s = time.process_time()
    arrays: Weights
    if form == "plain":
        arrays = plain_unrolled(prior, head, task, objective, num_steps, generator)
    else:
        arrays = meta_gradient(
            "unrolled",
            prior,
            head,
            task,
            inner=objective,
            outer=objective,
            num_inner_steps=num_steps,
            inner_lr=RATES,
            generator=generator,
            version=0,
            slot=0,
        ).arrays
    seconds = time.process_time() - started_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mb
    norm = torch.stack([value.norm() for value in arrays.values()]).norm()
    return {"peak_mb": round(peak_mb), "cpu_s": round(seconds, 2), "norm": float(norm)}


def plain_unrolled(
    prior: MetaPrior, head: Weights, task: Task, objective: Objective, num_steps: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the unrolled gradient by one graph through all steps."""
    fixed = {key: value for key, value in prior.to_arrays().items() if key.startswith("log_scale/")}
    leaves = {key: value.clone().requires_grad_() for key, value in prior.to_arrays().items() if key not in fixed}
    start = MetaPrior.from_arrays({**fixed, **leaves})
    # The KL reads W apart from phi^0, so that an inner gradient by phi is not one by W.
    apart = MetaPrior.from_arrays({**fixed, **{key: value.clone() for key, value in leaves.items()}})
    arrays = posterior_at(start, {name: value.clone().requires_grad_() for name, value in head.items()}).to_arrays()
    moving = [key for key in arrays if key not in fixed]
    for step in range(num_steps):
        batch = task.support[step % len(task.support)]
        posterior = Posterior.from_arrays(arrays)
        loss = negative_elbo(posterior, apart, batch, objective, num_examples=task.num_examples, generator=generator)
        found = torch.autograd.grad(loss, [arrays[key] for key in moving], create_graph=True)
        for key, value in zip(moving, found, strict=True):
            arrays[key] = arrays[key] - RATES[key.partition("/")[0]] * value
    posterior = Posterior.from_arrays(arrays)
    loss = negative_elbo(posterior, start, task.query, objective, num_examples=task.num_examples, generator=generator)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def resident_mb() -> float:
    """Return this process's resident memory, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def slope(points: Mapping[int, Mapping[str, float]], key: str) -> float:
    """Return by how much a figure grows with each inner step: least squares."""
    return round(statistics.linear_regression(list(points), [point[key] for point in points.values()]).slope, 3)


def batch_of(size: int, generator: torch.Generator) -> Batch:
    """Return random images, channels last, and labels."""
    images = torch.randn(size, 3, SIDE, SIDE, generator=generator).contiguous(memory_format=torch.channels_last)
    return Batch(images=images, labels=torch.randint(NUM_WAYS, (size,), generator=generator))


Form = Callable[[], list[Tensor]]


class Forms(Protocol):
    """Two ways to one gradient."""

    def __call__(self, supernet: Supernet, num_tasks: int, size: int) -> tuple[dict[str, Form], int]:
        """Return the two by name, and how many images each reads; `size` is that of a batch."""


def batching(forms: Forms, size: int, rounds: int) -> dict[int, dict[str, float]]:
    """Return images per CPU second of both forms, by number of tasks."""
    supernet = build_supernet(SPACE, MACRO, generator=torch.Generator().manual_seed(0))
    check_equal(forms)
    points = {}
    for num_tasks in NUM_TASKS:
        by_name, num_images = forms(supernet, num_tasks, size)
        best_s = dict.fromkeys(by_name, float("inf"))
        for _ in range(rounds):
            for name, form in by_name.items():
                started_s = time.process_time()
                form()
                best_s[name] = min(best_s[name], time.process_time() - started_s)
        points[num_tasks] = {name: round(num_images / seconds, 1) for name, seconds in best_s.items()}
        print(f"{num_tasks} tasks, images per CPU second: {points[num_tasks]}", flush=True)
    return points


def check_equal(forms: Forms) -> None:
    """Make sure that both forms come to the same gradient, in float64, where rounding cannot grow into a difference."""
    supernet = build_supernet(SPACE, MACRO, generator=torch.Generator().manual_seed(0)).double()
    in_turn, batched = (form() for form in forms(supernet, 2, 8)[0].values())
    for a, b in zip(in_turn, batched, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def joint_forms(supernet: Supernet, num_tasks: int, size: int) -> tuple[dict[str, Form], int]:
    """The summed gradient of a batch for each of some slots by the weights that they share."""
    weights = {name: value.detach().requires_grad_() for name, value in supernet.named_parameters()}
    images, labels = stacked(num_tasks, 1, size, supernet)
    used = [
        name for name, value in grad(plain_loss(supernet))(weights, images[0, 0], labels[0, 0]).items() if value.any()
    ]
    by = [weights[name] for name in used]

    def in_turn() -> list[Tensor]:
        sums = [torch.zeros_like(value) for value in by]
        for x, y in zip(images[:, 0], labels[:, 0], strict=True):
            torch._foreach_add_(sums, torch.autograd.grad(plain_loss(supernet)(weights, x, y), by))
        return sums

    def batched() -> list[Tensor]:
        losses = vmap(mapped_loss(supernet), in_dims=(None, 0, 0))(weights, images[:, 0], labels[:, 0])
        return list(torch.autograd.grad(losses.sum(), by))

    return {"in turn": in_turn, "batched": batched}, num_tasks * size


def task_forms(supernet: Supernet, num_tasks: int, size: int) -> tuple[dict[str, Form], int]:
    """The query gradients of some tasks, each at the end of its own inner steps."""
    weights = {name: value.detach() for name, value in supernet.named_parameters()}
    images, labels = stacked(num_tasks, TASK_STEPS + 1, size, supernet)

    def adapted(loss: Callable[[Weights, Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Weights:
        phi: Weights = weights
        for step in range(TASK_STEPS):
            slopes = grad(loss)(phi, x[step], y[step])
            phi = {name: value - RATES["loc"] * slopes[name] for name, value in phi.items()}
        found: Weights = grad(loss)(phi, x[TASK_STEPS], y[TASK_STEPS])
        return found

    def in_turn() -> list[Tensor]:
        each = [adapted(plain_loss(supernet), x, y) for x, y in zip(images, labels, strict=True)]
        return [torch.stack([found[name] for found in each]) for name in weights]

    def batched() -> list[Tensor]:
        return list(vmap(lambda x, y: adapted(mapped_loss(supernet), x, y))(images, labels).values())

    return {"in turn": in_turn, "batched": batched}, num_tasks * (TASK_STEPS + 1) * size


def stacked(num_tasks: int, num_batches: int, size: int, supernet: Supernet) -> tuple[Tensor, Tensor]:
    """Return images [T, B, N, C, R, R] of the supernet's type, the last four axes channels last; labels [T, B, N]."""
    batch = batch_of(num_tasks * num_batches * size, torch.Generator().manual_seed(1))
    lead = (num_tasks, num_batches, size)
    return batch.images.to(supernet.classifier.weight.dtype).unflatten(0, lead), batch.labels.view(lead)


def plain_loss(supernet: Supernet) -> Callable[[Weights, Tensor, Tensor], Tensor]:
    """Return the loss along PATH as the product computes it."""

    def loss(weights: Weights, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(supernet, dict(weights), (x, PATH)), y)

    return loss


def mapped_loss(supernet: Supernet) -> Callable[[Weights, Tensor, Tensor], Tensor]:
    """Return the same loss without the change of layout, which `vmap` does not know."""
    routes = supernet.body.routes(PATH)

    def loss(weights: Weights, x: Tensor, y: Tensor) -> Tensor:
        body = {name.removeprefix("body."): value for name, value in weights.items() if name.startswith("body.")}
        features = functional_call(supernet.body, body, (x, routes))
        return F.cross_entropy(features @ weights[HEAD_WEIGHT].T + weights[HEAD_BIAS], y)

    return loss


if __name__ == "__main__":
    sys.exit(main())
