"""A checkpoint is whole or none; one that does not fit is refused by the name of what differs."""

import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from workers.bayes.aggregate import aggregate
from workers.bayes.meta_gradient import MetaGradient
from workers.contracts.artifacts import MANIFEST
from workers.contracts.errors import CheckpointMismatchError, StoreError
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import Adjustment
from workers.contracts.priors import MacroSpec
from workers.meta.checkpoints import LOG, Checkpoints
from workers.meta.learning.log import StepEntry
from workers.meta.learning.state import CHECKPOINT, MetaState
from workers.store.folder import FolderStore
from workers.store.patient import PatientStore
from workers.store.s3 import S3Store

CLASSES = ("a", "b", "c")
ADJUSTMENT = Adjustment(step=1, what="batch_divisor", value=2, why="w")


class Interruptible:
    """A store to which something happens before one of its next writes.

    Attributes:
        num_left: Writes before that.
        act: What happens, once.
    """

    num_left = 10**9
    act: Callable[[], None]

    def put_bytes(self, key: str, data: bytes, **options: str) -> None:
        self._count()
        super().put_bytes(key, data, **options)

    def put_file(self, key: str, path: Path, **options: str) -> None:
        self._count()
        super().put_file(key, path, **options)

    def interrupt(self, num_writes: int, act: Callable[[], None]) -> None:
        self.num_left, self.act = num_writes, act

    def _count(self) -> None:
        self.num_left -= 1
        if self.num_left == -1:
            self.act()


class InterruptibleFolder(Interruptible, FolderStore):
    pass


class InterruptibleS3(Interruptible, S3Store):
    pass


InterruptibleStore = InterruptibleFolder | InterruptibleS3


def full() -> None:
    raise StoreError("the store is full")


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> InterruptibleStore:
    if request.param == "folder":
        return InterruptibleFolder(tmp_path / "store", create=True)
    endpoint = request.getfixturevalue("s3_environment")
    return InterruptibleS3(f"bucket-{uuid.uuid4().hex[:12]}", "runs", endpoint_url=endpoint, create=True)


@pytest.fixture
def make_state(config: MetaConfig) -> Callable[..., MetaState]:
    def make(*, num_steps: int = 0, classes: tuple[str, ...] = CLASSES, **changes: object) -> MetaState:
        state = MetaState(MetaConfig.model_validate({**config.model_dump(), **changes}), classes)
        for step in range(num_steps):
            generator = torch.Generator().manual_seed(step)
            arrays = {
                name: torch.randn(value.shape, generator=generator)
                for name, value in state.prior_with_heads.to_arrays().items()
                if not name.startswith("log_scale/")
            }
            state.apply(aggregate([MetaGradient(version=step, slot=0, num_examples=1, arrays=arrays, loss=1.0)]))
        return state

    return make


def entries(num_steps: int) -> list[StepEntry]:
    return [
        StepEntry(step=step, loss=1.0 / (step + 1), norms={"loc": 0.1}, entropy=(0.5,)) for step in range(num_steps)
    ]


def same(a: MetaState, b: MetaState) -> bool:
    one, other = a.prior_with_heads.to_arrays(), b.prior_with_heads.to_arrays()
    return a.step == b.step and all(torch.equal(one[name], other[name]) for name in one)


def test_state_log_and_adjustments_come_back(store: InterruptibleStore, make_state: Callable[..., MetaState]) -> None:
    state, fresh = make_state(num_steps=4), make_state()
    Checkpoints(store, "ck").save(state, entries(4), (ADJUSTMENT,))
    restored = Checkpoints(store, "ck").restore(fresh)
    assert restored is not None
    assert same(state, fresh)
    assert restored.log == entries(4)
    assert restored.adjustments == (ADJUSTMENT,)


def test_where_there_is_none_nothing_is_restored(
    store: InterruptibleStore, make_state: Callable[..., MetaState]
) -> None:
    store.put_bytes("elsewhere/00000002/manifest.json", b"{}")
    store.put_bytes("ck/notes/manifest.json", b"{}")
    assert Checkpoints(store, "ck").steps() == ()
    assert Checkpoints(store, "ck").restore(make_state()) is None


