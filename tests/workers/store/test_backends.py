"""What is particular to one store: opening it, and how it fails."""

import errno
import os
import socket
import time
import uuid
from pathlib import Path

import boto3
import pytest

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import StoreError
from workers.store.folder import FolderStore
from workers.store.open import open_store


@pytest.mark.parametrize(
    "url",
    ["", "folder", "./folder", "file://host/folder", "file:folder", "s3://", "s3:///a", "http://a/b", "s3://b?x=1"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidOptionError, match="not the address of a store"):
        open_store(url)


def test_a_path_and_its_file_url_are_the_same_store(tmp_path: Path) -> None:
    root = tmp_path / "größer als 100%"
    by_path = open_store(str(root), create=True)
    by_path.put_bytes("object", b"1")

    assert open_store(by_path.url).get_bytes("object") == b"1"
    assert by_path.url.startswith("file:///")


def test_a_missing_folder_is_an_error_and_not_an_empty_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder does not exist"):
        open_store(str(tmp_path / "nothing"))


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError):
        open_store(str(tmp_path / "file" / "folder"), create=True)


def test_what_a_dead_writer_left_is_never_listed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put_bytes("object", b"1")
    (tmp_path / ".partial" / "left").write_bytes(b"half of it")

    assert [entry.key for entry in store.list("")] == ["object"]
    assert [entry.key for entry in store.list(".")] == []


@pytest.mark.parametrize("name", ["back\\slash", "new\nline", b"not utf-8 \xff"])
def test_what_others_put_into_a_folder_under_no_key_is_told_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str | bytes
) -> None:
    store = FolderStore(tmp_path)
    for key in ("a/before", "a/z-behind"):
        store.put_bytes(key, b"1")
    (tmp_path / "a" / os.fsdecode(name)).touch()

    assert [entry.key for entry in store.list("a/")] == ["a/before", "a/z-behind"]
    assert repr(os.fsdecode(name))[1:-1] in caplog.text


def test_what_others_put_into_a_bucket_under_no_key_is_told_and_left_out(
    moto_path_environment: str, caplog: pytest.LogCaptureFixture
) -> None:
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    store = open_store(f"s3://{bucket}/team", create=True)
    store.put_bytes("a/object", b"1")
    client = boto3.client("s3", endpoint_url=moto_path_environment)
    for key in ("team/a/", "team/a//b", "team/a/\\", "team/z"):
        client.put_object(Bucket=bucket, Key=key)

    assert [entry.key for entry in store.list("")] == ["a/object", "z"]
    assert [record.args for record in caplog.records] == [("a/",), ("a//b",), ("a/\\",)]


def test_a_folder_is_read_when_its_turn_has_come(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for key in ("a/1", "b/1", "c/1"):
        store.put_bytes(key, b"1")
    listed = store.list("")
    assert next(listed).key == "a/1"

    store.put_bytes("c/2", b"1")  # into a folder that is read later: nothing of it is in memory
    store.delete("b/1")

    assert [entry.key for entry in listed] == ["c/1", "c/2"]


def test_folders_that_hold_nothing_of_a_list_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path)
    for key in ("a/x/1", "b/x/1", "b/y/1", "b/y/2", "c/x/1"):
        store.put_bytes(key, b"1")
    read, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: read.append(str(Path(path).relative_to(tmp_path))) or scandir(path))

    assert [entry.key for entry in store.list("b/", after="b/y/1")] == ["b/y/2"]
    assert read == ["b", "b/y"]


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store", create=True)
    store.put_bytes("a/1", b"1")
    (tmp_path / "store" / "b").symlink_to(tmp_path, target_is_directory=True)

    assert [entry.key for entry in store.list("")] == ["a/1"]


