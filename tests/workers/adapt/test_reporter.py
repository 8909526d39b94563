from itertools import pairwise
from pathlib import Path

import pytest

from workers.adapt.reporter import PAUSE_S, Reporter
from workers.contracts.adaptations import Progress
from workers.contracts.errors import CancelledError, StoreError
from workers.contracts.series import MAX_POINTS
from workers.store.folder import FolderStore
from workers.training.budget import Budget


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path, create=True)


@pytest.fixture
def reporter(store: FolderStore, clock: Clock) -> Reporter:
    return Reporter(store, "a", Budget(100.0, clock), clock=clock)


def progress(store: FolderStore) -> Progress:
    return Progress.model_validate_json(store.get_bytes("a/progress.json"))


def test_progress_is_written_at_most_once_a_second(store: FolderStore, clock: Clock, reporter: Reporter) -> None:
    reporter.enter("training")
    clock.now_s = 0.5
    reporter.tick(7)
    assert progress(store).step == 0
    clock.now_s = 1.0
    reporter.tick(8)
    assert progress(store).step == 8


def test_the_eta_is_what_is_left_of_the_budget(store: FolderStore, clock: Clock, reporter: Reporter) -> None:
    clock.now_s = 25.0
    reporter.enter("training")
    assert (progress(store).fraction, progress(store).eta_s) == (0.25, 75.0)
    reporter.enter("done")
    assert (progress(store).fraction, progress(store).eta_s) == (1.0, 0.0)


def test_seconds_are_kept_by_phase(clock: Clock, reporter: Reporter) -> None:
    for seconds, phase in ((0.0, "staging"), (2.0, "training"), (7.0, "exporting")):
        clock.now_s = seconds
        reporter.enter(phase)
    clock.now_s = 8.0
    assert dict(reporter.timer.seconds()) == {"staging": 2.0, "training": 5.0, "exporting": 1.0}


def test_a_long_curve_is_thinned_and_keeps_its_span(reporter: Reporter) -> None:
    for step in range(10_000):
        reporter.record("loss", step, float(step))
    steps = [point[0] for point in reporter.series["loss"]]
    assert len(steps) <= MAX_POINTS + 1
    assert steps[0] == 0
    assert steps[-1] > 9_800
    assert len({b - a for a, b in pairwise(steps)}) == 1


def test_a_cancel_is_seen_within_two_seconds(store: FolderStore, clock: Clock, reporter: Reporter) -> None:
    reporter.enter("training")
    store.put_bytes("a/control.json", b'{"desired": "cancel"}')
    clock.now_s = 1.0
    reporter.tick(1)
    clock.now_s = 2.0
    with pytest.raises(CancelledError):
        reporter.tick(2)


def test_other_ranks_keep_silent(store: FolderStore, clock: Clock) -> None:
    Reporter(store, "b", Budget(1.0, clock), active=False, clock=clock).enter("training")
    assert store.size("b/progress.json") is None


class AwayStore:
    """Fails, and counts how often it was asked."""

    def __init__(self) -> None:
        self.num_asked = 0

    def put_bytes(self, *_: object, **__: object) -> None:
        self.num_asked += 1
        raise StoreError("the store does not answer")

    def get_bytes(self, key: str) -> bytes:
        self.num_asked += 1
        raise StoreError("the store does not answer", got=key)


def test_a_store_that_fails_is_left_alone_for_a_while(clock: Clock) -> None:
    store = AwayStore()
    reporter = Reporter(store, "a", Budget(100.0, clock), clock=clock)
    reporter.enter("training")
    assert store.num_asked == 1
    for second in range(1, int(PAUSE_S)):
        clock.now_s = float(second)
        reporter.tick(second)
    assert store.num_asked == 1
    clock.now_s = PAUSE_S
    reporter.tick(99)
    assert store.num_asked == 2
