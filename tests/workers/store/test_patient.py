"""A store that is away for a while: waited for, for so long and no longer, and nothing is read twice."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import ObjectMissingError, StoreError
from workers.store.folder import FolderStore
from workers.store.multipart import MultipartUpload, StoredPart
from workers.store.patient import LONGEST_PAUSE_S, PatientStore
from workers.store.protocol import StoredObject

DATA = bytes(range(100))
Item = TypeVar("Item")


class Watch:
    """Time that only pauses move."""

    def __init__(self) -> None:
        self.now, self.pauses = 1000.0, list[float]()

    def read(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)


class FailingStore:
    """A folder store whose next `num_failures` operations fail; iterators do so once `after` items have come."""

    def __init__(self, root: Path) -> None:
        self.inner, self.num_failures, self.after, self.calls = FolderStore(root, create=True), 0, 0, list[str]()

    url = "file:///somewhere"

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if self.num_failures:
            self.num_failures -= 1
            raise StoreError("the store is away", got=name, expected="a store", todo="Wait.")

    def put_bytes(self, key: str, data: bytes, *, media_type: str = "") -> None:
        self._step(f"put_bytes as {media_type}")
        self.inner.put_bytes(key, data)

    def put_file(self, key: str, path: Path, *, media_type: str = "", hand_over: bool = False) -> None:
        self._step(f"put_file as {media_type}")
        self.inner.put_file(key, path)

    def get_bytes(self, key: str) -> bytes:
        self._step("get_bytes")
        return self.inner.get_bytes(key)

    def get_file(self, key: str, path: Path) -> None:
        self._step("get_file")
        self.inner.get_file(key, path)

    def size(self, key: str) -> int | None:
        self._step("size")
        return self.inner.size(key)

    def delete(self, key: str) -> None:
        self._step("delete")
        self.inner.delete(key)

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if self.inner.size(key) is None:
            raise ObjectMissingError("the store has no such object", got=key)
        data = b"".join(self.inner.read(key, start=start, length=length))
        return self._failing_after([data[at : at + 7] for at in range(0, len(data), 7)])

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        self.calls.append(f"list after {after!r}")
        num_before = sum(entry.key <= after for entry in self.inner.list(prefix))
        return self._failing_after(self.inner.list(prefix, after=after), num_before=num_before)

    def copy(self, source_key: str, target_key: str) -> None:
        self._step("copy")
        self.inner.copy(source_key, target_key)

    def begin_upload(self, key: str, *, num_bytes: int, media_type: str = "") -> MultipartUpload:
        self._step("begin_upload")
        return self.inner.begin_upload(key, num_bytes=num_bytes, media_type=media_type)

    def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> None:
        self._step("put_part")
        self.inner.put_part(key, upload_id, number, data)

    def parts(self, key: str, upload_id: str) -> tuple[StoredPart, ...]:
        self._step("parts")
        return self.inner.parts(key, upload_id)

    def complete_upload(self, key: str, upload_id: str, *, num_bytes: int) -> None:
        self._step("complete_upload")
        self.inner.complete_upload(key, upload_id, num_bytes=num_bytes)

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._step("abort_upload")
        self.inner.abort_upload(key, upload_id)

    def _failing_after(self, items: Iterable[Item], *, num_before: int = 0) -> Iterator[Item]:
        for number, item in enumerate(items, num_before):
            if number == self.after:
                self._step("item")
            yield item


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def failing(tmp_path: Path) -> FailingStore:
    store = FailingStore(tmp_path / "store")
    for key in ("a", "b", "c", "d"):
        store.inner.put_bytes(key, DATA)
    return store


@pytest.fixture
def patient(failing: FailingStore, watch: Watch) -> PatientStore:
    return PatientStore(failing, patience_s=60.0, clock=watch.read, pause=watch.pause)


def test_every_operation_outlives_failures(patient: PatientStore, failing: FailingStore, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"from a file")
    upload, other = (failing.inner.begin_upload("parts", num_bytes=3).id for _ in range(2))
    operations = {
        "put_bytes": lambda: patient.put_bytes("new", b"1", media_type="text/plain"),
        "put_file": lambda: patient.put_file("file", tmp_path / "up", media_type="text/html"),
        "get_bytes": lambda: patient.get_bytes("new"),
        "get_file": lambda: patient.get_file("file", tmp_path / "down"),
        "size": lambda: patient.size("new"),
        "delete": lambda: patient.delete("a"),
        "copy": lambda: patient.copy("file", "copy"),
        "begin_upload": lambda: patient.begin_upload("new", num_bytes=3),
        "put_part": lambda: patient.put_part("parts", upload, 1, b"abc"),
        "parts": lambda: patient.parts("parts", upload),
        "complete_upload": lambda: patient.complete_upload("parts", upload, num_bytes=3),
        "abort_upload": lambda: patient.abort_upload("parts", other),
    }
    answers = {}
    for name, operation in operations.items():
        failing.num_failures = 3
        failing.calls.clear()
        answers[name] = operation()
        assert len(failing.calls) == 4

    assert answers["get_bytes"] == b"1"
    assert answers["size"] == 1
    assert (tmp_path / "down").read_bytes() == b"from a file"
    assert answers["parts"] == (StoredPart(number=1, num_bytes=3),)
    assert patient.get_bytes("parts") == b"abc"
    assert [entry.key for entry in patient.list("")] == ["b", "c", "copy", "d", "file", "new", "parts"]
    assert patient.url == failing.url


def test_the_kind_of_an_object_is_handed_on(patient: PatientStore, failing: FailingStore, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"")
    patient.put_bytes("x", b"", media_type="text/plain")
    patient.put_file("y", tmp_path / "up", media_type="text/html")

    assert failing.calls == ["put_bytes as text/plain", "put_file as text/html"]


def test_pauses_grow_up_to_a_bound_and_end_with_patience(
    patient: PatientStore, failing: FailingStore, watch: Watch
) -> None:
    failing.num_failures = 1000

    with pytest.raises(StoreError, match="the store is away, tried for 60 s") as caught:
        patient.get_bytes("a")

    assert (caught.value.got, caught.value.expected, caught.value.todo) == ("get_bytes", "a store", "Wait.")
    assert sum(watch.pauses) == pytest.approx(60.0)
    assert all(later >= earlier for earlier, later in zip(watch.pauses[:-2], watch.pauses[1:-1], strict=True))
    assert watch.pauses[0] < 1 < max(watch.pauses) == LONGEST_PAUSE_S


def test_patience_begins_anew_with_every_operation(patient: PatientStore, failing: FailingStore, watch: Watch) -> None:
    for _ in range(5):
        failing.num_failures = 8  # takes 26 s
        assert patient.get_bytes("a") == DATA

    assert watch.now > 1060.0


def test_without_patience_the_first_failure_is_the_last(failing: FailingStore, watch: Watch) -> None:
    failing.num_failures = 1

    with pytest.raises(StoreError, match="away"):
        PatientStore(failing, patience_s=0.0, clock=watch.read, pause=watch.pause).get_bytes("a")

    assert watch.pauses == []
    with pytest.raises(InvalidOptionError, match="patience_s"):
        PatientStore(failing, patience_s=-1.0)


def test_a_missing_object_and_a_refused_key_are_not_waited_for(
    patient: PatientStore, watch: Watch, tmp_path: Path
) -> None:
    for operation in (patient.get_bytes, patient.read, lambda key: patient.get_file(key, tmp_path / "down")):
        with pytest.raises(ObjectMissingError):
            operation("nothing")
        with pytest.raises(InvalidOptionError):
            operation("../up")

    assert watch.pauses == []


@pytest.mark.parametrize("after", [0, 1, 5, 14])
def test_reading_goes_on_after_a_failure_without_repeating_a_byte(
    after: int, patient: PatientStore, failing: FailingStore
) -> None:
    failing.after = after
    for start, length in ((0, None), (1, None), (1, 99)):
        failing.num_failures = 2

        assert b"".join(patient.read("a", start=start, length=length)) == DATA[start:]
        assert failing.num_failures == 0


def test_reading_that_fails_again_and_again_but_gets_on_is_not_given_up(
    patient: PatientStore, failing: FailingStore, watch: Watch
) -> None:
    chunks = patient.read("a")
    taken = []
    for failing.after in range(15):
        failing.num_failures = 8
        taken.append(next(chunks))

    assert b"".join(taken) == DATA
    assert watch.now > 1200.0


def test_an_object_replaced_between_two_tries_is_never_read_as_a_mixture(
    patient: PatientStore, failing: FailingStore
) -> None:
    failing.after = 3
    for other in (DATA[::-1], DATA[:10], b""):
        failing.inner.put_bytes("a", DATA)
        chunks = patient.read("a")
        for _ in range(3):
            next(chunks)
        failing.num_failures = 1
        failing.inner.put_bytes("a", other)
        # The chunks of the first try are at hand; only its failure makes the second one see the new object.

        with pytest.raises(StoreError, match="replaced while it was read"):
            list(chunks)


def test_an_object_deleted_between_two_tries_is_missing(patient: PatientStore, failing: FailingStore) -> None:
    chunks = patient.read("a")
    failing.num_failures = 1
    failing.inner.delete("a")

    with pytest.raises(ObjectMissingError):
        next(chunks)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_listing_goes_on_after_a_failure_without_repeating_an_object(
    after: int, patient: PatientStore, failing: FailingStore
) -> None:
    failing.after, failing.num_failures = after, 2

    assert [entry.key for entry in patient.list("")] == ["a", "b", "c", "d"]
    assert failing.num_failures == 0


def test_a_listing_goes_on_where_it_failed(patient: PatientStore, failing: FailingStore) -> None:
    failing.after, failing.num_failures = 2, 1

    assert [entry.key for entry in patient.list("", after="a")] == ["b", "c", "d"]
    assert [call for call in failing.calls if call.startswith("list")] == ["list after 'a'", "list after 'b'"]


def test_a_listing_that_keeps_failing_is_given_up(patient: PatientStore, failing: FailingStore) -> None:
    failing.after, failing.num_failures = 2, 1000
    entries = patient.list("")

    assert [next(entries).key, next(entries).key] == ["a", "b"]
    with pytest.raises(StoreError, match="tried for 60 s"):
        next(entries)
