"""What ArchPrior chooses, asked as the benchmark asks it."""

from dataclasses import replace

import pytest

from benchmarks.nas_bench_201 import ours
from benchmarks.nas_bench_201.cells import MACRO, SPACE, cap_of, cell_of, cells_within, costs
from benchmarks.nas_bench_201.images import load_task, write_task
from benchmarks.nas_bench_201.job import Job
from workers.adapt.plan import Speed, SplitSizes, make_plan
from workers.contracts.adaptations import AdaptationRequest
from workers.priors.registry import bundled_folder
from workers.training.budget import Budget


@pytest.mark.parametrize("macro", [replace(MACRO, num_cells=1), replace(MACRO, image_size=16, num_channels=8), MACRO])
@pytest.mark.parametrize("percent", [10, 25, 50, 100])
def test_a_cap_in_another_skeleton_admits_the_same_cells(macro, percent) -> None:
    cap = cap_of(percent)
    limit = ours.equivalent_cap(cap.max_macs, macro)
    # One cell of each cost: others cost the same in any skeleton.
    examples = {cost.macs: cell for cell, cost in costs().items()}.values()

    within = set(cells_within(cap.max_macs))
    assert {cell for cell in examples if SPACE.cost(cell, macro).macs <= limit} == within & set(examples)


@pytest.mark.parametrize("prior", [None, bundled_folder() / "nas_bench_201-v4"])
def test_a_cell_within_the_cap_is_chosen(packed, tmp_path, prior) -> None:
    cap = cap_of(25)
    images = write_task(packed, tmp_path / "images")
    job = Job(arm="ours", max_macs=cap.max_macs, seed=0, seconds=2, threads=1, images=images, prior=prior)

    found = ours.choose(job, load_task(images, 0), Budget(job.seconds))

    assert len(found.cells) == 1
    assert costs()[cell_of(found.cells[0])].macs <= cap.max_macs
    assert found.num_judged >= (prior is None)  # one that made trials may know without judging
    assert found.note.startswith("prior none" if prior is None else "prior nas_bench_201-v4")


def test_a_plan_for_the_choice_alone_takes_all_the_seconds() -> None:
    speed = Speed(search_step_s=0.02, path_s=0.01, candidate_s=0.2, train_step_s=0.05, forward_s=1e-4, export_s=5.0)
    sizes = SplitSizes(train=49_000, query=1000, test=0)
    macro = replace(MACRO, num_cells=1)
    plan = make_plan(
        AdaptationRequest(search="supernet"),
        macro,
        sizes,
        speed,
        remaining_s=120.0,
        flip=True,
        precision="float32",
        doubt=1.0,
        reads=False,
    )

    found = ours.for_choice_only(plan, 60.0, 1.0)

    assert found.search_s + found.choice_s + found.race_s == pytest.approx(60.0)
    grown = 60.0 / (plan.search_s + plan.choice_s + plan.race_s)
    assert found.num_search_steps == pytest.approx(grown * plan.num_search_steps, abs=1)
    assert found.race_steps == pytest.approx(grown * plan.race_steps, abs=1)
    # On a machine that others use, a step was measured to take three times its CPU seconds.
    slow = ours.for_choice_only(plan, 60.0, 3.0)
    assert slow.search_s == found.search_s
    assert slow.num_search_steps == pytest.approx(3 * found.num_search_steps, abs=3)