@pytest.mark.parametrize("num_writes", [0, 1, 2])
def test_a_checkpoint_cut_short_at_any_write_is_none_and_the_one_before_counts(
    store: InterruptibleStore, make_state: Callable[..., MetaState], num_writes: int
) -> None:
    checkpoints, before, fresh = Checkpoints(store, "ck"), make_state(num_steps=2), make_state()
    checkpoints.save(before, entries(2), ())
    store.interrupt(num_writes, full)
    with pytest.raises(StoreError, match="full"):
        checkpoints.save(make_state(num_steps=3), entries(3), ())
    assert checkpoints.steps() == (2,)
    checkpoints.restore(fresh)
    assert same(before, fresh)


@pytest.mark.parametrize("num_writes", [0, 1, 2])
def test_overwriting_a_checkpoint_of_the_same_step_leaves_none_half_old_half_new(
    store: InterruptibleStore, make_state: Callable[..., MetaState], num_writes: int
) -> None:
    checkpoints, fresh = Checkpoints(store, "ck"), make_state()
    for num_steps in (2, 3):
        checkpoints.save(make_state(num_steps=num_steps), entries(num_steps), ())
    store.interrupt(num_writes, full)
    with pytest.raises(StoreError):
        checkpoints.save(make_state(num_steps=3), entries(3), (ADJUSTMENT,))
    checkpoints.restore(fresh)
    assert fresh.step == 2


@pytest.mark.parametrize("error", [OSError("No space left on device"), RuntimeError("file write failed")])
def test_a_full_disk_of_the_node_is_a_failure_of_storing(
    store: InterruptibleStore, make_state: Callable[..., MetaState], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, state = Checkpoints(store, "ck"), make_state(num_steps=2)
    checkpoints.save(state, entries(2), ())

    def full_disk(document: object, path: Path) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full_disk)
        with pytest.raises(StoreError, match="checkpoint of step 3"):
            checkpoints.save(make_state(num_steps=3), entries(3), ())
    assert checkpoints.steps() == (2,)


def test_the_last_few_are_kept(store: InterruptibleStore, make_state: Callable[..., MetaState]) -> None:
    checkpoints = Checkpoints(store, "ck", num_kept=2)
    for num_steps in (1, 2, 3, 4):
        checkpoints.save(make_state(num_steps=num_steps), entries(num_steps), ())
    assert checkpoints.steps() == (3, 4)
    assert len(list(store.list("ck/"))) == 2 * 3


@pytest.mark.parametrize("name", [CHECKPOINT, LOG, MANIFEST])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_damaged_one_is_passed_over_with_a_warning(
    store: InterruptibleStore,
    make_state: Callable[..., MetaState],
    name: str,
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    checkpoints, fresh = Checkpoints(store, "ck"), make_state()
    for num_steps in (2, 3):
        checkpoints.save(make_state(num_steps=num_steps), entries(num_steps), ())
    key = f"ck/00000003/{name}"
    if how == "cut":
        store.put_bytes(key, store.get_bytes(key)[:-20])
    else:
        store.delete(key)
    with caplog.at_level(logging.WARNING):
        restored = checkpoints.restore(fresh)
    assert restored is not None
    assert fresh.step == 2
    if (how, name) != ("gone", MANIFEST):  # without a manifest it was never there
        assert "checkpoint of step 3 is passed over" in caplog.text


def test_damaged_ones_of_later_steps_do_not_push_out_those_that_are_whole(
    store: InterruptibleStore, make_state: Callable[..., MetaState]
) -> None:
    checkpoints = Checkpoints(store, "ck", num_kept=2)
    for num_steps in (7, 8):
        checkpoints.save(make_state(num_steps=num_steps), entries(num_steps), ())
        store.put_bytes(f"ck/0000000{num_steps}/{CHECKPOINT}", b"damaged")
    assert checkpoints.restore(make_state()) is None
    for num_steps in (1, 2, 3):
        checkpoints.save(make_state(num_steps=num_steps), entries(num_steps), ())
    fresh = make_state()
    checkpoints.restore(fresh)
    assert fresh.step == 3


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 5}, "seed=0"),
        ({"lr": 0.01, "num_slots": 3}, "num_slots=2, lr=0.1"),
        ({"search_space": "darts", "macro": MacroSpec(num_channels=4, num_cells=3)}, "search_space=nas_bench_201"),
    ],
)
def test_another_configuration_is_refused_by_what_differs(
    store: InterruptibleStore, make_state: Callable[..., MetaState], changes: dict[str, object], difference: str
) -> None:
    checkpoints = Checkpoints(store, "ck")
    checkpoints.save(make_state(num_steps=2), entries(2), ())
    other = make_state(**changes)
    with pytest.raises(CheckpointMismatchError, match=difference) as caught:
        checkpoints.restore(other)
    assert "step 2 belongs to another configuration" in caught.value.what
    assert other.step == 0


