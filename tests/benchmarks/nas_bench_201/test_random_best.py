"""Random cells, trained for a moment."""

import pytest

from benchmarks.nas_bench_201 import random_best
from benchmarks.nas_bench_201.cells import cap_of, cell_of, costs, shuffled_within
from benchmarks.nas_bench_201.images import load_task, write_task
from benchmarks.nas_bench_201.job import Job
from workers.training.budget import Budget


@pytest.fixture
def job(packed, tmp_path) -> Job:
    return Job(
        arm="random_best_of_n",
        max_macs=cap_of(10).max_macs,
        seed=0,
        seconds=80,
        threads=1,
        images=write_task(packed, tmp_path / "images"),
    )


def test_training_learns_to_tell_colors(job) -> None:
    data = load_task(job.images, 0)

    assert random_best.trained_accuracy(cell_of("000200"), data, 12, 0) > 0.8


def test_about_eight_cells_take_the_same_number_of_steps(job, monkeypatch) -> None:
    now_s = 0.0
    trained = []

    def ten_seconds(cell, data, num_steps, seed) -> float:
        nonlocal now_s
        now_s += 10.0
        trained.append((cell, num_steps, data.resolution))
        return float(len(trained) == 3)

    monkeypatch.setattr(random_best, "trained_accuracy", ten_seconds)
    monkeypatch.setattr(random_best, "_seconds_of_a_step", lambda *_: 0.5)

    found = random_best.choose(job, load_task(job.images, 0), Budget(80.0, lambda: now_s))

    assert [cell for cell, _, _ in trained] == shuffled_within(job.max_macs, 0)[:8]
    assert {(steps, side) for _, steps, side in trained} == {(17, 16)}  # 0.85 * 80 / 8 / 0.5
    assert cell_of(found.cells[0]) == trained[2][0]
    assert found.num_judged == 8


def test_slow_cells_are_fewer(job, monkeypatch) -> None:
    now_s = 0.0

    def forty_seconds(*_) -> float:
        nonlocal now_s
        now_s += 40.0
        return 0.0

    monkeypatch.setattr(random_best, "trained_accuracy", forty_seconds)
    monkeypatch.setattr(random_best, "_seconds_of_a_step", lambda *_: 0.5)

    assert random_best.choose(job, load_task(job.images, 0), Budget(80.0, lambda: now_s)).num_judged == 2


def test_a_cell_within_the_cap_is_chosen_in_a_moment(job) -> None:
    found = random_best.choose(job, load_task(job.images, 0), Budget(0.5))

    assert found.num_judged >= 1
    assert costs()[cell_of(found.cells[0])].macs <= job.max_macs
