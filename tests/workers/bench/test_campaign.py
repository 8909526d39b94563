"""What is there counts, what is missing runs, what failed is kept, and nothing is lost when it is stopped."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.workers.bench.made_up import CELL, OTHER, FakeExecutor, outcome_of, record_of
from workers.bench.campaign import FIRST_GUESS, SOURCE_FAILED, Campaign, Told, eta_s
from workers.bench.folder import BenchBusyError, BenchFolder
from workers.bench.records import Order, Outcome, RunRecord
from workers.bench.runs import Run, chosen_runs
from workers.bench.stock import Stock, stock
from workers.bench.suite import Suite
from workers.contracts.adaptations import Failure
from workers.store.folder import FolderStore

Begin = Callable[..., Campaign]
BROKEN = Failure(code="error", what="it broke")


@pytest.fixture
def stocked(folder: BenchFolder, suite: Suite, data: Path) -> Stock:
    return stock(FolderStore(Path(folder.store_url), create=True), suite, chosen_runs(suite), data)


@pytest.fixture
def begin(folder: BenchFolder, suite: Suite, stocked: Stock) -> Begin:
    def make(*, threads: int = 1, **options: object) -> Campaign:
        return Campaign(suite, chosen_runs(suite), stocked, folder, threads=threads, **options)

    return make


def test_all_runs_are_carried_out_so_many_at_once(begin: Begin, suite: Suite) -> None:
    executor = FakeExecutor()

    records = begin().carry_out(executor, 3)

    assert sorted(executor.keys) == sorted(run.key for run in chosen_runs(suite))
    assert len(records) == 12
    assert executor.most_at_once == 3
    assert all(record.outcome is not None for record in records.values())


def test_an_architecture_is_handed_on_from_the_run_that_found_it(begin: Begin) -> None:
    found = {0: CELL, 1: OTHER}

    def outcome(order: Order) -> Outcome:
        return outcome_of(architecture=order.request.architecture or found[order.request.seed])

    executor = FakeExecutor(outcome)

    begin().carry_out(executor, 4)

    for order in executor.started:
        if order.run.arm == "fresh":
            assert (order.request.search, order.request.architecture) == ("given", found[order.run.seed])
            assert executor.keys.index(order.run.key.replace("fresh", "adapted")) < executor.keys.index(order.run.key)


def test_what_is_there_is_not_run_again(begin: Begin) -> None:
    begin().carry_out(FakeExecutor(), 2)

    second = begin()

    assert second.left() == []
    executor = FakeExecutor()
    assert len(second.carry_out(executor, 2)) == 12
    assert executor.started == []


@pytest.fixture
def begin_twins(folder: BenchFolder, suite: Suite, stocked: Stock) -> Begin:
    """Of a suite with an arm that asks for what `fresh` asks for; `arms` are wanted, all if none is named."""

    def make(*arms: str, **options: object) -> Campaign:
        twins = suite.model_copy(update={"arms": {**suite.arms, "twin": suite.arms["fresh"]}})
        both = Stock(datasets=stocked.datasets, priors={**stocked.priors, "twin": stocked.priors["fresh"]})
        return Campaign(twins, chosen_runs(twins, arms=arms), both, folder, threads=1, **options)

    return make


def shared(records: Mapping[Run, RunRecord]) -> dict[str, str]:
    return {run.key: record.same_as for run, record in records.items() if record.same_as is not None}


def test_what_two_arms_ask_for_alike_is_run_once(begin_twins: Begin) -> None:
    executor = FakeExecutor()
    records = begin_twins().carry_out(executor, 4)

    assert len(records) == 16
    assert len(executor.started) == 12
    assert shared(records) == {
        f"{dataset}.twin.s{seed}.b10": f"{dataset}.fresh.s{seed}.b10"
        for dataset in ("colors", "shades")
        for seed in (0, 1)
    }
    again = begin_twins()
    assert again.left() == []
    assert shared(again.records) == shared(records)


def test_what_is_asked_for_alike_in_another_call_is_not_run_again(begin_twins: Begin) -> None:
    begin_twins("twin").carry_out(FakeExecutor(), 2)

    executor = FakeExecutor()
    records = begin_twins("fresh").carry_out(executor, 2)

    assert executor.started == []
    assert {own.rpartition(".s")[0] for own in shared(records).values()} == {"colors.twin", "shades.twin"}


def test_a_run_that_failed_takes_what_its_twin_reached(begin_twins: Begin) -> None:
    def outcome(order: Order) -> Outcome | Failure:
        return BROKEN if order.run.arm == "fresh" else outcome_of()

    executor = FakeExecutor(outcome)
    records = begin_twins().carry_out(executor, 2)
    assert {run.arm for run, record in records.items() if record.outcome is None} == {"fresh"}
    assert len(executor.started) == 16  # what has failed is no answer for another

    later = FakeExecutor()
    records = begin_twins().carry_out(later, 2)

    assert later.started == []
    assert {run.split(".")[1] for run in shared(records)} == {"fresh"}
    assert all(record.outcome is not None for record in records.values())


def test_stopping_in_the_middle_costs_the_runs_that_were_under_way(begin: Begin) -> None:
    class Stopped(FakeExecutor):
        def next_ended(self) -> tuple[Run, Outcome | Failure]:
            if len(self.started) > 5:
                raise KeyboardInterrupt
            return super().next_ended()

    executor = Stopped()
    with pytest.raises(KeyboardInterrupt):
        begin().carry_out(executor, 1)

    again = FakeExecutor()
    begin().carry_out(again, 1)

    assert again.keys == [executor.keys[-1], *again.keys[1:]]
    assert len(again.keys) == 12 - 5


def test_a_run_that_is_asked_for_otherwise_now_is_run_again(begin: Begin) -> None:
    begin().carry_out(FakeExecutor(), 2)

    assert begin(threads=2).left() != []
    assert begin().left() == []


def test_what_has_failed_is_kept_and_run_again_when_it_is_asked_for(begin: Begin) -> None:
    def outcome(order: Order) -> Outcome | Failure:
        return BROKEN if order.run.key == "colors.adapted.s0.b10" else outcome_of()

    records = begin().carry_out(FakeExecutor(outcome), 2)

    failed = {run.key: record.failure for run, record in records.items() if record.failure is not None}
    assert failed["colors.adapted.s0.b10"] == BROKEN
    waiting = failed.pop("colors.fresh.s0.b10")
    assert waiting is not None
    assert (waiting.code, waiting.got) == (SOURCE_FAILED, "colors.adapted.s0.b10")
    assert len(failed) == 1

    kept = FakeExecutor()
    assert begin().carry_out(kept, 2)[Run(dataset="colors", arm="adapted", seed=0, budget_s=10)].failure == BROKEN
    assert kept.started == []
    again = FakeExecutor()
    records = begin(retry=True).carry_out(again, 2)
    assert again.keys == ["colors.adapted.s0.b10", "colors.fresh.s0.b10"]
    assert all(record.outcome is not None for record in records.values())


def test_each_end_is_told_with_what_is_left(begin: Begin) -> None:
    now_s = iter(range(0, 10_000, 10))
    told: list[Told] = []

    begin(tell=told.append, clock=lambda: next(now_s)).carry_out(FakeExecutor(), 1)

    assert [one.num_done for one in told] == list(range(1, 13))
    assert {one.num_runs for one in told} == {12}
    # Every run of 10 seconds takes 10 seconds by this clock, and one runs at a time.
    assert [one.eta_s for one in told] == [10.0 * left for left in range(11, -1, -1)]


def test_the_time_that_is_left_goes_by_what_runs_took_of_their_budgets() -> None:
    assert eta_s([10, 20], [], 1) == pytest.approx(30 * FIRST_GUESS)
    assert eta_s([10, 20], [(10, 12)], 2) == pytest.approx(30 * 1.2 / 2)


def test_the_wait_for_a_process_is_told_of_what_is_left_and_is_no_part_of_a_run(begin: Begin) -> None:
    now_s = iter(range(0, 100_000, 500))
    told: list[Told] = []

    records = begin(tell=told.append, clock=lambda: next(now_s)).carry_out(FakeExecutor(), 1)

    assert told[0].eta_s == 11 * 500
    assert {record.outcome.wall_s for record in records.values() if record.outcome is not None} == {11.0}


def test_two_at_once_in_one_folder_are_refused(folder: BenchFolder) -> None:
    with folder.claimed(), pytest.raises(BenchBusyError, match=r"runs in this folder, process \d+"):
        folder.claimed().__enter__()
    with folder.claimed():
        pass


def test_a_record_is_written_whole(folder: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(dataset="colors", arm="adapted", seed=0, budget_s=10)
    folder.write(run, record_of(run, outcome_of(accuracy=0.25)))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        folder.write(run, record_of(run, outcome_of(accuracy=0.75)))
    kept = folder.read(run)
    assert kept is not None
    assert kept.outcome == outcome_of(accuracy=0.25)
