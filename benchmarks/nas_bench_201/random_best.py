"""Random cells, each trained briefly in the benchmark's skeleton; the best by held-out accuracy.

All take the same number of steps, as all cells of the table take the same epochs. How many: measured on the first
cells, so that about `NUM_CELLS` fit into the seconds. Images are shrunk to half their side, which affords four times
the steps: steps are what tells cells apart in a network of this depth.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean
from typing import Final

import torch
import torch.nn.functional as F

from benchmarks.nas_bench_201.cells import MACRO, shuffled_within
from benchmarks.nas_bench_201.job import Choice, Job, one
from search_spaces.architecture import Architecture
from search_spaces.network import Network, build_network, recalibrate
from workers.adapt.data import Part, SupportStream, TaskData
from workers.bayes.randomness import slot_generator
from workers.tasks.batches import to_batch
from workers.training.abreast import as_many_as_fit
from workers.training.budget import Budget

NUM_CELLS: Final = 8
# Of a cell's seconds, for building it and for its held-out accuracy.
OVERHEAD: Final = 0.15
NUM_TIMED_CELLS, NUM_TIMED_STEPS = 3, 2
BATCH, EVAL_BATCH = 64, 256
# Of the table's recipe: SGD with Nesterov momentum, rate 0.1 that falls along a cosine, weight decay 5e-4.
LR, MOMENTUM, WEIGHT_DECAY, CLIP = 0.1, 0.9, 5e-4, 5.0


def choose(job: Job, data: TaskData, budget: Budget) -> Choice:
    """Return the best of the cells that the seconds allow."""
    side = data.resolution // 2
    data = replace(data, support=_shrunk(data.support, side), query=_shrunk(data.query, side))
    cells = shuffled_within(job.max_macs, job.seed)
    num_timed = job.threads * math.ceil(NUM_TIMED_CELLS / job.threads)
    step_s = _seconds_of_a_step(cells[:num_timed], data, job, budget)
    num_rounds = math.ceil(NUM_CELLS / job.threads)
    num_steps = max(1, int((1 - OVERHEAD) * budget.remaining_s / num_rounds / step_s))

    def of_cell(cell: Architecture) -> float:
        return trained_accuracy(cell, data, num_steps, job.seed)

    # One more is begun where at least half of it fits: on average, the seconds are then those granted.
    accuracies = dict(as_many_as_fit(of_cell, cells, budget, at_once=job.threads, least_share=0.5))
    best = max((cell for cell in cells if cell in accuracies), key=accuracies.__getitem__)
    return one(
        best, len(accuracies), f"best of random cells after {num_steps} steps of {BATCH} images at {side} pixels"
    )


def trained_accuracy(cell: Architecture, data: TaskData, num_steps: int, seed: int) -> float:
    """Return the held-out accuracy, 0 to 1, of a cell that took so many steps from fresh weights."""
    network = _fresh(cell, data, seed)
    _train(network, data, num_steps, seed)
    recalibrate(network, [to_batch(data.support.images[:EVAL_BATCH], data.resolution)])
    network.eval()
    with torch.no_grad():
        correct = [network(images).argmax(dim=1) == labels for images, labels in data.query.batches(EVAL_BATCH)]
    return float(torch.cat(correct).double().mean())


def _train(network: Network, data: TaskData, num_steps: int, seed: int) -> None:
    generator = slot_generator(seed, 0, 0, "random best")
    stream = SupportStream(data.support, min(BATCH, len(data.support)), flip=True, generator=generator)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=LR, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    network.train()
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / num_steps))
        images, labels = stream.next(data.resolution)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()


def _seconds_of_a_step(cells: Sequence[Architecture], data: TaskData, job: Job, budget: Budget) -> float:
    """Return the mean over cells, side by side, each after one step that chooses kernels."""

    def of_cell(cell: Architecture) -> float:
        network = _fresh(cell, data, job.seed)
        _train(network, data, 1, job.seed)
        since_s = budget.elapsed_s
        _train(network, data, NUM_TIMED_STEPS, job.seed)
        return (budget.elapsed_s - since_s) / NUM_TIMED_STEPS

    timed = as_many_as_fit(of_cell, cells, Budget(math.inf), at_once=job.threads, least_share=0.0)
    return mean(seconds for _, seconds in timed)


def _fresh(cell: Architecture, data: TaskData, seed: int) -> Network:
    macro = replace(MACRO, num_classes=len(data.classes), image_size=data.resolution)
    return build_network(cell, macro, generator=slot_generator(seed, 0, 0, "random best weights"))


def _shrunk(part: Part, side: int) -> Part:
    pixels = F.interpolate(part.images.permute(0, 3, 1, 2), (side, side), mode="bilinear", antialias=True)
    return Part(images=pixels.permute(0, 2, 3, 1).contiguous(), labels=part.labels)
