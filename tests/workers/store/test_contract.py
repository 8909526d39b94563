"""One suite for every store: what a caller may rely on whichever it was given."""

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import ObjectMissingError
from workers.store.open import open_store
from workers.store.protocol import Store

UNSAFE_KEYS = ["", "/a", "../a", "a/../b", "a/..", ".", "a/./b", "a//b", "a/", "a\0b", "a\nb", "a\\b", ".partial/a"]
LARGE_BYTES = 20_000_000


def sizes(store: Store) -> dict[str, int]:
    return {entry.key: entry.num_bytes for entry in store.list("")}


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000], ids=len)
def test_bytes_come_back_as_they_went(store: Store, data: bytes) -> None:
    store.put_bytes("datasets/abc/report.json", data, media_type="application/json")

    assert store.get_bytes("datasets/abc/report.json") == data
    assert store.size("datasets/abc/report.json") == len(data)
    assert b"".join(store.read("datasets/abc/report.json")) == data


@pytest.mark.parametrize("key", ["plain", "a b/c+d/e%20f", "größe/汉字.png", "dots..in/.name", "a" * 255])
def test_any_safe_key_is_taken_as_it_is(store: Store, key: str) -> None:
    store.put_bytes(key, b"1")

    assert store.get_bytes(key) == b"1"
    assert [entry.key for entry in store.list("")] == [key]


