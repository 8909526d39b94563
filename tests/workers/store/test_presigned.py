"""Addresses that a store signs for others. Only the real server checks what they permit; moto checks nothing."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from search_spaces.errors import InvalidOptionError
from workers.store.open import open_store
from workers.store.protocol import Store

DATA = bytes(range(256)) * 4


@pytest.fixture
def anyone() -> Iterator[httpx.Client]:
    """Somebody without a key."""
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture
def signed_store(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store on the server that checks what it is shown."""
    monkeypatch.setenv("ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL", s3_environment.replace("127.0.0.1", "localhost"))
    return open_store(f"s3://bucket-{uuid.uuid4().hex[:12]}", create=True)


def link(store: Store, key: str = "a b/größe.bin", *, expires_s: int = 60) -> str:
    address = store.presigned_get(key, expires_s=expires_s, filename="model.onnx", media_type="application/x-model")
    assert address is not None
    return address


def test_a_link_gives_the_object_under_its_name_to_anyone(public_store: Store, anyone: httpx.Client) -> None:
    public_store.put_bytes("a b/größe.bin", DATA)

    address = link(public_store)
    answer = anyone.get(address)

    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="model.onnx"'
    assert answer.headers["Content-Type"] == "application/x-model"
    assert httpx.URL(address).host.endswith("localhost")
    assert "archprior-tests-secret" not in address


def test_a_link_gives_ranges(public_store: Store, anyone: httpx.Client) -> None:
    public_store.put_bytes("a b/größe.bin", DATA)

    answer = anyone.get(link(public_store), headers={"Range": "bytes=100-199"})

    assert answer.content == DATA[100:200]
    assert answer.status_code in {200, 206}  # `rclone serve s3` says 200
    assert answer.headers["Content-Range"] == "bytes 100-199/1024"


def test_parts_go_up_by_links(public_store: Store, anyone: httpx.Client) -> None:
    upload = public_store.begin_upload("up", num_bytes=len(DATA)).id
    address = public_store.presigned_part("up", upload, 1, num_bytes=len(DATA), expires_s=60)
    assert address is not None

    for _ in range(2):
        anyone.put(address, content=DATA).raise_for_status()
    public_store.complete_upload("up", upload, num_bytes=len(DATA))

    assert public_store.get_bytes("up") == DATA


@pytest.mark.parametrize("body", [b"abcd", b"ab", [b"abc"]], ids=["longer", "shorter", "of a size it does not tell"])
def test_a_link_takes_a_part_of_its_size_only(
    signed_store: Store, anyone: httpx.Client, body: bytes | list[bytes]
) -> None:
    upload = signed_store.begin_upload("up", num_bytes=3).id
    address = signed_store.presigned_part("up", upload, 1, num_bytes=3, expires_s=60)
    assert address is not None

    assert anyone.put(address, content=body).status_code in {400, 403}
    assert signed_store.parts("up", upload) == ()
    anyone.put(address, content=b"abc").raise_for_status()
    signed_store.complete_upload("up", upload, num_bytes=3)

    assert signed_store.get_bytes("up") == b"abc"


def test_what_a_server_takes_that_heeds_no_signed_size_makes_no_object(
    public_store: Store, anyone: httpx.Client
) -> None:
    upload = public_store.begin_upload("up", num_bytes=3).id
    address = public_store.presigned_part("up", upload, 1, num_bytes=3, expires_s=60)
    assert address is not None
    anyone.put(address, content=b"more than that")  # moto takes it

    with pytest.raises(InvalidOptionError, match="not whole"):
        public_store.complete_upload("up", upload, num_bytes=3)
    assert public_store.size("up") is None


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_link_is_for_one_method(signed_store: Store, anyone: httpx.Client, method: str) -> None:
    signed_store.put_bytes("object", DATA)

    answer = anyone.request(method, link(signed_store, "object"), content=b"mine" if method == "PUT" else None)

    assert answer.status_code in {400, 403}
    assert signed_store.get_bytes("object") == DATA


def test_a_link_is_for_one_object_and_one_part(signed_store: Store, anyone: httpx.Client) -> None:
    for key in ("object", "secret"):
        signed_store.put_bytes(key, DATA)
    upload = signed_store.begin_upload("up", num_bytes=3).id
    address = signed_store.presigned_part("up", upload, 1, num_bytes=3, expires_s=60)
    assert address is not None

    assert anyone.get(link(signed_store, "object").replace("/object?", "/secret?")).status_code in {400, 403}
    assert anyone.get(link(signed_store, "object").partition("?")[0]).status_code in {400, 403}
    assert anyone.put(address.replace("partNumber=1", "partNumber=2"), content=b"abc").status_code in {400, 403}
    assert signed_store.parts("up", upload) == ()


def test_a_link_expires(signed_store: Store, anyone: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    signed_store.put_bytes("object", DATA)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_: hour_ago.replace(tzinfo=None))

    assert anyone.get(link(signed_store, "object", expires_s=3_000)).status_code in {400, 403}
    assert anyone.get(link(signed_store, "object", expires_s=5_000)).status_code == 200
