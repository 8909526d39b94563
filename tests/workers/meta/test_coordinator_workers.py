"""Workers come, go, hang, and run out of memory: the run goes on, or says why it cannot."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from torch import Tensor

from workers.contracts.errors import OutOfMemoryError, WorkersLostError
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import MetaControl
from workers.meta.board import Patience, Slot
from workers.meta.crew import Judged, Lost, PriorLost

Make = Callable[..., Any]
Undisturbed = Callable[[MetaConfig], Mapping[str, Tensor]]
Same = Callable[[Any, Mapping[str, Tensor]], bool]
PATIENCE = Patience(slow_s=2.0, hung_s=30.0, first_s=40.0)


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


def test_workers_that_die_while_idle_are_replaced(make_run: Make, undisturbed: Undisturbed, same: Same) -> None:
    run = make_run()
    run.crew.at(6.0, lambda: (run.crew.kill("worker-3"), ())[1])
    learned = run.coordinator(max_workers=3).learn()
    assert same(learned, undisturbed(run.config))
    assert set(run.crew.workers) == {"worker-1", "worker-2", "worker-4"}


def test_without_workers_for_start_s_the_run_ends(make_run: Make) -> None:
    run = make_run()
    run.crew.places = 0
    began_s = run.clock.now_s
    with pytest.raises(WorkersLostError, match="no worker came up in 50 s"):
        run.coordinator(max_workers=2, start_s=50.0).learn()
    assert 50.0 <= run.clock.now_s - began_s < 60.0


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


def test_a_lower_cap_takes_workers_and_a_higher_one_brings_them_back(
    make_run: Make, undisturbed: Undisturbed, same: Same
) -> None:
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


def test_a_worker_that_has_to_go_leaves_the_slot_that_waits_for_it(
    make_run: Make, undisturbed: Undisturbed, same: Same
) -> None:
    run = make_run(num_slots=6)
    run.crew.slot_s = lambda worker, slot: 10.0
    run.control = lambda: MetaControl(max_workers=1 if run.crew.begun else None)
    learned = run.coordinator(max_workers=2).learn()
    assert same(learned, undisturbed(run.config))
    # Which waits behind the one that it finishes: both were handed out at once.
    (left,) = run.crew.stopped
    assert [slot for worker, slot, _ in run.crew.begun if worker == left] == [Slot(0, 2), Slot(0, 3)]
    assert run.crew.pushed.count(Slot(0, 2)) == 1
    assert [slot for _, slot, _ in run.crew.begun].count(Slot(0, 3)) == 2


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


def test_a_cap_of_zero_pauses_for_as_long_as_it_holds(make_run: Make, undisturbed: Undisturbed, same: Same) -> None:
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


def test_without_a_number_a_run_grows_into_the_room_there_is(
    make_run: Make, undisturbed: Undisturbed, same: Same
) -> None:
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


def test_slots_that_wait_while_batches_are_halved_exclude_nobody(make_run: Make) -> None:
    run = make_run(num_slots=6)
    run.crew.fate = lambda worker, slot, divisor, before: "out of memory" if divisor == 1 and slot.step else "fine"
    assert run.coordinator(max_workers=2).learn().complete
    (adjustment,) = run.told.newest.adjustments
    assert adjustment.value == 2
    assert "worker_left" not in run.told.kinds()


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


def test_two_slots_of_one_worker_that_lack_memory_at_once_exclude_it_once(make_run: Make) -> None:
    run = make_run(num_slots=6)
    run.crew.fate = lambda worker, slot, divisor, before: "out of memory" if worker == "worker-1" else "fine"
    # Both answers are read together.
    wait = run.crew.wait

    def wait_for_two(timeout_s: float) -> list[Any]:
        events = wait(timeout_s)
        short = [event for event in events if getattr(event, "worker", "") == "worker-1" and hasattr(event, "report")]
        if len(short) == 1 and short[0].report.batch_divisor == 2 and timeout_s > 0 and "worker-1" in run.crew.workers:
            events += [type(short[0])("worker-1", short[0].report, None)]
        return events

    run.crew.wait = wait_for_two
    assert run.coordinator(max_workers=2).learn().complete
    assert set(run.crew.workers) == {"worker-2"}


def test_a_prior_that_is_lost_to_a_worker_that_was_dismissed_brings_it_back_to_nothing(make_run: Make) -> None:
    run = make_run()
    coordinator = run.coordinator(max_workers=1, start_s=50.0)
    run.crew.at(2.5, lambda: [PriorLost("worker-9", None, "its node is gone")])
    run.crew.at(3.0, lambda: (run.crew.kill("worker-1"), setattr(run.crew, "places", 0), ())[2])
    with pytest.raises(WorkersLostError, match="no worker came up"):
        coordinator.learn()


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