def test_a_large_file_goes_up_and_comes_down_in_parts(store: Store, tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(LARGE_BYTES)
    (tmp_path / "up").write_bytes(data)

    store.put_file("large", tmp_path / "up")
    store.get_file("large", tmp_path / "down")
    chunks = list(store.read("large"))

    assert hashlib.sha256((tmp_path / "down").read_bytes()).digest() == hashlib.sha256(data).digest()
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= 1 << 20
    assert store.size("large") == LARGE_BYTES


def test_a_range_is_what_slicing_gives(store: Store) -> None:
    data = b"0123456789"
    store.put_bytes("object", data)

    for start, length in ((0, 0), (0, 3), (3, 4), (3, None), (9, 1), (9, 100), (10, None), (10, 5), (50, None)):
        end = None if length is None else start + length
        assert b"".join(store.read("object", start=start, length=length)) == data[start:end]


def test_a_negative_range_is_refused(store: Store) -> None:
    with pytest.raises(InvalidOptionError, match="negative"):
        store.read("object", start=-1)
    with pytest.raises(InvalidOptionError, match="negative"):
        store.read("object", length=-1)


def test_a_missing_object_is_told_at_once(store: Store, tmp_path: Path) -> None:
    store.put_bytes("there/object", b"1")

    for missing in ("nothing", "there", "there/object/below", "there/other"):
        assert store.size(missing) is None
        with pytest.raises(ObjectMissingError, match="no such object"):
            store.get_bytes(missing)
        with pytest.raises(ObjectMissingError, match="no such object"):
            store.read(missing)
        with pytest.raises(ObjectMissingError, match="no such object"):
            store.get_file(missing, tmp_path / "file")
        assert not (tmp_path / "file").exists()


def test_a_later_write_replaces_the_object(store: Store, tmp_path: Path) -> None:
    store.put_bytes("object", b"first, and longer")
    store.put_bytes("object", b"second")
    assert store.get_bytes("object") == b"second"

    (tmp_path / "file").write_bytes(b"third, longest of them all")
    store.put_file("object", tmp_path / "file")
    assert store.get_bytes("object") == b"third, longest of them all"
    assert sizes(store) == {"object": 26}


def test_listing_is_by_prefix_and_in_the_order_of_keys(store: Store) -> None:
    for key in ("ab", "b/2", "a-b", "ä", "b/10", "a/b-c/d", "a/c/c"):
        store.put_bytes(key, key.encode())
    keys = ["a-b", "a/b-c/d", "a/c/c", "ab", "b/10", "b/2", "ä"]

    assert [entry.key for entry in store.list("")] == keys
    assert [entry.key for entry in store.list("a")] == ["a-b", "a/b-c/d", "a/c/c", "ab"]
    assert [entry.key for entry in store.list("a/")] == ["a/b-c/d", "a/c/c"]
    assert [entry.key for entry in store.list("a/b")] == ["a/b-c/d"]
    assert [entry.key for entry in store.list("b/1")] == ["b/10"]
    assert list(store.list("nothing/")) == []
    assert sizes(store) == {key: len(key.encode()) for key in keys}


def test_the_order_of_keys_is_that_of_their_bytes_however_they_branch(store: Store) -> None:
    keys = [
        *("a b/c", "a!", "a+/b", "a-b", "a.b", "a/b", "a0", "ab/c/d", "ab/c0", "ab0"),
        *("b/b-b/b", "b/b/b", "b/b/b-b", "b/b0/b", "b0/b"),
        *("\u00e9/1", "\uffee/1", "\uffee1", "\U0001f600/1"),  # UTF-16 would have the last one before these
    ]
    for key in reversed(keys):
        store.put_bytes(key, b"1")

    assert [entry.key for entry in store.list("")] == sorted(keys, key=str.encode)
    for number, key in enumerate(sorted(keys)):
        assert [entry.key for entry in store.list("", after=key)] == sorted(keys)[number + 1 :]


def test_a_version_tells_one_content_from_another(store: Store) -> None:
    store.put_bytes("object", b"first")
    first, again = (entry.version for _ in range(2) for entry in store.list(""))
    store.put_bytes("object", b"other")
    (other,) = (entry.version for entry in store.list(""))

    assert first == again != other
    assert "" not in {first, other}


def test_a_listing_goes_on_behind_a_key(store: Store) -> None:
    for key in ("a-b", "a/b-c/d", "a/c/c", "ab", "b/10", "ä"):
        store.put_bytes(key, b"1")

    assert [entry.key for entry in store.list("", after="a/c")] == ["a/c/c", "ab", "b/10", "ä"]
    assert [entry.key for entry in store.list("", after="ab")] == ["b/10", "ä"]
    assert [entry.key for entry in store.list("a/", after="a/b-c/d")] == ["a/c/c"]
    assert [entry.key for entry in store.list("a/", after="Z")] == ["a/b-c/d", "a/c/c"]
    assert list(store.list("a/", after="b")) == []
    assert list(store.list("", after="ä")) == []


def test_a_listing_of_more_than_a_page_is_whole(store: Store) -> None:
    keys = [f"many/{number:04d}" for number in range(1_050)]  # S3 names 1,000 at once
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put_bytes(key, b""), keys))

    assert [entry.key for entry in store.list("many/")] == keys
    assert [entry.key for entry in store.list("many/", after="many/0020")] == keys[21:]


def test_an_object_tells_when_it_was_written(store: Store, tmp_path: Path) -> None:
    begun_at = time.time()
    store.put_bytes("object", b"1")
    store.copy("object", "copy")

    for entry in store.list(""):
        assert begun_at - 2 < entry.modified_at < time.time() + 2  # S3 tells whole seconds


def test_a_deleted_object_is_gone_and_deleting_nothing_is_fine(store: Store) -> None:
    store.put_bytes("a/b", b"1")
    store.put_bytes("a/c", b"1")

    for key in ("a/b", "a/b", "never/was"):
        store.delete(key)

    assert [entry.key for entry in store.list("")] == ["a/c"]


def test_an_object_is_a_file_of_this_machine_or_none(store: Store) -> None:
    store.put_bytes("a/object", b"bytes")
    path = store.local_path("a/object")
    assert path is None or path.read_bytes() == b"bytes"
    if path is not None:
        with pytest.raises(ObjectMissingError):
            store.local_path("a/nothing")


