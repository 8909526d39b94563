"""Steps of the search: what each reads, and that it goes on from the same numbers whatever else it is told."""

import torch

from benchmarks.search.step_arms import Way, macro_of, noise_data, plan_of
from search_spaces.supernet import build_supernet
from workers.adapt.limits import Feasible, Limits
from workers.adapt.search import contract
from workers.adapt.sync import Group
from workers.priors.model import uniform_logits


def test_each_step_on_the_choices_reads_held_out_images_forward_only_and_as_many_as_asked() -> None:
    macro = macro_of("nas_bench_201", 8, num_channels=2, num_cells=1)
    supernet = build_supernet("nas_bench_201", macro, generator=torch.Generator().manual_seed(0))
    data = noise_data(8, torch.device("cpu"))
    plan = plan_of("nas_bench_201", macro, 4, Way(num_arch_samples=3, choice_every=2), data, seed=0)
    read: list[tuple[int, bool]] = []
    supernet.register_forward_pre_hook(lambda module, inputs: read.append((len(inputs[0]), torch.is_grad_enabled())))

    contract(
        supernet,
        uniform_logits(supernet.space),
        data,
        plan,
        Feasible(supernet.space, macro, Limits()),
        Group(),
        on_step=lambda step, loss, logits: step < 4,
        query_batch=7,
    )

    on_weights, on_choices = (4, True), (7, False)
    assert read == 2 * [on_weights, on_weights, *3 * [on_choices]]
