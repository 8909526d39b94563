"""The final training: what it sees when."""

from dataclasses import replace

import pytest
import torch

from benchmarks.search.step_arms import Way, macro_of, noise_data, plan_of
from search_spaces.network import build_network
from search_spaces.registry import SPACES
from workers.adapt.data import Part, TaskData
from workers.adapt.final import train_network
from workers.adapt.sync import Group

SPACE = SPACES["nas_bench_201"]


def test_every_step_sees_images_at_the_plans_side_and_the_last_is_the_plans() -> None:
    macro = macro_of(SPACE.name, 16, num_channels=2, num_cells=1)
    data = noise_data(16, torch.device("cpu"))
    network = build_network(SPACE.cheapest()[0], macro)
    sides: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
    plan = plan_of(SPACE.name, macro, 4, Way(), data, 0).model_copy(update={"resolution": 8, "max_train_steps": 9})
    seen: list[int] = []
    trained = train_network(
        network,
        data.support,
        plan,
        Group(),
        purpose="test",
        share_of_time=lambda: 0.0,
        on_step=lambda *_: seen.append(sides[-1]),
    )
    assert seen == [8] * 9
    assert trained.num_steps == 9


def test_the_statistics_are_those_of_so_many_images_spread_over_all() -> None:
    macro = macro_of(SPACE.name, 8, num_channels=2, num_cells=1)
    data = noise_data(8, torch.device("cpu"))
    network = build_network(SPACE.cheapest()[0], macro)
    trained = train_network(
        network,
        data.support,
        plan_of(SPACE.name, macro, 4, Way(), data, 0),
        Group(),
        purpose="test",
        share_of_time=lambda: 1.0,
        num_calibrated=500,
        on_step=lambda *_: None,
    )
    assert trained.num_steps == 0
    conv, norm = network.body.stem[0], network.body.stem[1]
    images, _ = next(data.support.batches(len(data.support)))
    spread = conv(images[torch.linspace(0, len(images) - 1, 500).long()]).mean(dim=(0, 2, 3)).detach()
    assert norm.running_mean == pytest.approx(spread, abs=1e-5)
    assert norm.running_mean != pytest.approx(conv(images).mean(dim=(0, 2, 3)).detach(), abs=1e-5)


def test_after_the_choice_most_of_what_it_was_made_by_is_learned_from_and_the_rest_watches() -> None:
    def part(*values: int) -> Part:
        labels = torch.tensor(values)
        return Part(images=labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 8, 8, 3), labels=labels)

    data = TaskData(support=part(1, 2, 3), query=part(4, 5, 6, 7, 8, 9, 10, 11), test=part(12, 13), classes=("a",))
    learned, watched = data.after_choice()
    assert watched.labels.tolist() == [4, 5]
    assert learned.labels.tolist() == [1, 2, 3, 6, 7, 8, 9, 10, 11]
    assert learned.images[:, 0, 0, 0].tolist() == learned.labels.tolist()
    learned, watched = replace(data, query=part(4)).after_choice()
    assert (learned.labels.tolist(), watched.labels.tolist()) == ([1, 2, 3], [4])