@pytest.mark.parametrize(
    ("classes", "got"),
    [(("a", "b", "d"), r"with \['c'\]"), (("a", "b"), r"3 classes"), (("b", "a", "c"), "another order")],
)
def test_other_classes_are_refused_by_what_differs(
    store: InterruptibleStore, make_state: Callable[..., MetaState], classes: tuple[str, ...], got: str
) -> None:
    checkpoints = Checkpoints(store, "ck")
    checkpoints.save(make_state(num_steps=2), entries(2), ())
    with pytest.raises(CheckpointMismatchError, match=got):
        checkpoints.restore(make_state(classes=classes))


def test_a_store_that_is_away_is_no_reason_to_begin_afresh(
    store: InterruptibleStore, make_state: Callable[..., MetaState], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(store, "ck")
    checkpoints.save(make_state(num_steps=2), entries(2), ())

    def away(key: str, path: Path) -> None:
        raise StoreError("the store is away", got=key)

    monkeypatch.setattr(store, "get_file", away)
    with pytest.raises(StoreError, match="away"):
        checkpoints.restore(make_state())


class Clock:
    """Seconds that pass only in pauses."""

    def __init__(self, during_pause: Callable[[int], None] = lambda num_pauses: None) -> None:
        self.now_s, self.num_pauses, self._during_pause = 100.0, 0, during_pause

    def read(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.now_s += seconds
        self.num_pauses += 1
        self._during_pause(self.num_pauses)


def patient(store: S3Store, clock: Clock) -> PatientStore:
    return PatientStore(store, patience_s=90.0, clock=clock.read, pause=clock.pause)


@pytest.mark.parametrize("num_writes", [0, 1, 2])
def test_a_server_that_is_gone_in_the_middle_of_a_save_and_comes_back_costs_nothing(
    s3_server: Any, make_state: Callable[..., MetaState], num_writes: int
) -> None:
    store = InterruptibleS3("bucket", endpoint_url=s3_server.url, create=True)
    clock = Clock(lambda num_pauses: s3_server.start() if num_pauses == 3 else None)
    checkpoints, state, fresh = Checkpoints(patient(store, clock), "ck"), make_state(num_steps=3), make_state()
    checkpoints.save(make_state(num_steps=2), entries(2), ())
    store.interrupt(num_writes, s3_server.kill)
    checkpoints.save(state, entries(3), (ADJUSTMENT,))
    assert clock.num_pauses == 3
    assert checkpoints.steps() == (2, 3)
    restored = checkpoints.restore(fresh)
    assert restored is not None
    assert same(state, fresh)
    assert (restored.log, restored.adjustments) == (entries(3), (ADJUSTMENT,))


@pytest.mark.parametrize("num_writes", [0, 1, 2])
def test_a_server_that_stays_away_is_told_by_name_and_the_last_checkpoint_is_whole_once_it_is_back(
    s3_server: Any, make_state: Callable[..., MetaState], num_writes: int
) -> None:
    store, clock = InterruptibleS3("bucket", endpoint_url=s3_server.url, create=True), Clock()
    checkpoints, before, fresh = Checkpoints(patient(store, clock), "ck"), make_state(num_steps=2), make_state()
    checkpoints.save(before, entries(2), ())
    store.interrupt(num_writes, s3_server.kill)
    with pytest.raises(StoreError, match="tried for 90 s") as caught:
        checkpoints.save(make_state(num_steps=3), entries(3), ())
    assert clock.now_s == pytest.approx(190.0)
    assert s3_server.url in caught.value.what
    assert caught.value.got == f"ck/00000003/{(CHECKPOINT, LOG, MANIFEST)[num_writes]}"
    assert "Check that the server runs" in caught.value.todo
    s3_server.start()
    assert checkpoints.steps() == (2,)
    restored = checkpoints.restore(fresh)
    assert restored is not None
    assert same(before, fresh)
    assert restored.log == entries(2)
    # What was left of the failed one does not stand in the way of the next.
    checkpoints.save(make_state(num_steps=3), entries(3), ())
    assert checkpoints.steps() == (2, 3)
