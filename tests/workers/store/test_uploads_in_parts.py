"""Objects that arrive in parts, in every store."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import ObjectMissingError, StoreError
from workers.store.folder import FolderStore
from workers.store.multipart import MAX_PARTS, PART_BYTES, StoredPart, check_whole, exceed, part_bytes_of
from workers.store.protocol import Store

GIB = 1 << 30
DATA = np.random.default_rng(0).bytes(PART_BYTES + 1000)
PARTS = (DATA[:PART_BYTES], DATA[PART_BYTES:])


def begin(store: Store) -> str:
    upload = store.begin_upload("a/large", num_bytes=len(DATA), media_type="application/zip")
    assert upload.part_bytes == PART_BYTES
    return upload.id


def test_parts_in_any_order_make_the_object(store: Store) -> None:
    store.put_bytes("a/large", b"what was there before")
    upload = begin(store)
    store.put_part("a/large", upload, 2, PARTS[1])
    assert store.parts("a/large", upload) == (StoredPart(number=2, num_bytes=1000),)
    store.put_part("a/large", upload, 1, PARTS[0])

    assert store.get_bytes("a/large") == b"what was there before"
    store.complete_upload("a/large", upload, num_bytes=len(DATA))

    assert store.get_bytes("a/large") == DATA
    assert [entry.key for entry in store.list("")] == ["a/large"]


def test_a_part_may_be_sent_again(store: Store) -> None:
    upload = begin(store)
    for number, data in ((1, PARTS[0]), (2, PARTS[1]), (2, PARTS[1])):
        store.put_part("a/large", upload, number, data)

    assert [part.num_bytes for part in store.parts("a/large", upload)] == [PART_BYTES, 1000]
    store.complete_upload("a/large", upload, num_bytes=len(DATA))
    assert store.get_bytes("a/large") == DATA


def test_a_part_may_be_a_file(store: Store, tmp_path: Path) -> None:
    upload = begin(store)
    for number, data in enumerate(PARTS, 1):
        (tmp_path / "part").write_bytes(data)
        store.put_part("a/large", upload, number, tmp_path / "part")
        (tmp_path / "part").unlink()

    store.complete_upload("a/large", upload, num_bytes=len(DATA))
    assert store.get_bytes("a/large") == DATA


def test_what_is_not_whole_is_refused_and_can_be_mended(store: Store) -> None:
    upload = begin(store)
    with pytest.raises(InvalidOptionError, match="2 of its parts missing"):
        store.complete_upload("a/large", upload, num_bytes=len(DATA))
    store.put_part("a/large", upload, 1, PARTS[0])
    with pytest.raises(InvalidOptionError, match="1 of its parts missing or of another size") as caught:
        store.complete_upload("a/large", upload, num_bytes=len(DATA))
    assert caught.value.got == "numbers 2"
    assert store.size("a/large") is None

    store.put_part("a/large", upload, 2, PARTS[1])
    store.complete_upload("a/large", upload, num_bytes=len(DATA))
    assert store.size("a/large") == len(DATA)


def test_a_part_that_was_cut_off_is_no_part(store: Store) -> None:
    upload = store.begin_upload("small", num_bytes=3).id
    store.put_part("small", upload, 1, b"ab")

    with pytest.raises(InvalidOptionError, match="not whole"):
        store.complete_upload("small", upload, num_bytes=3)
    assert store.size("small") is None


def test_completing_twice_is_completing_once(store: Store) -> None:
    upload = store.begin_upload("small", num_bytes=3).id
    store.put_part("small", upload, 1, b"abc")
    for _ in range(2):
        store.complete_upload("small", upload, num_bytes=3)

    assert store.get_bytes("small") == b"abc"
    store.delete("small")
    with pytest.raises(ObjectMissingError, match="no such upload"):
        store.complete_upload("small", upload, num_bytes=3)


def test_an_aborted_upload_is_gone(store: Store) -> None:
    upload = store.begin_upload("small", num_bytes=3).id
    store.put_part("small", upload, 1, b"abc")
    for _ in range(2):
        store.abort_upload("small", upload)

    with pytest.raises(ObjectMissingError, match="no such upload"):
        store.parts("small", upload)
    with pytest.raises(ObjectMissingError, match="no such upload"):
        store.complete_upload("small", upload, num_bytes=3)
    assert list(store.list("")) == []


def test_parts_are_of_one_upload_of_one_key(checked_store: Store) -> None:
    upload, other = (checked_store.begin_upload("mine", num_bytes=3).id for _ in range(2))
    checked_store.abort_upload("mine", other)

    for key, upload_id in (("yours", upload), ("mine", other)):
        with pytest.raises(ObjectMissingError, match="no such upload"):
            checked_store.put_part(key, upload_id, 1, b"abc")
    assert checked_store.parts("mine", upload) == ()


@pytest.mark.parametrize("number", [-1, 0, MAX_PARTS + 1])
def test_a_number_that_no_part_has_is_refused(store: Store, number: int) -> None:
    upload = store.begin_upload("small", num_bytes=3).id
    with pytest.raises(InvalidOptionError, match="number of a part"):
        store.put_part("small", upload, number, b"abc")
    with pytest.raises(InvalidOptionError, match="number of a part"):
        store.presigned_part("small", upload, number, num_bytes=3, expires_s=60)


def test_a_store_without_a_public_address_gives_none(store: Store) -> None:
    store.put_bytes("object", b"1")
    upload = store.begin_upload("small", num_bytes=3).id

    assert store.presigned_get("object", expires_s=60, filename="a.bin", media_type="text/plain") is None
    assert store.presigned_part("small", upload, 1, num_bytes=3, expires_s=60) is None


@pytest.mark.parametrize("upload_id", ["", "..", "../..", "0" * 32, "a" * 31 + "/"])
def test_a_folder_knows_only_its_own_uploads(tmp_path, upload_id: str) -> None:
    store = FolderStore(tmp_path)
    with pytest.raises(ObjectMissingError):
        store.put_part("key", upload_id, 1, b"abc")
    store.abort_upload("key", upload_id)


def test_a_folder_forgets_an_upload_that_got_no_part_for_a_day(tmp_path) -> None:
    store = FolderStore(tmp_path)
    old, new = (store.begin_upload(key, num_bytes=3).id for key in ("old", "new"))
    for key, upload in (("old", old), ("new", new)):
        store.put_part(key, upload, 1, b"abc")
    (left,) = (tmp_path / ".partial").glob(f"{old}*")
    os.utime(left, (left.stat().st_mtime - 90_000,) * 2)

    store.sweep()

    assert len(store.parts("new", new)) == 1
    with pytest.raises(ObjectMissingError):
        store.parts("old", old)


def test_a_folder_keeps_an_upload_that_somebody_still_means_to_complete(tmp_path) -> None:
    store = FolderStore(tmp_path)
    kept, left = (store.begin_upload(key, num_bytes=3).id for key in ("kept", "left"))
    for key, upload in (("kept", kept), ("left", left)):
        store.put_part(key, upload, 1, b"abc")
    for folder in (tmp_path / ".partial").iterdir():
        os.utime(folder, (0, 0))

    store.sweep(keep=[("kept", kept), ("other", left), ("of another store", "2~x/../y")])

    store.complete_upload("kept", kept, num_bytes=3)
    with pytest.raises(ObjectMissingError):
        store.parts("left", left)


def test_a_folder_keeps_nothing_of_a_completed_upload(tmp_path) -> None:
    store = FolderStore(tmp_path)
    upload = store.begin_upload("small", num_bytes=3).id
    store.put_part("small", upload, 1, b"abc")
    store.complete_upload("small", upload, num_bytes=3)

    assert list((tmp_path / ".partial").iterdir()) == []


def test_a_folder_completes_an_upload_that_another_call_is_completing(tmp_path, monkeypatch) -> None:
    store = FolderStore(tmp_path)
    upload = begin(store)
    for number, data in enumerate(PARTS, start=1):
        store.put_part("a/large", upload, number, data)
    remove = shutil.rmtree

    def completed_once_more(folder: Path) -> None:
        (folder / "00001").unlink()
        monkeypatch.setattr(shutil, "rmtree", remove)
        store.complete_upload("a/large", upload, num_bytes=len(DATA))
        remove(folder)

    monkeypatch.setattr(shutil, "rmtree", completed_once_more)
    store.complete_upload("a/large", upload, num_bytes=len(DATA))

    assert store.get_bytes("a/large") == DATA
    assert list((tmp_path / ".partial").iterdir()) == []


def test_a_folder_publishes_nothing_of_parts_that_change_meanwhile(tmp_path, monkeypatch) -> None:
    store = FolderStore(tmp_path)
    upload = store.begin_upload("small", num_bytes=3).id
    store.put_part("small", upload, 1, b"abc")
    seen = store.parts("small", upload)
    store.put_part("small", upload, 1, b"ab")
    monkeypatch.setattr(store, "parts", lambda *_: seen)

    with pytest.raises(StoreError, match="changed its size"):
        store.complete_upload("small", upload, num_bytes=3)
    assert store.size("small") is None
    assert len(list((tmp_path / ".partial").iterdir())) == 1


@pytest.mark.parametrize(
    ("num_bytes", "part_bytes"),
    [(1, PART_BYTES), (PART_BYTES, PART_BYTES), (50 * GIB, PART_BYTES), (MAX_PARTS * PART_BYTES + 1, PART_BYTES + 1)],
)
def test_no_object_has_more_parts_than_s3_takes(num_bytes: int, part_bytes: int) -> None:
    assert part_bytes_of(num_bytes) == part_bytes
    assert -(-num_bytes // part_bytes) <= MAX_PARTS


@pytest.mark.parametrize(
    ("sizes", "is_more"),
    [
        ({}, False),
        ({1: PART_BYTES, 3: 5}, False),
        ({1: 7, 3: 0}, False),
        ({1: PART_BYTES + 1}, True),
        ({3: 6}, True),
        ({4: 0}, True),
    ],
)
def test_more_than_was_said_is_told_from_what_is_missing(sizes: dict[int, int], is_more: bool) -> None:
    parts = [StoredPart(number=number, num_bytes=num_bytes) for number, num_bytes in sizes.items()]
    assert exceed(parts, 2 * PART_BYTES + 5) is is_more


@pytest.mark.parametrize("num_bytes", [0, -1])
def test_nothing_has_no_parts(num_bytes: int) -> None:
    with pytest.raises(InvalidOptionError, match="at least 1 byte"):
        part_bytes_of(num_bytes)


@pytest.mark.parametrize(
    ("sizes", "wrong"),
    [
        ({1: PART_BYTES, 2: PART_BYTES, 3: 5}, None),
        ({1: PART_BYTES, 2: PART_BYTES}, "numbers 3"),
        ({1: PART_BYTES, 3: 5}, "numbers 2"),
        ({1: PART_BYTES, 2: 5, 3: PART_BYTES}, "numbers 2, 3"),
        ({1: PART_BYTES, 2: PART_BYTES, 3: 5, 4: 0}, "numbers 4"),
        (dict.fromkeys(range(4, 20), 1), "numbers 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ..."),
    ],
)
def test_parts_are_whole_or_the_wrong_ones_are_named(sizes: dict[int, int], wrong: str | None) -> None:
    parts = [StoredPart(number=number, num_bytes=num_bytes) for number, num_bytes in sizes.items()]
    if wrong is None:
        check_whole(parts, 2 * PART_BYTES + 5)
        return
    with pytest.raises(InvalidOptionError, match="not whole") as caught:
        check_whole(parts, 2 * PART_BYTES + 5)
    assert caught.value.got == wrong