def test_what_a_dead_writer_left_is_swept_away_after_a_day(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.sweep()
    store.put_bytes("object", b"1")
    for name, age_s in (("old", 90_000.0), ("new", 3_600.0)):
        (tmp_path / ".partial" / name).touch()
        os.utime(tmp_path / ".partial" / name, (time.time() - age_s,) * 2)
    store.sweep()

    assert [path.name for path in (tmp_path / ".partial").iterdir()] == ["new"]
    assert store.get_bytes("object") == b"1"


def test_a_copy_is_new_and_its_source_as_old_as_before(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put_bytes("source", b"1")
    os.utime(tmp_path / "source", (1e9, 1e9))
    store.copy("source", "copy")

    ages = {entry.key: entry.modified_at for entry in store.list("")}
    assert ages["source"] == 1e9
    assert ages["copy"] > time.time() - 60


@pytest.mark.parametrize("linked", [True, False])
def test_a_file_that_is_handed_over_becomes_the_object_and_its_name_may_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    if not linked:
        monkeypatch.setattr(os, "link", refuse)
    store, given = FolderStore(tmp_path / "objects", create=True), tmp_path / "given"
    given.write_bytes(b"bytes")
    os.utime(given, (1e9, 1e9))
    store.put_bytes("object", b"what was there before")
    for _ in range(2):
        store.put_file("object", given, hand_over=True)
    assert given.samefile(store.local_path("object")) is linked
    given.unlink()
    assert store.get_bytes("object") == b"bytes"
    (entry,) = store.list("")
    assert entry.modified_at > time.time() - 60
    assert list((tmp_path / "objects" / ".partial").iterdir()) == []


def test_a_failing_write_leaves_the_object_and_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path)
    store.put_bytes("object", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        store.put_bytes("object", b"new")

    assert store.get_bytes("object") == b"old"
    assert list((tmp_path / ".partial").iterdir()) == []


def test_folders_that_hold_nothing_any_more_are_removed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for key in ("a/b/1", "a/c/d/1"):
        store.put_bytes(key, b"1")

    store.delete("a/c/d/1")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    store.delete("a/b/1")
    assert [path.name for path in tmp_path.iterdir()] == [".partial"]
    store.put_bytes("a", b"1")


def test_a_folder_that_is_removed_under_a_writer_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, replace, removed = FolderStore(tmp_path), Path.replace, []

    def after_a_delete(partial: Path, path: Path) -> Path:
        if not removed:
            path.parent.rmdir()
            removed.append(path.parent)
        return replace(partial, path)

    monkeypatch.setattr(Path, "replace", after_a_delete)
    store.put_bytes("a/b/1", b"1")

    assert removed == [tmp_path / "a" / "b"]
    assert store.get_bytes("a/b/1") == b"1"


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a")])
def test_a_folder_store_says_why_a_key_cannot_continue_another(tmp_path: Path, first: str, second: str) -> None:
    store = FolderStore(tmp_path)
    store.put_bytes(first, b"1")

    with pytest.raises(StoreError, match="another object's key"):
        store.put_bytes(second, b"2")
    assert [entry.key for entry in store.list("")] == [first]


def test_a_missing_bucket_is_named(s3_environment: str) -> None:
    with pytest.raises(StoreError, match="no such bucket") as caught:
        open_store("s3://never-made", endpoint_url=s3_environment)
    assert caught.value.got == "never-made"


def test_making_a_bucket_that_exists_is_fine(s3_environment: str) -> None:
    open_store("s3://made-twice", endpoint_url=s3_environment, create=True).put_bytes("a", b"1")

    assert open_store("s3://made-twice", endpoint_url=s3_environment, create=True).get_bytes("a") == b"1"


def test_a_wrong_secret_is_an_access_error_that_does_not_tell_it(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")

    with pytest.raises(StoreError, match="refused access") as caught:
        open_store("s3://bucket", endpoint_url=s3_environment, create=True)
    assert "not-the-secret" not in str(caught.value)


def test_missing_credentials_say_what_to_set(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID"):
        open_store("s3://bucket", endpoint_url=s3_environment)


def test_a_server_that_is_not_there_is_a_store_error(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"

        with pytest.raises(StoreError, match="endpoint is right"):
            open_store("s3://bucket", endpoint_url=address)
