"""What is told of an attempt: how far it is and what happened, in numbers and in lines of a log."""

import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from workers.contracts.meta_runs import Adjustment, MetaEvent, MetaProgress, WorkerView
from workers.meta.board import Slot
from workers.meta.parameters import Pushed, SlotReport, Standing, StepReport
from workers.meta.trying import TriedTask
from workers.meta.watch import MAX_EVENTS, LogLines, Watch


@pytest.fixture
def run(make_run: Callable[..., Any]) -> Any:
    """A clock, what was told, and a watch of 100 steps."""
    made = make_run()
    made.watch = Watch([made.told], num_steps=100, clock=made.clock, wall=made.clock)
    return made


def standing(version: int = 0, checkpoint_step: int | None = None) -> Standing:
    return Standing(version=version, checkpoint_step=checkpoint_step, unjudged=False, adjustments=())


def step(version: int, loss: float = 2.0, staleness: float = 0.0) -> StepReport:
    norms = {"loc": 3.0, "arch_logits": 0.5}
    return StepReport(version=version, loss=loss, norms=norms, entropies=(1.0, 0.5), staleness=staleness, num_slots=2)


def test_it_tells_at_most_once_a_second_and_at_each_event(run: Any) -> None:
    told: list[float] = []
    run.told.progress = lambda progress: told.append(run.clock())
    for _ in range(30):
        run.watch.tick(())
        run.clock.now_s += 0.25
    assert all(later - sooner >= 1.0 for sooner, later in pairwise(told))
    assert len(told) == 8
    run.watch.event("warning", "w")
    assert len(told) == 9


def test_progress_says_how_far_how_fast_and_how_long_still(run: Any) -> None:
    run.watch.enter("loading", "reading")
    assert (run.told.newest.phase, run.told.newest.message) == ("loading", "reading")
    run.clock.now_s += 5.0
    run.watch.began(standing())
    run.watch.enter("learning")
    for version in range(1, 11):
        run.clock.now_s += 2.0
        for number in (0, 1):
            slot = Slot(version - 1, number)
            run.watch.computed(SlotReport(slot=slot, version=version - 1, loss=2.0, seconds=1.0, waited_s=0.25))
            run.watch.pushed(Pushed(outcome="accepted"))
        run.watch.stepped(step(version, loss=float(version)))
    run.watch.tick(())
    newest = run.told.newest
    assert (newest.step, newest.num_steps, newest.fraction) == (10, 100, 0.1)
    assert (newest.elapsed_s, newest.eta_s) == (20.0, 180.0)
    assert newest.slots_per_s == pytest.approx(1.0)
    assert newest.loss == pytest.approx(5.5)
    assert newest.data_wait == run.watch.data_wait == pytest.approx(0.25)
    assert newest.gradient_norms == {"loc": 3.0, "arch_logits": 0.5}
    assert newest.entropies == (1.0, 0.5)
    assert newest.counters.slots == 20
    assert [point[0] for point in newest.series["loss"]] == list(range(1, 11))
    assert set(newest.series) >= {"entropy", "staleness", "gradient norm of loc"}
    assert run.watch.seconds() == {"starting": 0.0, "loading": 5.0, "learning": 20.0}
    run.watch.enter("done")
    assert (run.told.newest.fraction, run.told.newest.eta_s) == (1.0, 0.0)