def test_a_copy_is_an_object_of_its_own(store: Store) -> None:
    store.put_bytes("a/source", b"first")
    store.put_bytes("b/target", b"to be replaced")
    for target in ("b/target", "b/copy"):
        store.copy("a/source", target)
        assert store.get_bytes(target) == b"first"

    store.put_bytes("a/source", b"second")
    store.delete("b/copy")

    assert store.get_bytes("b/target") == b"first"
    assert sizes(store) == {"a/source": 6, "b/target": 5}


def test_what_is_missing_cannot_be_copied(store: Store) -> None:
    with pytest.raises(ObjectMissingError, match="no such object"):
        store.copy("nothing", "target")
    assert list(store.list("")) == []


def test_unsafe_keys_are_refused_by_every_method(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    calls: tuple[Callable[[str], object], ...] = (
        lambda key: store.put_bytes(key, b"1"),
        lambda key: store.put_file(key, tmp_path / "file"),
        store.get_bytes,
        lambda key: store.get_file(key, tmp_path / "copy"),
        store.read,
        store.size,
        store.delete,
        lambda key: store.copy(key, "target"),
        lambda key: store.copy("source", key),
        lambda key: store.presigned_get(key, expires_s=60, filename="file", media_type="text/plain"),
        lambda key: store.begin_upload(key, num_bytes=1),
        lambda key: store.presigned_part(key, "0" * 32, 1, num_bytes=3, expires_s=60),
        lambda key: store.put_part(key, "0" * 32, 1, b"1"),
        lambda key: store.parts(key, "0" * 32),
        lambda key: store.complete_upload(key, "0" * 32, num_bytes=1),
        lambda key: store.abort_upload(key, "0" * 32),
    )
    store.put_bytes("source", b"1")
    for key in UNSAFE_KEYS:
        for call in calls:
            with pytest.raises(InvalidOptionError, match="unsafe store key"):
                call(key)
    assert sizes(store) == {"source": 1}


def test_unsafe_prefixes_are_refused(store: Store) -> None:
    for prefix in ("/", "../", "a/../", "a//", "a\0", ".partial/"):
        with pytest.raises(InvalidOptionError, match="unsafe store key"):
            list(store.list(prefix))
        with pytest.raises(InvalidOptionError, match="unsafe store key"):
            list(store.list("", after=prefix))


def test_readers_of_an_object_that_is_being_replaced_see_the_old_or_the_new_one(store: Store) -> None:
    payloads = [bytes([value]) * 300_000 for value in range(20)]
    store.put_bytes("object", payloads[0])
    written = Event()

    def read(_: int) -> bool:
        whole = True
        while not written.is_set():
            whole = whole and store.get_bytes("object") in payloads
            whole = whole and b"".join(store.read("object")) in payloads
            whole = whole and [(entry.key, entry.num_bytes) for entry in store.list("")] == [("object", 300_000)]
        return whole

    with ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(read, number) for number in range(4)]
        try:
            for data in payloads:
                store.put_bytes("object", data)
        finally:
            written.set()

    assert all(done.result() for done in reads)
    assert store.get_bytes("object") == payloads[-1]


def test_concurrent_writers_of_different_objects_do_not_disturb_each_other(store: Store) -> None:
    def write(writer: int) -> None:
        for number in range(10):
            store.put_bytes(f"{number}/of/{writer}", bytes([writer, number]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))

    keys = [f"{number}/of/{writer}" for number in range(10) for writer in range(8)]
    assert [entry.key for entry in store.list("")] == keys
    assert all(store.get_bytes(key) == bytes([int(key[-1]), int(key[0])]) for key in keys)


def test_the_url_opens_the_same_store_and_holds_no_secret(store: Store) -> None:
    store.put_bytes("object", b"1")

    again = open_store(store.url)

    assert again.get_bytes("object") == b"1"
    assert again.url == store.url
    assert os.environ.get("AWS_SECRET_ACCESS_KEY", "no secret") not in store.url
