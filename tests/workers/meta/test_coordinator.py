"""Whoever computes, whatever is lost: the prior is the one that one process learns, bit for bit."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from torch import Tensor

from workers.contracts.errors import (
    CancelledError,
    DivergedError,
    InvalidDatasetError,
    StoreError,
    WorkersLostError,
)
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import MetaControl
from workers.meta.board import Patience, Slot

Make = Callable[..., Any]
Undisturbed = Callable[[MetaConfig], Mapping[str, Tensor]]
Same = Callable[[Any, Mapping[str, Tensor]], bool]


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_any_number_of_workers_learns_what_one_process_learns(
    make_run: Make, undisturbed: Undisturbed, same: Same, num_workers: int
) -> None:
    run = make_run()
    learned = run.coordinator(max_workers=num_workers).learn()
    assert (learned.version, learned.complete) == (run.config.num_steps, True)
    assert same(learned, undisturbed(run.config))
    assert len({worker for worker, _, _ in run.crew.begun}) == min(num_workers, run.config.num_slots)
    assert set(Counter(slot for _, slot, _ in run.crew.begun).values()) == {1}
    assert run.told.newest.counters.model_dump(exclude_defaults=True) == {"slots": len(run.crew.pushed)}
    assert run.told.newest.checkpoint_step == run.config.num_steps


@pytest.mark.parametrize(
    "changes",
    [
        {"path_sampling": "fair", "mode_share": 0.5, "choice_share": 0.3, "label_smoothing": 0.1, "arch_entropy": 0.1},
        {"architectures": ["|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"]},
    ],
    ids=["every option on", "one architecture"],
)
def test_two_workers_learn_what_one_process_learns_with_every_option(
    make_run: Make, undisturbed: Undisturbed, same: Same, changes: dict[str, object]
) -> None:
    run = make_run(**changes)
    learned = run.coordinator(max_workers=2).learn()
    assert same(learned, undisturbed(run.config))


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


# With five slots, workers have the next one waiting when they lose the one that they compute.
@pytest.mark.parametrize("num_slots", [2, 5])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_time_and_nothing_else(
    make_run: Make, undisturbed: Undisturbed, same: Same, fault: str, num_slots: int
) -> None:
    run = make_run(num_slots=num_slots)
    happens, counted = FAULTS[fault]
    happens(run.crew)
    learned = run.coordinator(max_workers=2, patience=PATIENCE).learn()
    assert learned.complete
    assert same(learned, undisturbed(run.config))
    counters = run.told.newest.counters.model_dump()
    for name, least in counted.items():
        assert counters[name] >= least, name
    assert [entry.step for entry in run.crew.log()] == list(range(run.config.num_steps))


def test_the_next_attempt_goes_on_from_the_last_checkpoint(
    make_run: Make, undisturbed: Undisturbed, same: Same
) -> None:
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


def test_a_stop_saves_and_returns_what_there_is(make_run: Make, undisturbed: Undisturbed, same: Same) -> None:
    run = make_run(checkpoint_every=100)
    run.control = lambda: MetaControl(desired="stop" if len(run.crew.pushed) >= 5 else "run")
    learned = run.coordinator(max_workers=1).learn()
    assert not learned.complete
    assert learned.version == 2
    assert run.told.newest.checkpoint_step == 2
    resumed = make_run(checkpoint_every=100)
    assert same(resumed.coordinator(max_workers=2).learn(), undisturbed(resumed.config))


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
    make_run: Make, undisturbed: Undisturbed, same: Same, small_judgements: None
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