def test_a_run_that_makes_trials_says_how_many_are_made_and_how_long_the_rest_takes(run: Any) -> None:
    run.watch = Watch([run.told], num_steps=10, num_trials=20, clock=run.clock, wall=run.clock)
    run.watch.began(standing())
    run.watch.enter("learning")
    run.clock.now_s += 10.0
    run.watch.stepped(step(5))
    run.watch.tell()
    assert (run.told.newest.fraction, run.told.newest.eta_s) == (pytest.approx(0.35), 10.0)
    run.watch.stepped(step(10))
    run.watch.trying(5)
    assert (run.told.newest.phase, run.told.newest.num_tried, run.told.newest.num_trials) == ("trying", 5, 20)
    assert run.told.newest.eta_s is None
    fractions = [run.told.newest.fraction]
    for number in range(5):
        run.clock.now_s += 3.0
        run.watch.tried(TriedTask(task=7, mode=0.25, best=0.5) if number == 4 else None)
        run.watch.tell()
        fractions.append(run.told.newest.fraction)
    assert fractions == sorted(set(fractions))
    assert fractions[-1] == pytest.approx(0.7 + 0.3 * 10 / 20)
    assert (run.told.newest.num_tried, run.told.newest.eta_s) == (10, 30.0)
    assert run.told.newest.elapsed_s == 10.0, "of learning"
    (event,) = [event for event in run.told.all_events if event.kind == "tried"]
    assert event.message == "trial task 7: 50.0% by the best, 25.0% by the prior's mode"
    assert event.data == {"mode": 0.25, "best": 0.5}


def test_a_task_whose_trials_try_no_mode_tells_of_the_best_alone(run: Any) -> None:
    run.watch.trying(0)
    run.watch.tried(TriedTask(task=7, mode=None, best=0.5))
    run.watch.tell()
    (event,) = [event for event in run.told.all_events if event.kind == "tried"]
    assert (event.message, event.data) == ("trial task 7: 50.0% by the best", {"best": 0.5})


def test_what_a_run_waits_for_is_said_until_it_goes_on(run: Any) -> None:
    run.watch.enter("loading", "reading")
    for waiting, said in (("paused", "paused"), ("", "reading")):
        run.watch.say(waiting)
        run.watch.tell()
        assert run.told.newest.message == said


def test_the_pace_is_that_of_the_last_half_minute(run: Any) -> None:
    run.watch.began(standing())
    run.watch.enter("learning")
    for _ in range(60):
        run.watch.computed(SlotReport(slot=Slot(0, 0), version=0, seconds=1.0))
        run.clock.now_s += 1.0
    run.clock.now_s += 29.0
    run.watch.tell()
    assert run.told.newest.slots_per_s == pytest.approx(2 / 30, abs=0.04)


def test_a_loss_of_the_parameter_actor_counts_the_steps_and_keeps_the_estimate_honest(run: Any) -> None:
    run.watch.began(standing(20, 20))
    run.watch.enter("learning")
    run.clock.now_s += 100.0
    run.watch.stepped(step(30))
    run.watch.server_lost("killed", 30)
    run.watch.began(standing(20, 20))
    assert run.watch.counters.recomputed_steps == 10
    run.clock.now_s += 100.0
    run.watch.stepped(step(30))
    run.watch.tell()
    # Ten steps have taken 200 s, with those that were lost: 70 more at that pace.
    assert run.told.newest.eta_s == pytest.approx(200.0 / 10 * 70)
    assert run.told.kinds().count("resumed") == 2


def test_everything_that_is_lost_is_counted(run: Any) -> None:
    run.watch.lost("worker-1", "it died")
    run.watch.duplicate()
    run.watch.backups(3)
    for outcome in ("accepted", "stale", "not_finite", "duplicate"):
        run.watch.pushed(Pushed(outcome=outcome))
    counters = run.watch.counters
    assert (counters.slots, counters.stale, counters.not_finite, counters.duplicate) == (1, 1, 1, 2)
    assert (counters.backups, counters.lost_workers) == (3, 1)
    assert run.told.kinds() == ["worker_lost", "warning"]


