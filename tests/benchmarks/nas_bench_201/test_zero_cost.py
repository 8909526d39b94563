"""Scores of untrained networks, against what small ones come to by hand."""

import math

import pytest
import torch
from torch import nn

from benchmarks.nas_bench_201.cells import MACRO, cap_of, cell_of, costs
from benchmarks.nas_bench_201.images import load_task, write_task
from benchmarks.nas_bench_201.job import Job
from benchmarks.nas_bench_201.zero_cost import best_of, by_score, naswot, synflow
from search_spaces.network import build_network
from workers.training.budget import Budget


class Ticks:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


def test_naswot_is_the_determinant_of_agreement() -> None:
    network = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
    with torch.no_grad():
        network[2].weight.copy_(-torch.eye(4))
        network[2].bias.fill_(0.5)
    # On in the first ReLU: 1100 and 1010; in the second, by 0.5 - max(x, 0): 0011 and 0101.
    images = torch.tensor([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]]).view(2, 1, 2, 2)

    # Of 8 units both agree with themselves in all, with each other in 4: |8 4; 4 8| = 48.
    assert naswot(network, images) == pytest.approx(math.log(48))


def test_naswot_cannot_tell_equal_images_apart() -> None:
    assert naswot(nn.Sequential(nn.Flatten(), nn.ReLU()), torch.ones(2, 1, 2, 2)) == -math.inf


def test_naswot_leaves_no_hook() -> None:
    relu = nn.ReLU()
    naswot(nn.Sequential(nn.Flatten(), relu), torch.randn(2, 1, 2, 2))

    assert not relu._forward_hooks


def test_synflow_sums_the_flow_through_each_layer() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, -2.0, 0.0, 1.0], [3.0, 0.0, 0.0, 0.0]]))
        network[2].weight.copy_(torch.tensor([[-1.0, 2.0]]))

    # R = (1 + 2 + 0 + 1) * 1 + 3 * 2 = 10, and all of it flows through either layer.
    assert synflow(network, torch.zeros(5, 1, 2, 2)) == pytest.approx(math.log(20))


def test_synflow_knows_no_batch_norm_and_no_images() -> None:
    cell = cell_of("333333")

    def score(shift: float, images: torch.Tensor) -> float:
        network = build_network(cell, MACRO, generator=torch.Generator().manual_seed(0))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, shift)
        return synflow(network, images)

    assert score(1.0, torch.zeros(2, 3, 8, 8)) == score(0.1, torch.ones(4, 3, 8, 8))


def test_synflow_prefers_more_convolutions() -> None:
    scores = [
        synflow(
            build_network(cell_of(digits), MACRO, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 3, 8, 8)
        )
        for digits in ("111111", "122211", "333333")
    ]

    assert scores == sorted(scores)
    assert all(map(math.isfinite, scores))


def test_as_many_cells_are_scored_as_the_seconds_allow() -> None:
    cells = [cell_of(digits) for digits in ("000100", "000200", "000300", "333333")]

    # Each cell takes three looks at the clock: the third ends with the seconds.
    found = best_of(cells, costs_of, Budget(9.0, Ticks()), "note", threads=1)

    assert found.cells == ("000300",)
    assert found.num_judged == 3


def costs_of(cell) -> float:
    return costs()[cell].macs


def test_at_least_one_cell_is_scored() -> None:
    found = best_of([cell_of("000100"), cell_of("333333")], costs_of, Budget(0.1, Ticks()), "note", threads=1)

    assert found.cells == ("000100",)


@pytest.mark.parametrize("score", [naswot, synflow])
def test_an_arm_answers_with_a_cell_within_the_cap(packed, tmp_path, score) -> None:
    cap = cap_of(10)
    job = Job(arm="any", max_macs=cap.max_macs, seed=0, seconds=1, threads=1, images=write_task(packed, tmp_path))

    found = by_score(score, "score")(job, load_task(job.images, 0), Budget(6.0, Ticks()))

    assert found.num_judged == 2
    assert costs()[cell_of(found.cells[0])].macs <= cap.max_macs
