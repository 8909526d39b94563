"""Whoever makes the trials, whatever is lost: they, and what they teach, are those of one process, bit for bit."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.workers.meta.scripted import Run
from workers.contracts.errors import CancelledError, InvalidDatasetError, OutOfMemoryError, WorkersLostError
from workers.contracts.loss_model import TrialConfig, TrialFindings
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import MetaControl
from workers.meta.board import Patience, Tryout
from workers.meta.flat import Flat, pack
from workers.meta.learning.data import MetaData
from workers.meta.learning.state import MetaState
from workers.meta.trials.campaign import TRIALS, read_trials, run_trials
from workers.meta.trials.plan import Place
from workers.meta.trials.trial import Trial, Workshop
from workers.meta.trying import Trying
from workers.tasks.distribution import ClassImages

TASKS, ARCHS = 4, 3
TRIALS_CONFIG = TrialConfig(num_tasks=TASKS, num_archs=ARCHS, num_steps=2, batch_size=8, num_support=24, num_query=12)
PATIENCE = Patience(slow_s=2.0, hung_s=30.0, first_s=40.0, first_trial_s=40.0)
ALL = [(task, number) for task in range(TASKS) for number in range(ARCHS)]


@pytest.fixture
def short_config(short_config: MetaConfig) -> MetaConfig:
    return short_config.model_copy(update={"trials": TRIALS_CONFIG})


@dataclass(frozen=True)
class Alone:
    """What one process finds."""

    trials: dict[Place, Trial]
    findings: TrialFindings


@pytest.fixture(scope="module")
def alone(classes: ClassImages, tmp_path_factory: pytest.TempPathFactory) -> Callable[[MetaConfig], Alone]:
    """Returns what one process finds with the fresh prior of a configuration."""
    known: dict[str, Alone] = {}

    def find(config: MetaConfig) -> Alone:
        key = config.model_dump_json()
        if key not in known:
            folder = tmp_path_factory.mktemp("alone")
            data = MetaData(meta_train=classes, meta_validation=None, learned_from=())
            prior = MetaState(config, classes.class_names).prior
            findings = run_trials(Workshop.build(config, TRIALS_CONFIG, data, prior), folder)
            known[key] = Alone(read_trials(folder / TRIALS), findings)
        return known[key]

    return find


class Tries:
    """A run that makes the trials of a fresh prior."""

    def __init__(self, run: Run, classes: ClassImages) -> None:
        self.run, self.crew = run, run.crew
        self.prior: Flat = pack(MetaState(run.config, classes.class_names).prior_with_heads.to_arrays())
        self.kept: list[Trial] = []

    def trying(self, done: dict[Place, Trial] | None = None) -> Trying:
        return Trying(self.run.config, TRIALS_CONFIG, self.prior, done or {}, self.kept.append)

    def make(self, trying: Trying, *, num_workers: int = 2) -> bool:
        return self.run.coordinator(max_workers=num_workers, patience=PATIENCE).try_out(trying)


@pytest.fixture
def tries(make_run: Callable[..., Any], classes: ClassImages) -> Tries:
    return Tries(make_run(), classes)


def by_place(trying: Trying) -> dict[Place, Trial]:
    return {(trial.task, trial.number): trial for trial in trying.trials}


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_any_number_of_workers_makes_the_trials_of_one_process(
    tries: Tries, alone: Callable[[MetaConfig], Alone], num_workers: int
) -> None:
    trying = tries.trying()
    assert tries.make(trying, num_workers=num_workers)
    expected = alone(tries.run.config)
    assert by_place(trying) == expected.trials
    assert trying.findings() == expected.findings
    assert sorted((trial.task, trial.number) for trial in tries.kept) == ALL
    assert {worker for worker, _ in tries.crew.tryouts} == {f"worker-{number + 1}" for number in range(num_workers)}
    assert set(Counter(tryout for _, tryout in tries.crew.tryouts).values()) == {1}
    assert (tries.crew.begun, tries.crew.num_servers) == ([], 0)


def test_the_second_half_begins_when_all_of_the_first_is_in(tries: Tries) -> None:
    # One trial of the first half takes as long as many others.
    tries.crew.slot_s = lambda worker, tryout: 5.0 if tryout == Tryout(1, 0) else 1.0
    ended: list[Tryout] = []
    take = tries.kept.append
    begun_before = []

    def keep(trial: Trial) -> None:
        take(trial)
        ended.append(Tryout(trial.task, trial.number))
        begun_before.append({tryout.task for _, tryout in tries.crew.tryouts})

    trying = Trying(tries.run.config, TRIALS_CONFIG, tries.prior, {}, keep)
    assert tries.make(trying, num_workers=4)
    last_of_first = ended.index(Tryout(1, 0))
    assert {tryout.task for tryout in ended[: last_of_first + 1]} == {0, 1}
    assert begun_before[last_of_first] == {0, 1}


FAULTS: dict[str, tuple[Callable[[Any], None], dict[str, int]]] = {
    "a worker dies": (
        lambda crew: setattr(crew, "try_fate", lambda w, it, n: "dies" if (it, n) == (Tryout(1, 1), 0) else "fine"),
        {"lost_workers": 1},
    ),
    "a worker hangs": (
        lambda crew: setattr(crew, "try_fate", lambda w, it, n: "hangs" if (it, n) == (Tryout(0, 0), 0) else "fine"),
        {"backups": 1},
    ),
    "a worker hangs in the second half": (
        lambda crew: setattr(crew, "try_fate", lambda w, it, n: "hangs" if (it, n) == (Tryout(3, 2), 0) else "fine"),
        {"backups": 1},
    ),
    "a worker answers twice": (lambda crew: setattr(crew, "try_fate", lambda w, it, n: "twice"), {}),
    "a worker is slow": (
        lambda crew: setattr(crew, "slot_s", lambda worker, it: 20.0 if worker == "worker-1" else 1.0),
        {"backups": 1},
    ),
    "a worker is short of memory": (
        lambda crew: setattr(crew, "try_fate", lambda w, it, n: "short of memory" if w == "worker-1" else "fine"),
        {},
    ),
    "every trial costs a worker once": (
        lambda crew: setattr(crew, "try_fate", lambda w, it, n: "fine" if n else "dies"),
        {"lost_workers": TASKS * ARCHS},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_time_and_nothing_else(tries: Tries, alone: Callable[[MetaConfig], Alone], fault: str) -> None:
    happens, counted = FAULTS[fault]
    happens(tries.crew)
    trying = tries.trying()
    assert tries.make(trying)
    expected = alone(tries.run.config)
    assert by_place(trying) == expected.trials
    assert trying.findings() == expected.findings
    assert len(tries.kept) == len(ALL)
    counters = tries.run.told.newest.counters.model_dump()
    for name, least in counted.items():
        assert counters[name] >= least, name


def test_a_worker_that_is_short_of_memory_is_excluded_by_name_and_without_any_other_the_run_ends(
    tries: Tries,
) -> None:
    tries.crew.try_fate = lambda worker, tryout, before: "short of memory"
    with pytest.raises(OutOfMemoryError, match="for a trial") as caught:
        tries.make(tries.trying())
    assert "resume and stop it" in caught.value.todo
    left = [event.message for event in tries.run.told.all_events if event.kind == "worker_left"]
    assert [message.partition(":")[0] for message in left] == ["worker-1", "worker-2"]
    assert tries.kept == []


def test_a_poisoned_trial_ends_the_run_by_its_name(tries: Tries) -> None:
    tries.crew.try_fate = lambda worker, tryout, before: "dies" if tryout == Tryout(0, 1) else "fine"
    with pytest.raises(WorkersLostError, match="architecture 1 on trial task 0 has cost 5 workers"):
        tries.make(tries.trying())


@pytest.mark.parametrize("num_done", [1, 4, 6, 8, 12])
def test_trials_of_an_earlier_attempt_are_not_made_again(
    tries: Tries, alone: Callable[[MetaConfig], Alone], num_done: int
) -> None:
    expected = alone(tries.run.config)
    # Not the first ones: several workers do not end in order.
    places = sorted(expected.trials, key=lambda place: (place[0] // 2, -place[1]))
    done = {place: expected.trials[place] for place in places[:num_done]}
    trying = tries.trying(done)
    assert tries.make(trying)
    assert by_place(trying) == expected.trials
    assert trying.findings() == expected.findings
    made = sorted((tryout.task, tryout.number) for _, tryout in tries.crew.tryouts)
    assert made == sorted(places[num_done:])


def test_a_lone_worker_that_hangs_is_given_up_and_replaced(tries: Tries, alone: Callable[[MetaConfig], Alone]) -> None:
    tries.crew.try_fate = lambda worker, tryout, before: "hangs" if worker == "worker-1" else "fine"
    trying = tries.trying()
    assert tries.make(trying, num_workers=1)
    assert by_place(trying) == alone(tries.run.config).trials
    (lost,) = [event.message for event in tries.run.told.all_events if event.kind == "worker_lost"]
    assert lost == "worker-1: hung on architecture 0 on trial task 0"


def test_a_stop_ends_trials_soon_and_leaves_those_that_are_made(tries: Tries) -> None:
    tries.run.control = lambda: MetaControl(desired="stop" if len(tries.kept) >= 3 else "run")
    trying = tries.trying()
    assert not tries.make(trying, num_workers=1)
    assert len(tries.crew.tryouts) <= 4
    assert len(trying.trials) == len(tries.kept) >= 3


def test_a_cancel_ends_trials(tries: Tries) -> None:
    tries.run.control = lambda: MetaControl(desired="cancel" if tries.kept else "run")
    with pytest.raises(CancelledError):
        tries.make(tries.trying())
    assert len(tries.crew.tryouts) < len(ALL)


def test_a_worker_that_has_to_go_leaves_its_trial_to_others(tries: Tries, alone: Callable[[MetaConfig], Alone]) -> None:
    tries.crew.slot_s = lambda worker, tryout: 25.0  # longer than it may take to go
    tries.run.control = lambda: MetaControl(max_workers=1 if tries.crew.tryouts else None)
    trying = tries.trying()
    assert tries.make(trying)
    assert by_place(trying) == alone(tries.run.config).trials
    assert len(tries.crew.stopped) == 1
    assert tries.run.told.newest.counters.lost_workers == 0


def test_a_first_half_without_finite_losses_ends_the_run_with_its_own_error(tries: Tries) -> None:
    trial = Trial(task=0, number=0, architecture="", dataset=0, description={}, num_steps=1, loss=None, accuracy=0.0)
    half = [place for place in ALL if place[0] < TASKS // 2]
    done = {place: trial.model_copy(update={"task": place[0], "number": place[1]}) for place in half}
    with pytest.raises(InvalidDatasetError, match="no trials to learn from"):
        tries.make(tries.trying(done))


def test_progress_and_events_tell_of_every_trial_and_every_task(tries: Tries) -> None:
    watch = tries.run.watch
    watch.trying(0)
    trying = tries.trying()
    assert tries.make(trying)
    watch.tell()
    assert (tries.run.told.newest.num_tried, tries.run.told.newest.num_trials) == (12, 12)
    told = [event for event in tries.run.told.all_events if event.kind == "tried"]
    assert [event.message.partition(":")[0] for event in told] == [f"trial task {task}" for task in range(TASKS)]
    for task, event in enumerate(told):
        accuracies = [trial.accuracy for trial in trying.trials if trial.task == task]
        assert event.data == {"mode": accuracies[0], "best": max(accuracies)}


@pytest.mark.parametrize(("weights", "mode"), [("inherited", 0.25), ("fresh", None)])
def test_a_tasks_mode_is_told_where_its_trials_have_one(
    alone: Callable[[MetaConfig], Alone], tries: Tries, weights: str, mode: float | None
) -> None:
    trials = TRIALS_CONFIG.model_copy(update={"weights": weights})
    trying = Trying(tries.run.config, trials, tries.prior, {}, tries.kept.append)
    made = [alone(tries.run.config).trials[0, number] for number in range(ARCHS)]
    accuracies = (0.25, 0.75, 0.5)
    for trial, accuracy in zip(made, accuracies, strict=True):
        told = trying.take(trial.model_copy(update={"accuracy": accuracy}))
    assert (told.mode, told.best) == (mode, 0.75)
