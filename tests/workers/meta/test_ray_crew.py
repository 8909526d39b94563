"""On real Ray: processes of their own, killed and frozen, and the same prior bit for bit."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import ray
import torch
from ray.util.state import list_actors
from ray.util.state.common import ActorState

from workers.contracts.errors import InvalidDatasetError
from workers.contracts.loss_model import TrialConfig
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import MetaControl, MetaEvent, MetaProgress
from workers.meta.board import Patience
from workers.meta.checkpoints import Checkpoints
from workers.meta.coordinator import Coordinator
from workers.meta.elastic import Share
from workers.meta.flat import pack, unpack
from workers.meta.learning.data import MetaData
from workers.meta.learning.state import MetaState
from workers.meta.ray_crew import RayCrew, Timeouts
from workers.meta.rules import Learned, Rules
from workers.meta.trials.campaign import TRIALS, read_trials, run_trials
from workers.meta.trials.trial import Workshop
from workers.meta.trying import Trying
from workers.meta.watch import Watch
from workers.store.folder import FolderStore

pytestmark = [pytest.mark.slow, pytest.mark.alone]

LABEL = "mr_test"


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    # Workers cannot import this module by its name: it travels with what is pickled.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(address="local", num_cpus=3, include_dashboard=True, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def given(data: MetaData) -> MetaData:
    return data


def refused() -> MetaData:
    raise InvalidDatasetError("the archive of the dataset letters is not the one that was recorded", got="x")


def opened(folder: str) -> Checkpoints:
    return Checkpoints(FolderStore(Path(folder), create=True), "checkpoints")


class Saboteur:
    """Watches a run as people do, and does something to it once it has got to a step."""

    def __init__(self, at_step: int, act: Callable[[MetaProgress], None], *, pause_s: float = 0.0) -> None:
        self._at_step, self._act, self._pause_s = at_step, act, pause_s
        self.newest: MetaProgress | None = None
        self.all_events: tuple[MetaEvent, ...] = ()
        self.done = False

    def progress(self, progress: MetaProgress) -> None:
        self.newest = progress
        busy = any(worker.state == "busy" for worker in progress.workers)
        if not self.done and progress.step >= self._at_step and busy:
            self.done = True
            self._act(progress)
        elif self.done:
            time.sleep(self._pause_s)

    def events(self, events: Sequence[MetaEvent]) -> None:
        self.all_events = tuple(events)


Learn = Callable[..., tuple[Learned, RayCrew]]
Begin = Callable[..., tuple[Coordinator, RayCrew]]


@pytest.fixture
def begin(short_config: MetaConfig, data: MetaData, tmp_path: Path) -> Iterator[Begin]:
    """Returns a coordinator of two workers on Ray."""
    crews = []

    def run(
        outlet: Saboteur,
        *,
        config: MetaConfig = short_config,
        load: Callable[[], MetaData] | None = None,
        patience: Patience | None = None,
    ) -> tuple[Coordinator, RayCrew]:
        crew = RayCrew(
            config,
            load or partial(given, data),
            partial(opened, str(tmp_path / "store")),
            share=Share(cpus=1, gpus=0),
            label=LABEL,
            timeouts=Timeouts(),
        )
        crews.append(crew)
        rules = Rules(
            config=config,
            share=Share(cpus=1, gpus=0),
            max_workers=2,
            curve_tasks=1,
            patience=patience or Patience(),
        )
        watch = Watch([outlet], num_steps=config.num_steps)
        # Told at every step, so that what a test waits for is not missed.
        watch.tick = lambda workers: (setattr(watch, "_workers", workers), watch.tell())[1]
        return Coordinator(rules, crew, watch, MetaControl), crew

    yield run
    for crew in crews:
        crew.close()


@pytest.fixture
def learn(begin: Begin) -> Learn:
    """Learns on Ray with two workers."""

    def run(outlet: Saboteur, **options: object) -> tuple[Learned, RayCrew]:
        coordinator, crew = begin(outlet, **options)
        return coordinator.learn(), crew

    return run


@pytest.fixture
def data(classes: object) -> MetaData:
    return MetaData(meta_train=classes, meta_validation=None, learned_from=())


@pytest.fixture
def short_config(short_config: MetaConfig) -> MetaConfig:
    return short_config.model_copy(
        update={"num_steps": 18, "warmup_steps": 6, "joint_steps": 12, "checkpoint_every": 3}
    )


def living() -> dict[str, ActorState]:
    """Return the actors of this module's cluster, as Ray knows them; others may run on the same machine."""
    address = ray.get_runtime_context().gcs_address
    found = list_actors(address, filters=[("state", "=", "ALIVE")])
    return {actor.name: actor for actor in found if LABEL in actor.name}


def bit_equal(learned: Learned, crew: RayCrew, expected: object) -> bool:
    arrays = unpack(crew.fetch(learned.prior))
    return arrays.keys() == expected.keys() and all(torch.equal(arrays[name], expected[name]) for name in arrays)


