"""A worker's gradient depends on the prior and on the slot, and on nothing that happened before."""

from collections.abc import Callable

import pytest
import torch

from workers.contracts.errors import InvalidDatasetError
from workers.contracts.meta_config import MetaConfig
from workers.meta.board import Slot
from workers.meta.flat import Flat, pack, unpack
from workers.meta.gradient_worker import GradientWorker
from workers.meta.learning.data import MetaData
from workers.meta.learning.slot import SlotWork, draw, gradient
from workers.meta.learning.state import MetaState
from workers.tasks.distribution import ClassImages, TaskDistribution


@pytest.fixture
def make_worker(classes: ClassImages) -> Callable[..., GradientWorker]:
    def make(config: MetaConfig, *, learn: bool = True, held_out: bool = True) -> GradientWorker:
        data = MetaData(
            meta_train=classes if learn else None, meta_validation=classes if held_out else None, learned_from=()
        )
        return GradientWorker(config, lambda: data, num_threads=1, use_gpu=False)

    return make


@pytest.fixture
def prior(config: MetaConfig, classes: ClassImages) -> Flat:
    return pack(MetaState(config, classes.class_names).prior_with_heads.to_arrays())


def test_every_part_gives_the_gradient_of_the_slot_whatever_was_drawn_ahead(
    make_worker: Callable[..., GradientWorker], config: MetaConfig, classes: ClassImages, prior: Flat
) -> None:
    worker = make_worker(config)
    info = worker.prepare()
    assert info.class_names == classes.class_names
    assert info.can_judge
    work = SlotWork.build(config, TaskDistribution(classes, {8: 1.0}))
    state = MetaState(config, classes.class_names)
    for step in (0, config.warmup_steps, config.joint_steps):
        slot, after = Slot(step, 0), Slot(step, 1)
        expected = gradient(work, state.prior_with_heads, draw(work, step=step, slot=0))
        for hint in (None, after, Slot(99, 0), slot):
            report, found = worker.compute(prior, step, slot, hint, 1)
            assert found is not None
            arrays = unpack(found)
            assert arrays.keys() == expected.arrays.keys()
            assert all(torch.equal(arrays[name], expected.arrays[name]) for name in arrays)
            assert (report.slot, report.version, report.loss) == (slot, step, expected.loss)
            assert report.num_examples == expected.num_examples
            assert 0 <= report.waited_s <= report.seconds


def test_a_prior_of_the_same_version_but_of_another_lineage_is_not_mistaken(
    make_worker: Callable[..., GradientWorker], config: MetaConfig, classes: ClassImages, prior: Flat
) -> None:
    worker = make_worker(config)
    worker.prepare()
    first, _ = worker.compute(prior, 0, Slot(0, 0), None, 1)
    other = MetaState(config.model_copy(update={"seed": 7}), classes.class_names).prior_with_heads
    second, _ = worker.compute(pack(other.to_arrays()), 0, Slot(0, 0), None, 1)
    assert first.loss != second.loss


def test_a_divisor_makes_batches_smaller(
    make_worker: Callable[..., GradientWorker], config: MetaConfig, prior: Flat
) -> None:
    worker = make_worker(config)
    worker.prepare()
    assert worker.compute(prior, 0, Slot(0, 0), None, 1)[0].num_examples == config.joint_batch
    assert worker.compute(prior, 0, Slot(0, 0), None, 2)[0].num_examples == config.joint_batch // 2


def test_a_gradient_that_is_not_finite_is_told_and_not_handed_over(
    make_worker: Callable[..., GradientWorker], config: MetaConfig, prior: Flat
) -> None:
    worker = make_worker(config)
    worker.prepare()
    broken = {name: value * float("inf") if name.startswith("loc/") else value for name, value in unpack(prior).items()}
    report, found = worker.compute(pack(broken), 0, Slot(0, 0), None, 1)
    assert (report.finite, report.out_of_memory, report.loss, found) == (False, False, None, None)


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_that_runs_out_is_told_and_the_worker_goes_on(
    make_worker: Callable[..., GradientWorker],
    config: MetaConfig,
    prior: Flat,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = make_worker(config)
    worker.prepare()

    def greedy(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("workers.meta.gradient_worker.gradient", greedy)
        report, found = worker.compute(prior, 0, Slot(0, 0), None, 1)
    assert (report.out_of_memory, found) == (True, None)
    assert worker.compute(prior, 0, Slot(0, 0), None, 1)[0].finite


def test_other_failures_are_not_taken_for_a_lack_of_memory(
    make_worker: Callable[..., GradientWorker], config: MetaConfig, prior: Flat, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker(config)
    worker.prepare()

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("workers.meta.gradient_worker.gradient", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        worker.compute(prior, 0, Slot(0, 0), None, 1)


def test_two_workers_judge_a_prior_alike_and_task_by_task(
    make_worker: Callable[..., GradientWorker], config: MetaConfig, prior: Flat, small_judgements: None
) -> None:
    workers = [make_worker(config), make_worker(config, learn=False)]
    for worker in workers:
        worker.prepare()
    first, second = ([worker.judge(prior, number) for number in (0, 1)] for worker in workers)
    assert first == second
    assert first[0].keys() == {0, 1}


def test_nothing_to_learn_from_or_to_judge_by_is_refused(
    make_worker: Callable[..., GradientWorker], config: MetaConfig, prior: Flat
) -> None:
    with pytest.raises(InvalidDatasetError, match="no class to learn from"):
        make_worker(config, learn=False, held_out=False).prepare()
    worker = make_worker(config, held_out=False)
    assert not worker.prepare().can_judge
    with pytest.raises(InvalidDatasetError, match="nothing is held out"):
        worker.judge(prior, 0)


def test_too_few_classes_for_the_ways_are_refused_before_the_first_step(
    make_worker: Callable[..., GradientWorker], config: MetaConfig
) -> None:
    greedy = config.model_copy(update={"min_ways": 7, "max_ways": 9})
    with pytest.raises(InvalidDatasetError, match="too few classes for min_ways"):
        make_worker(greedy).prepare()
    make_worker(greedy.model_copy(update={"joint_steps": greedy.num_steps})).prepare()
    make_worker(greedy, learn=False).prepare()
