"""A worker's gradient depends on the prior and on the slot, and on nothing that happened before."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from workers.contracts.errors import InvalidDatasetError
from workers.contracts.loss_model import TrialConfig
from workers.contracts.meta_config import MetaConfig
from workers.meta.board import Slot, Tryout
from workers.meta.flat import Flat, pack, unpack
from workers.meta.gradient_worker import GradientWorker
from workers.meta.learning.data import MetaData
from workers.meta.learning.slot import SlotWork, draw, gradient
from workers.meta.learning.state import MetaState
from workers.meta.trials.campaign import TRIALS, read_trials, run_trials
from workers.meta.trials.plan import taught
from workers.meta.trials.trial import Workshop
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
    without = greedy.model_copy(update={"joint_steps": greedy.num_steps})
    make_worker(without).prepare()
    with pytest.raises(InvalidDatasetError, match="too few classes for min_ways"):
        make_worker(without.model_copy(update={"trials": TrialConfig()})).prepare()
    make_worker(greedy, learn=False).prepare()


def test_a_trial_is_that_of_one_process_whoever_makes_it_and_in_whatever_order(
    make_worker: Callable[..., GradientWorker], config: MetaConfig, classes: ClassImages, prior: Flat, tmp_path: Path
) -> None:
    trials = TrialConfig(num_tasks=2, num_archs=3, num_steps=2, batch_size=8, num_support=24, num_query=12)
    config = config.model_copy(update={"trials": trials})
    data = MetaData(meta_train=classes, meta_validation=None, learned_from=())
    state = MetaState(config, classes.class_names)
    run_trials(Workshop.build(config, trials, data, state.prior), tmp_path)
    expected = read_trials(tmp_path / TRIALS)
    known = taught(config, trials, expected)
    workers = [make_worker(config), make_worker(config, held_out=False)]
    for worker in workers:
        worker.prepare()
    places = sorted(expected, reverse=True)
    found = {
        place: workers[number % 2].try_out(prior, Tryout(*place), known if place[0] else None)
        for number, place in enumerate(places)
    }
    assert found == expected


def test_a_trial_that_memory_is_too_short_for_is_told_and_the_worker_goes_on(
    make_worker: Callable[..., GradientWorker], config: MetaConfig, prior: Flat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_: object) -> None:
        raise MemoryError

    worker = make_worker(config.model_copy(update={"trials": TrialConfig(num_steps=1, num_support=24, num_query=12)}))
    worker.prepare()
    with monkeypatch.context() as patched:
        patched.setattr("workers.meta.gradient_worker.run_trial", greedy)
        assert worker.try_out(prior, Tryout(0, 0), None) is None
    assert worker.try_out(prior, Tryout(0, 0), None) is not None


def test_a_run_without_trials_makes_none(
    make_worker: Callable[..., GradientWorker], config: MetaConfig, prior: Flat
) -> None:
    worker = make_worker(config)
    worker.prepare()
    with pytest.raises(InvalidDatasetError, match="no trials in the configuration"):
        worker.try_out(prior, Tryout(0, 0), None)
