"""Scores of untrained networks, plainly from their papers: NASWOT and SynFlow.

Sources: Mellor, Turner, Storkey and Crowley, *Neural Architecture Search without Training*, ICML 2021. Tanaka, Kunin,
Yamins and Ganguli, *Pruning neural networks without any data by iteratively conserving synaptic flow*, NeurIPS 2020, as
a score of architectures by Abdelfattah, Mehrotra, Dudziak and Lane, *Zero-Cost Proxies for Lightweight NAS*, ICLR 2021.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn

from benchmarks.nas_bench_201.cells import MACRO, shuffled_within
from benchmarks.nas_bench_201.job import Choice, Job, one
from search_spaces.architecture import Architecture
from search_spaces.network import build_network
from workers.adapt.data import TaskData
from workers.bayes.randomness import slot_generator
from workers.tasks.batches import to_batch
from workers.training.abreast import as_many_as_fit
from workers.training.budget import Budget

# As in the paper's code for NAS-Bench-201.
BATCH: Final = 128

Score = Callable[[nn.Module, Tensor], float]
"""Of a network with fresh weights, which it may change, and a batch of normalized images; the larger, the better."""


def naswot(network: nn.Module, images: Tensor) -> float:
    """Return log |det K|, where K_ij counts the units of all ReLUs that are on for both or off for both images.

    Args:
        network: In training mode: batch norm uses the batch's statistics.
        images: [N, C, H, W].
    """
    kernel_NN = torch.zeros(len(images), len(images))

    def count(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        on_NU = (output.flatten(1) > 0).float()
        # on.on + (1 - on).(1 - on), by one product of matrices; whole numbers that float32 holds exactly.
        on_N = on_NU.sum(dim=1)
        kernel_NN.add_(2 * on_NU @ on_NU.T - on_N[:, None] - on_N[None, :] + on_NU.shape[1])

    handles = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, nn.ReLU)]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    sign, log_determinant = torch.linalg.slogdet(kernel_NN.double())
    return float(log_determinant) if sign != 0 else -math.inf


def synflow(network: nn.Module, images: Tensor) -> float:
    """Return log sum |w dR/dw| over the weights of convolutions and linear layers; R sums the outputs for ones.

    All weights are made positive and batch norm is left out, both as in Abdelfattah et al.; in float64, because R
    grows with each layer. Only the shape of the images counts. The logarithm keeps the order.
    """
    _without_batch_norm(network)
    network.double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.abs_()
    ones = torch.ones(1, *images.shape[1:], dtype=torch.float64)
    network(ones).sum().backward()
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        flows = [(layer.weight * layer.weight.grad).abs().sum() for layer in layers if layer.weight.grad is not None]
    flow = float(sum(flows))
    return math.log(flow) if flow > 0 else -math.inf


def best_of(
    cells: Sequence[Architecture], score: Callable[[Architecture], float], budget: Budget, note: str, *, threads: int
) -> Choice:
    """Return the cell of the largest score among as many of `cells`, in order, as the seconds allow; at least one."""
    scores = dict(as_many_as_fit(score, cells, budget, at_once=threads, least_share=0.0))
    best = max((cell for cell in cells if cell in scores), key=scores.__getitem__)
    return one(best, len(scores), note)


def by_score(score: Score, name: str) -> Callable[[Job, TaskData, Budget], Choice]:
    """Return the arm that takes the best of random cells within the cap by a score of untrained networks."""

    def choose(job: Job, data: TaskData, budget: Budget) -> Choice:
        batch = to_batch(data.support.images[:BATCH], data.resolution)
        macro = replace(MACRO, num_classes=len(data.classes), image_size=data.resolution)

        def of_cell(cell: Architecture) -> float:
            # All cells from the same generator: what differs is the cell.
            network = build_network(cell, macro, generator=slot_generator(job.seed, 0, 0, "zero cost"))
            return score(network.train(), batch)

        cells, note = shuffled_within(job.max_macs, job.seed), f"largest {name} of random cells"
        return best_of(cells, of_cell, budget, note, threads=job.threads)

    return choose


def _without_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.Identity())
        else:
            _without_batch_norm(child)
