"""What is newest reaches the store as soon as it can, and what the service wants is heard."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers.contracts.errors import StoreError
from workers.contracts.meta_runs import MetaControl, MetaEvent, MetaEvents, MetaProgress
from workers.meta import mailbox as module
from workers.meta.mailbox import CONTROL, EVENTS, PROGRESS, Mailbox
from workers.store.folder import FolderStore

LIMIT_S = 20.0


class Watched(FolderStore):
    """A store that can be away, and that tells when it was asked."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, create=True)
        self.away = False
        self.changed = threading.Condition()
        self.num_reads = self.num_refused = 0
        self.written: list[str] = []

    def get_bytes(self, key: str) -> bytes:
        with self.changed:
            self.num_reads += 1
            self.changed.notify_all()
        if self.away:
            raise StoreError("the store is away")
        return super().get_bytes(key)

    def put_bytes(self, key: str, data: bytes, *, media_type: str = "application/octet-stream") -> None:
        with self.changed:
            if self.away:
                self.num_refused += 1
                self.changed.notify_all()
                raise StoreError("the store is away")
            super().put_bytes(key, data, media_type=media_type)
            self.written.append(key)
            self.changed.notify_all()

    def wait_until(self, holds: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, LIMIT_S)


@pytest.fixture
def store(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "store")


@pytest.fixture
def box(store: Watched, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    monkeypatch.setattr(module, "EXCHANGE_EVERY_S", 0.01)
    made = Mailbox(store, "attempts/1")
    yield made
    made.close()


def progress(step: int) -> MetaProgress:
    return MetaProgress(phase="learning", step=step, updated_at=1.0)


def event(number: int) -> MetaEvent:
    return MetaEvent(sequence=number, at=1.0, kind="warning", step=0, message="m")


def read_progress(store: Watched) -> int:
    return MetaProgress.model_validate_json(store.get_bytes(f"attempts/1/{PROGRESS}")).step


def test_progress_and_events_are_written(store: Watched, box: Mailbox) -> None:
    box.progress(progress(3))
    box.events([event(1), event(2)])
    store.wait_until(lambda: len(set(store.written)) == 2)
    assert read_progress(store) == 3
    written = MetaEvents.model_validate_json(store.get_bytes(f"attempts/1/{EVENTS}"))
    assert [item.sequence for item in written.events] == [1, 2]


def test_what_the_service_wants_is_heard_and_kept_while_the_store_is_away(store: Watched, box: Mailbox) -> None:
    assert box.control() == MetaControl()
    wish = MetaControl(desired="stop", max_workers=2)
    store.put_bytes(f"attempts/1/{CONTROL}", wish.model_dump_json().encode())
    before = store.num_reads
    store.wait_until(lambda: store.num_reads >= before + 2)
    assert box.control() == wish
    store.away = True
    before = store.num_reads
    store.wait_until(lambda: store.num_reads >= before + 2)
    assert box.control() == wish


def test_a_wish_that_cannot_be_read_changes_nothing(
    store: Watched, box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        store.put_bytes(f"attempts/1/{CONTROL}", b'{"desired": "explode"}')
        before = store.num_reads
        store.wait_until(lambda: store.num_reads >= before + 2)
    assert box.control() == MetaControl()
    assert "control.json cannot be read now" in caplog.text


def test_when_the_store_is_back_the_newest_is_written(store: Watched, box: Mailbox) -> None:
    store.away = True
    box.progress(progress(1))
    store.wait_until(lambda: store.num_refused >= 1)
    box.progress(progress(2))
    refused = store.num_refused
    store.wait_until(lambda: store.num_refused >= refused + 2)
    store.away = False
    store.wait_until(lambda: bool(store.written))
    assert read_progress(store) == 2
    assert len(store.written) == 1


def test_closing_writes_what_is_unsent(store: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXCHANGE_EVERY_S", 1000.0)
    box = Mailbox(store, "attempts/1")
    store.wait_until(lambda: store.num_reads >= 1)
    box.progress(progress(9))
    box.close()
    assert read_progress(store) == 9


def test_closing_while_the_store_is_away_ends_all_the_same(store: Watched, box: Mailbox) -> None:
    store.away = True
    box.progress(progress(1))
    box.close()
    assert not any(thread.name == "mailbox" and thread.is_alive() for thread in threading.enumerate())