def nothing(progress: MetaProgress) -> None:
    """Disturb nothing."""


def test_gradients_come_from_processes_of_their_own(
    learn: Learn, undisturbed: object, short_config: MetaConfig
) -> None:
    told = Saboteur(0, nothing)
    learned, crew = learn(told)
    assert learned.complete
    assert bit_equal(learned, crew, undisturbed(short_config))
    actors = living()
    assert set(actors) == {f"{LABEL} {name}" for name in ("parameters-1", "worker-1", "worker-2")}
    assert [actors[f"{LABEL} worker-{number}"].class_name for number in (1, 2)] == ["GradientWorker"] * 2
    assert len({os.getpid(), *(actor.pid for actor in actors.values())}) == 4
    by_name = {f"{LABEL} {view.id}": view for view in told.newest.workers}
    for name, view in by_name.items():
        assert (view.pid, view.actor_id) == (actors[name].pid, actors[name].actor_id)
        assert view.num_done > 0
    assert sum(view.num_done for view in by_name.values()) == short_config.num_steps * short_config.num_slots


def test_killed_processes_cost_time_and_nothing_else(
    learn: Learn, undisturbed: object, short_config: MetaConfig
) -> None:
    def kill(progress: MetaProgress) -> None:
        server = living()[f"{LABEL} parameters-1"]
        busy = next(worker for worker in progress.workers if worker.state == "busy")
        os.kill(busy.pid, signal.SIGKILL)
        os.kill(server.pid, signal.SIGKILL)

    told = Saboteur(4, kill)
    learned, crew = learn(told)
    assert told.done
    assert learned.complete
    assert bit_equal(learned, crew, undisturbed(short_config))
    assert told.newest.counters.lost_workers == 1
    assert told.newest.counters.recomputed_steps >= 1
    kinds = [event.kind for event in told.all_events]
    assert "resumed" in kinds
    assert any("parameter actor was lost" in event.message for event in told.all_events)
    assert [entry.step for entry in crew.log()] == list(range(short_config.num_steps))


def test_a_frozen_worker_is_backed_up_then_given_up_and_replaced(
    learn: Learn, undisturbed: object, short_config: MetaConfig
) -> None:
    frozen = []

    def freeze(progress: MetaProgress) -> None:
        busy = next(worker for worker in progress.workers if worker.state == "busy")
        os.kill(busy.pid, signal.SIGSTOP)
        frozen.append(busy)

    # However fast the machine, what is left of the run takes longer than the frozen worker is waited for.
    told = Saboteur(2, freeze, pause_s=0.25)
    # Long enough for a busy machine's slots.
    patience = Patience(slow_factor=2.0, slow_s=0.5, hung_factor=3.0, hung_s=1.0, first_s=60.0, max_losses=50)
    learned, crew = learn(told, patience=patience)
    assert learned.complete
    assert bit_equal(learned, crew, undisturbed(short_config))
    lost = [event.message for event in told.all_events if event.kind == "worker_lost"]
    assert any(message.startswith(f"{frozen[0].id}: hung on slot") for message in lost)
    assert frozen[0].id not in {worker.id for worker in told.newest.workers}
    assert "worker-3" in {worker.id for worker in told.newest.workers}


def test_a_killed_worker_costs_a_trial_and_what_trials_teach_is_what_one_process_finds(
    begin: Begin, short_config: MetaConfig, data: MetaData, tmp_path: Path
) -> None:
    trials = TrialConfig(num_tasks=4, num_archs=3, num_steps=20, batch_size=8, num_support=24, num_query=12)
    config = short_config.model_copy(update={"trials": trials})
    state = MetaState(config, data.meta_train.class_names)
    findings = run_trials(Workshop.build(config, trials, data, state.prior), tmp_path)
    killed = []

    def kill(progress: MetaProgress) -> None:
        busy = next(worker for worker in progress.workers if worker.state == "busy")
        os.kill(busy.pid, signal.SIGKILL)
        killed.append(busy)

    told = Saboteur(0, kill)
    coordinator, _ = begin(told, config=config)
    trying = Trying(config, trials, pack(state.prior_with_heads.to_arrays()), {}, lambda trial: None)
    assert coordinator.try_out(trying)
    assert {(trial.task, trial.number): trial for trial in trying.trials} == read_trials(tmp_path / TRIALS)
    assert trying.findings() == findings
    assert killed[0].doing.startswith("architecture")
    assert told.newest.counters.lost_workers == 1
    assert f"{LABEL} {killed[0].id}" not in living()


def test_data_that_cannot_be_read_end_the_run_with_their_own_error(learn: Learn) -> None:
    with pytest.raises(InvalidDatasetError, match="letters is not the one that was recorded") as caught:
        learn(Saboteur(0, nothing), load=refused)
    assert caught.value.got == "x"