def test_judgements_checkpoints_and_adjustments_are_events_with_their_numbers(run: Any) -> None:
    run.watch.stepped(step(7))
    run.watch.judged("step 7", 7, {0: 0.25, 4: 0.5})
    run.watch.judged("prior-a", None, {0: 0.75})
    run.watch.saved(7)
    run.watch.adjusted(Adjustment(step=7, what="batch_divisor", value=2, why="w ran out of memory"))
    judged, other, saved, adjusted = run.told.all_events
    assert (judged.step, judged.data) == (7, {"after 0 steps": 0.25, "after 4 steps": 0.5})
    assert judged.message == "step 7: 25.0% after 0 steps, 50.0% after 4 steps"
    assert other.data == {"after 0 steps": 0.75}
    assert [saved.kind, adjusted.kind] == ["checkpoint", "adjusted"]
    assert run.told.newest.checkpoint_step == 7
    assert run.told.newest.series["held-out accuracy after 0 steps"] == ((7, 0.0, 0.25),)
    assert [change.value for change in run.told.newest.adjustments] == [2]


def test_events_are_numbered_without_gaps_and_the_oldest_are_dropped(run: Any) -> None:
    last: list[Any] = []
    run.told.events = lambda events: last.__setitem__(slice(None), events)
    for number in range(MAX_EVENTS + 7):
        run.watch.event("warning", str(number))
    assert len(last) == MAX_EVENTS
    assert [event.sequence for event in last] == list(range(8, MAX_EVENTS + 8))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Returns what was logged since it was last asked."""
    caplog.set_level(logging.INFO, logger="archprior.meta")

    def since() -> list[str]:
        messages = list(caplog.messages)
        caplog.clear()
        return messages

    return since


def event(sequence: int, message: str) -> MetaEvent:
    return MetaEvent(sequence=sequence, at=1.0, kind="warning", step=3, message=message)


def test_each_event_is_one_line_of_the_log_however_often_it_is_told(lines: Callable[[], list[str]]) -> None:
    log_lines = LogLines()
    first, second, third = (event(number, f"m{number}") for number in (1, 2, 3))
    log_lines.events([first])
    log_lines.events([first, second])
    log_lines.events([second, third])  # the oldest are dropped from the front
    assert lines() == [f"warning at step 3: m{number}" for number in (1, 2, 3)]


def test_progress_is_a_line_of_the_log_once_in_a_while(run: Any, lines: Callable[[], list[str]]) -> None:
    log_lines = LogLines(every_s=10.0, clock=run.clock)
    for step_number in range(25):
        log_lines.progress(MetaProgress(phase="learning", step=step_number, num_steps=50, updated_at=1.0))
        run.clock.now_s += 1.0
    assert [line.partition(",")[0] for line in lines()] == [f"learning: step {step} of 50" for step in (0, 10, 20)]


def test_a_line_of_progress_says_what_is_known(run: Any, lines: Callable[[], list[str]]) -> None:
    log_lines = LogLines(every_s=1.0, clock=run.clock)
    workers = tuple(WorkerView(id=state, state=state) for state in ("starting", "idle", "busy"))
    told = MetaProgress(phase="learning", step=5, num_steps=50, slots_per_s=1.5, workers=workers, updated_at=1.0)
    log_lines.progress(told)
    run.clock.now_s += 1.0
    log_lines.progress(told.model_copy(update={"loss": 2.34567, "eta_s": 61.4, "message": "paused"}))
    early, later = lines()
    assert early == "learning: step 5 of 50, 1.50 slots/s by 2 workers"
    assert later == "learning: step 5 of 50, loss 2.346, 1.50 slots/s by 2 workers, 61 s left; paused"


def test_a_whole_watch_writes_its_log(run: Any, lines: Callable[[], list[str]]) -> None:
    watch = Watch([LogLines(clock=run.clock)], num_steps=100, clock=run.clock, wall=run.clock)
    watch.enter("loading", "reading")
    watch.lost("worker-1", "it died")
    # Progress follows its event, and is not repeated with the next.
    phase, progress, lost = lines()
    assert phase == "phase at step 0: loading: reading"
    assert progress.startswith("loading: step 0 of 100")
    assert lost == "worker_lost at step 0: worker-1: it died"
