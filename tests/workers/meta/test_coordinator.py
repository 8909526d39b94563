"""Whoever computes, whatever is lost: the prior is the one that one process learns, bit for bit."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from workers.contracts.errors import (
    CancelledError,
    DivergedError,
    InvalidDatasetError,
    OutOfMemoryError,
    StoreError,
    WorkersLostError,
)
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import MetaControl
from workers.meta.board import Patience, Slot
from workers.meta.crew import Judged, Lost
from workers.meta.flat import unpack

Make = Callable[..., Any]
Undisturbed = Callable[[MetaConfig], Mapping[str, Tensor]]


def same(learned: Any, expected: Mapping[str, Tensor]) -> bool:
    arrays = unpack(learned.prior)
    return arrays.keys() == expected.keys() and all(torch.equal(arrays[name], expected[name]) for name in arrays)


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_any_number_of_workers_learns_what_one_process_learns(
    make_run: Make, undisturbed: Undisturbed, num_workers: int
) -> None:
    run = make_run()
    learned = run.coordinator(max_workers=num_workers).learn()
    assert (learned.version, learned.complete) == (run.config.num_steps, True)
    assert same(learned, undisturbed(run.config))
    assert len({worker for worker, _, _ in run.crew.begun}) == min(num_workers, run.config.num_slots)
    assert set(Counter(slot for _, slot, _ in run.crew.begun).values()) == {1}
    assert run.told.newest.counters.model_dump(exclude_defaults=True) == {"slots": len(run.crew.pushed)}
    assert run.told.newest.checkpoint_step == run.config.num_steps


PATIENCE = Patience(slow_s=2.0, hung_s=30.0, first_s=40.0)
# What goes wrong, and which counters tell of it.
FAULTS: dict[str, tuple[Callable[[Any], None], dict[str, int]]] = {
    "a worker dies": (
        lambda crew: setattr(crew, "fate", lambda w, slot, d, n: "dies" if (slot, n) == (Slot(2, 1), 0) else "fine"),
        {"lost_workers": 1},
    ),
    "a worker hangs": (
        lambda crew: setattr(crew, "fate", lambda w, slot, d, n: "hangs" if (slot, n) == (Slot(1, 0), 0) else "fine"),
        {"backups": 1},
    ),
    "a worker answers twice": (
        lambda crew: setattr(crew, "fate", lambda w, slot, d, n: "twice" if slot.number == 0 else "fine"),
        {"duplicate": 6},
    ),
    "every answer to a push is lost once": (
        lambda crew: setattr(crew, "push_fate", lambda slot, before: "answer lost"),
        {},
    ),
    "the version is lost with its node": (
        lambda crew: setattr(crew, "fate", lambda w, slot, d, n: "prior lost" if slot.step == 3 and n == 0 else "fine"),
        {"recomputed_steps": 1},
    ),
    "a worker is slow": (
        lambda crew: setattr(crew, "slot_s", lambda worker, slot: 20.0 if worker == "worker-1" else 1.0),
        {},
    ),
    "a gradient is lost": (
        lambda crew: setattr(crew, "push_fate", lambda slot, before: "lost" if before == 3 else "fine"),
        {},
    ),
    "a gradient arrives twice": (
        lambda crew: setattr(crew, "push_fate", lambda slot, before: "twice"),
        {},
    ),
    "the parameter actor dies": (
        lambda crew: setattr(crew, "push_fate", lambda slot, before: "server dies" if before == 7 else "fine"),
        {"recomputed_steps": 1},
    ),
    "the parameter actor dies after a step": (
        lambda crew: setattr(crew, "push_fate", lambda slot, before: "server dies after" if before == 6 else "fine"),
        {"recomputed_steps": 1},
    ),
    "the parameter actor dies in a checkpoint": (
        lambda crew: setattr(crew, "save_fate", lambda before: "server dies" if before == 1 else "fine"),
        {},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_time_and_nothing_else(make_run: Make, undisturbed: Undisturbed, fault: str) -> None:
    run = make_run()
    happens, counted = FAULTS[fault]
    happens(run.crew)
    learned = run.coordinator(max_workers=2, patience=PATIENCE).learn()
    assert learned.complete
    assert same(learned, undisturbed(run.config))
    counters = run.told.newest.counters.model_dump()
    for name, least in counted.items():
        assert counters[name] >= least, name
    assert [entry.step for entry in run.crew.log()] == list(range(run.config.num_steps))


def test_a_hung_worker_is_backed_up_then_given_up_and_replaced(make_run: Make) -> None:
    run = make_run()
    run.crew.fate = lambda worker, slot, divisor, before: "hangs" if worker == "worker-1" else "fine"
    # The others are in no hurry, so that the worker hangs before the run is over.
    run.crew.slot_s = lambda worker, slot: 6.0
    learned = run.coordinator(max_workers=2, patience=PATIENCE).learn()
    assert learned.complete
    (event,) = [event for event in run.told.all_events if event.kind == "worker_lost"]
    assert event.message == "worker-1: hung on slot 0 of step 0"
    assert run.crew.stopped == ["worker-1"]
    assert "worker-3" in run.crew.workers


def test_workers_that_die_while_idle_are_replaced(make_run: Make, undisturbed: Undisturbed) -> None:
    run = make_run()
    run.crew.at(6.0, lambda: (run.crew.kill("worker-3"), ())[1])
    learned = run.coordinator(max_workers=3).learn()
    assert same(learned, undisturbed(run.config))
    assert set(run.crew.workers) == {"worker-1", "worker-2", "worker-4"}


def test_the_next_attempt_goes_on_from_the_last_checkpoint(make_run: Make, undisturbed: Undisturbed) -> None:
    first = make_run()
    # Step 5 begins after the checkpoint of step 4, and with it the job's end.
    first.crew.fate = lambda worker, slot, divisor, before: "dies" if slot.step == 5 else "fine"
    with pytest.raises(WorkersLostError):
        first.coordinator(max_workers=1, patience=Patience(max_losses=1)).learn()
    second = make_run()
    learned = second.coordinator(max_workers=2).learn()
    assert same(learned, undisturbed(second.config))
    assert min(slot for _, slot, _ in second.crew.begun) == Slot(4, 0)
    assert "resumed" in second.told.kinds()


def test_a_poisoned_slot_ends_the_run_by_its_name(make_run: Make) -> None:
    run = make_run()
    run.crew.fate = lambda worker, slot, divisor, before: "dies" if slot == Slot(1, 1) else "fine"
    with pytest.raises(WorkersLostError, match="slot 1 of step 1 has cost 5 workers"):
        run.coordinator(max_workers=2).learn()


def test_a_parameter_actor_that_never_gets_to_a_checkpoint_ends_the_run(make_run: Make) -> None:
    run = make_run()
    run.crew.save_fate = lambda before: "server dies"
    with pytest.raises(WorkersLostError, match="parameter actor was lost 5 times without a checkpoint"):
        run.coordinator(max_workers=2).learn()


def test_without_workers_for_start_s_the_run_ends(make_run: Make) -> None:
    run = make_run()
    run.crew.places = 0
    began_s = run.clock.now_s
    with pytest.raises(WorkersLostError, match="no worker came up in 50 s"):
        run.coordinator(max_workers=2, start_s=50.0).learn()
    assert 50.0 <= run.clock.now_s - began_s < 60.0


def test_data_that_cannot_be_read_end_the_run_with_their_own_error(make_run: Make) -> None:
    run = make_run(min_ways=7, max_ways=8)
    with pytest.raises(InvalidDatasetError, match="too few classes"):
        run.coordinator(max_workers=2).learn()


def test_a_store_that_stays_away_ends_the_run_with_its_own_error(make_run: Make) -> None:
    run = make_run()
    run.crew.save_fate = lambda before: "fine" if before == 0 else "fails"
    with pytest.raises(StoreError, match="away"):
        run.coordinator(max_workers=2).learn()
    assert run.told.newest.checkpoint_step == 2


def test_gradients_that_are_not_finite_are_counted_and_a_step_of_none_ends_the_run(make_run: Make) -> None:
    run = make_run()
    run.crew.fate = lambda worker, slot, divisor, before: "not finite" if slot.number == 0 else "fine"
    assert run.coordinator(max_workers=2).learn().complete
    assert run.told.newest.counters.not_finite == run.config.num_steps
    worse = make_run(folder="worse")
    worse.crew.fate = lambda worker, slot, divisor, before: "not finite"
    with pytest.raises(DivergedError, match="step 0"):
        worse.coordinator(max_workers=2).learn()


def test_a_stop_saves_and_returns_what_there_is(make_run: Make, undisturbed: Undisturbed) -> None:
    run = make_run(checkpoint_every=100)
    run.control = lambda: MetaControl(desired="stop" if len(run.crew.pushed) >= 5 else "run")
    learned = run.coordinator(max_workers=1).learn()
    assert not learned.complete
    assert learned.version == 2
    assert run.told.newest.checkpoint_step == 2
    resumed = make_run(checkpoint_every=100)
    assert same(resumed.coordinator(max_workers=2).learn(), undisturbed(resumed.config))


def test_a_stop_needs_no_worker_where_there_is_a_checkpoint(make_run: Make) -> None:
    run = make_run()
    run.coordinator(max_workers=2, budget_s=4.0).learn()
    again = make_run()
    again.crew.places = 0
    again.control = lambda: MetaControl(desired="stop", max_workers=0)
    names = run.data.meta_train.class_names
    learned = again.coordinator(max_workers=2, class_names=names).learn()
    assert learned.version == run.told.newest.checkpoint_step > 0
    assert not again.crew.begun


def test_a_stop_before_the_first_step_returns_nothing_learned(make_run: Make) -> None:
    run = make_run()
    run.control = lambda: MetaControl(desired="stop")
    learned = run.coordinator(max_workers=1).learn()
    assert (learned.version, learned.complete, run.crew.begun) == (0, False, [])


def test_a_cancel_raises_and_saves_nothing(make_run: Make) -> None:
    run = make_run(checkpoint_every=100)
    run.control = lambda: MetaControl(desired="cancel" if len(run.crew.pushed) >= 3 else "run")
    with pytest.raises(CancelledError):
        run.coordinator(max_workers=1).learn()
    assert run.crew.num_saves == 0


def test_a_spent_budget_ends_learning_with_a_checkpoint(make_run: Make) -> None:
    run = make_run(checkpoint_every=100)
    learned = run.coordinator(max_workers=1, budget_s=5.0).learn()
    assert (learned.version, learned.complete) == (2, False)
    assert run.told.newest.checkpoint_step == 2


def test_a_lower_cap_takes_workers_and_a_higher_one_brings_them_back(make_run: Make, undisturbed: Undisturbed) -> None:
    run = make_run(num_slots=3)
    seen = []

    def control() -> MetaControl:
        num_pushed = len(run.crew.pushed)
        cap = 1 if 4 <= num_pushed < 8 else None
        seen.append((cap, len(run.crew.workers)))
        return MetaControl(max_workers=cap)

    run.control = control
    learned = run.coordinator(max_workers=3).learn()
    assert same(learned, undisturbed(run.config))
    capped = [number for cap, number in seen if cap == 1]
    assert capped[-1] == 1
    assert seen[-1] == (None, 3)
    assert run.told.newest.counters.lost_workers == 0


def test_a_busy_worker_that_has_to_go_finishes_its_slot_within_the_drain_and_no_longer(make_run: Make) -> None:
    for seconds, computed in ((4.0, 1), (40.0, 2)):
        run = make_run(folder=f"store-{seconds}", num_slots=1, num_steps=1, warmup_steps=1, joint_steps=1)
        run.crew.slot_s = lambda worker, slot, seconds=seconds: seconds if worker == "worker-1" else 1.0
        resumes_s = run.clock.now_s + 25.0
        run.control = lambda run=run, resumes_s=resumes_s: MetaControl(
            max_workers=0 if run.crew.begun and run.clock.now_s < resumes_s else None
        )
        assert run.coordinator(max_workers=1, drain_s=10.0).learn().complete
        assert len(run.crew.begun) == computed
        assert run.told.newest.counters.lost_workers == 0


def test_a_cap_of_zero_pauses_for_as_long_as_it_holds(make_run: Make, undisturbed: Undisturbed) -> None:
    run = make_run()
    resumes_s = run.clock.now_s + 500.0
    run.control = lambda: MetaControl(
        max_workers=0 if len(run.crew.pushed) >= 4 and run.clock.now_s < resumes_s else None
    )
    messages = set()
    run.told.progress = lambda progress: messages.add(progress.message)
    learned = run.coordinator(max_workers=2, start_s=50.0).learn()
    assert same(learned, undisturbed(run.config))
    assert run.clock.now_s > resumes_s
    assert any(message.startswith("paused") for message in messages)


def test_without_a_number_a_run_grows_into_the_room_there_is(make_run: Make, undisturbed: Undisturbed) -> None:
    run = make_run(num_slots=3)
    run.crew.places = 1
    run.crew.at(8.0, lambda: (setattr(run.crew, "places", 3), ())[1])
    learned = run.coordinator(max_workers=None).learn()
    assert same(learned, undisturbed(run.config))
    assert len(run.crew.workers) == 3


def test_the_first_lack_of_memory_halves_the_batches_once_and_is_recorded(make_run: Make) -> None:
    run = make_run()
    # Both workers run out of memory at once: the second has not tried half a batch yet, so nobody is excluded.
    run.crew.fate = lambda worker, slot, divisor, before: "out of memory" if divisor == 1 and slot.step else "fine"
    assert run.coordinator(max_workers=2).learn().complete
    (adjustment,) = run.told.newest.adjustments
    assert (adjustment.step, adjustment.what, adjustment.value) == (1, "batch_divisor", 2)
    assert {divisor for _, slot, divisor in run.crew.begun if slot.step > 1} == {2}
    assert len(run.crew.workers) == 2
    resumed = make_run()
    resumed.coordinator(max_workers=1).learn()
    assert [adjustment.value for adjustment in resumed.told.newest.adjustments] == [2]


def test_an_adjustment_survives_the_parameter_actor(make_run: Make) -> None:
    run = make_run(checkpoint_every=100)
    run.crew.fate = lambda worker, slot, divisor, before: "out of memory" if divisor == 1 and slot.step else "fine"
    run.crew.push_fate = lambda slot, before: "server dies" if before == 7 else "fine"
    assert run.coordinator(max_workers=2).learn().complete
    resumed = make_run(checkpoint_every=100)
    resumed.coordinator(max_workers=1).learn()
    assert [adjustment.value for adjustment in resumed.told.newest.adjustments] == [2]


def test_a_worker_that_lacks_memory_for_half_batches_is_excluded_by_name_and_its_place_stays_empty(
    make_run: Make,
) -> None:
    run = make_run()
    run.crew.fate = lambda worker, slot, divisor, before: "out of memory" if worker == "worker-1" else "fine"
    assert run.coordinator(max_workers=2).learn().complete
    (left,) = [event.message for event in run.told.all_events if event.kind == "worker_left"]
    assert left.startswith("worker-1: excluded: ")
    assert set(run.crew.workers) == {"worker-2"}


def test_a_worker_whose_process_was_ended_for_memory_is_replaced_and_tries_half_batches(make_run: Make) -> None:
    run = make_run()
    run.crew.fate = lambda worker, slot, divisor, before: "killed for memory" if divisor == 1 else "fine"
    learned = run.coordinator(max_workers=1).learn()
    assert learned.complete
    assert [change.value for change in run.watch.adjustments] == [2]
    assert run.told.newest.counters.lost_workers == 1


def test_workers_that_never_come_up_end_the_run_with_the_reason(make_run: Make) -> None:
    run = make_run()
    run.crew.start_worker = lambda worker: run.crew.at(1.0, lambda: [Lost(worker, "no driver")], worker)
    with pytest.raises(WorkersLostError, match="did not come up") as raised:
        run.coordinator(max_workers=1).learn()
    assert raised.value.got == "no driver"
    assert run.clock.now_s > 130  # 2 + 4 + 8 + 16 s between the five


def test_a_held_out_task_that_memory_is_too_short_for_costs_its_point_of_the_curve_and_not_the_run(
    make_run: Make, small_judgements: None
) -> None:
    run = make_run(held_out=True)
    run.crew.judge = lambda worker, judgement, *, prior: run.crew.at(
        1.0, lambda: [Judged(worker, judgement, None)], worker
    )
    assert run.coordinator(max_workers=2).learn().complete
    assert "judged" not in run.told.kinds()
    assert any("too little memory to judge step 3" in event.message for event in run.told.all_events)


def test_seconds_without_room_for_any_worker_are_not_spent(make_run: Make) -> None:
    run = make_run()
    run.control = lambda: MetaControl(max_workers=0 if 110.0 < run.clock.now_s < 400.0 else None)
    learned = run.coordinator(max_workers=2, budget_s=60.0).learn()
    assert learned.complete
    assert run.watch.learning_s < 60.0


def test_where_every_worker_lacks_memory_the_run_ends(make_run: Make) -> None:
    run = make_run()
    run.crew.fate = lambda worker, slot, divisor, before: "out of memory"
    with pytest.raises(OutOfMemoryError, match=r"even for half batches.*the last was worker-"):
        run.coordinator(max_workers=2).learn()


ASYNCHRONOUS = {"mode": "asynchronous", "max_staleness": 1}


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_asynchronous_learning_ends_after_its_steps_with_no_gradient_older_than_the_bound(
    make_run: Make, num_workers: int
) -> None:
    run = make_run(**ASYNCHRONOUS)
    # Some are four times as fast: the others' gradients grow old, also where one part of the run meets the next.
    run.crew.slot_s = lambda worker, slot: 1.0 if worker in {"worker-1", "worker-2"} else 4.3
    learned = run.coordinator(max_workers=num_workers).learn()
    assert (learned.version, learned.complete) == (run.config.num_steps, True)
    log = run.crew.log()
    assert len(log) == run.config.num_steps
    assert all(0 <= entry.staleness <= 1 for entry in log)
    counters = run.told.newest.counters
    assert counters.slots == run.config.num_steps * run.config.num_slots
    assert (counters.stale > 0) == (num_workers == 5)


def test_asynchronous_learning_outlives_every_fault(make_run: Make) -> None:
    run = make_run(**ASYNCHRONOUS, num_slots=1)
    fates = {2: "dies", 3: "twice", 4: "not finite", 5: "hangs"}
    run.crew.fate = lambda worker, slot, divisor, before: "fine" if before else fates.get(slot.step, "fine")
    run.crew.push_fate = lambda slot, before: {1: "lost", 2: "twice", 4: "server dies", 6: "server dies after"}.get(
        before, "fine"
    )
    # A step of one slot that is not finite would end the run.
    fates.pop(4)
    assert run.coordinator(max_workers=3, patience=PATIENCE).learn().complete
    assert len(run.crew.log()) == run.config.num_steps


def test_gradients_do_not_pile_up_before_a_slow_parameter_actor(make_run: Make) -> None:
    run = make_run(**{**ASYNCHRONOUS, "max_staleness": 20}, num_slots=1, num_steps=12, warmup_steps=12, joint_steps=12)
    run.crew.push_s = 10.0
    num_workers = 3
    assert run.coordinator(max_workers=num_workers).learn().complete
    # Those that were being computed when the bound was reached still come.
    assert run.crew.most_in_flight <= 2 * run.config.num_slots + num_workers - 1
    assert run.crew.most_in_flight >= 2 * run.config.num_slots


def test_curves_are_judged_on_the_way_and_noted_with_their_step(
    make_run: Make, undisturbed: Undisturbed, small_judgements: None
) -> None:
    run = make_run(held_out=True)
    coordinator = run.coordinator(max_workers=2, curve_tasks=2)
    learned = coordinator.learn()
    assert same(learned, undisturbed(run.config))
    scores = coordinator.judge({"new": learned.prior, "same": learned.prior}, 2)
    assert scores["new"] == scores["same"]
    assert set(scores["new"]) == {0, 1}
    judged = {entry.step + 1: entry.held_out for entry in run.crew.log() if entry.held_out}
    assert set(judged) == {3, 6}
    assert judged[6] == {steps: (scores["new"][0][steps] + scores["new"][1][steps]) / 2 for steps in (0, 1)}


def test_curves_have_no_holes_where_steps_are_taken_again(make_run: Make, small_judgements: None) -> None:
    run = make_run(held_out=True, checkpoint_every=100, evaluate_every=2)
    run.crew.push_fate = lambda slot, before: "server dies" if before == 10 else "fine"
    coordinator = run.coordinator(max_workers=2)
    learned = coordinator.learn()
    coordinator.judge({"new": learned.prior}, 1)
    assert [entry.step + 1 for entry in run.crew.log() if entry.held_out] == [2, 4, 6]


def test_a_comparison_needs_no_parameter_actor(make_run: Make, small_judgements: None) -> None:
    learned = make_run(folder="learned").coordinator(max_workers=1).learn()
    run = make_run(held_out=True)
    run.crew.fate = lambda *_: "dies"
    run.crew.at(2.5, lambda: (run.crew.kill("worker-1"), ())[1])
    scores = run.coordinator(max_workers=2).judge({"a": learned.prior}, 3)
    assert sorted(scores["a"]) == [0, 1, 2]
    assert (run.crew.num_servers, run.crew.begun) == (0, [])
    assert run.told.newest.counters.lost_workers == 1
