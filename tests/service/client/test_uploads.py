"""Datasets in parts: what is sent where, again and anew. The server answers by script, so parts go one by one."""

import hashlib
import json
import threading
import tracemalloc
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from search_spaces.errors import InvalidOptionError
from service.client import ServiceError, ServiceUnreachableError
from service.client.awaiting import AsyncTransport
from service.client.blocking import BlockingTransport, run
from service.client.uploads import NUM_ADDRESSES
from service.schemas import DatasetBegin, DatasetView, Problem, UploadPart, UploadPartPage, UploadView

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PART_BYTES = 1000
DATA = bytes(range(256)) * 10  # three parts, the last of 560 bytes
REFUSED = Problem(title="the dataset cannot be used", status=422, detail="one class only", code="invalid_dataset")


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "digits.zip"
    path.write_bytes(DATA)
    return path


def view(state: str, *, num_bytes: int = len(DATA), **fields: object) -> bytes:
    upload = UploadView(
        part_bytes=PART_BYTES, num_parts=3, num_arrived=0, parts="/v1/datasets/ds1/parts",
        complete="/v1/datasets/ds1/complete", expires_at=NOW + timedelta(days=1),
    )  # fmt: skip
    made = DatasetView.model_validate(
        {"id": "ds1", "name": "digits", "state": state, "num_bytes": num_bytes, "created_at": NOW}
        | {"upload": upload if state == "UPLOADING" else None}
        | fields
    )
    return made.model_dump_json().encode()


def page(*numbers: int, arrived: tuple[int, ...] = (), root: str = "", query: str = "", next_after=None) -> bytes:
    items = tuple(
        UploadPart(
            number=number,
            num_bytes=min(PART_BYTES, len(DATA) - (number - 1) * PART_BYTES),
            href=f"{root}/v1/datasets/ds1/parts/{number}{query}",
            arrived=number in arrived,
        )
        for number in numbers
    )
    return UploadPartPage(items=items, next_after=next_after).model_dump_json().encode()


@pytest.fixture
def script(server, answer):
    """Gives answers by their bodies; a number is an error of that status."""

    def give(*bodies: bytes | int) -> None:
        server.answer(*(answer(status=one) if isinstance(one, int) else answer(body=one) for one in bodies))

    return give


def sent(server) -> list[str]:
    return [f"{one.method} {one.path.removeprefix('/v1/datasets')}" for one in server.requests]


def test_an_archive_is_announced_sent_in_parts_completed_and_waited_for(client, server, script, archive, waits):
    script(view("UPLOADING"), page(1, 2, next_after=2), b"", b"", page(3), b"", view("CHECKING"), view("CHECKING"),
           view("READY"))  # fmt: skip
    told: list[tuple[int, int]] = []
    ready = client.upload_dataset(
        archive, meta_use=True, terms="CC0", num_parallel=1, on_progress=lambda *one: told.append(one), poll_s=0.5
    )
    assert ready.state == "READY"
    assert sent(server) == [
        "POST ", "GET /ds1/parts?after=0", "PUT /ds1/parts/1", "PUT /ds1/parts/2", "GET /ds1/parts?after=2",
        "PUT /ds1/parts/3", "POST /ds1/complete", "GET /ds1", "GET /ds1",
    ]  # fmt: skip
    begun = DatasetBegin.model_validate_json(server.requests[0].head)
    sha256 = hashlib.sha256(DATA).hexdigest()
    assert begun == DatasetBegin(num_bytes=len(DATA), name="digits", sha256=sha256, meta_use=True, terms="CC0")
    assert b"".join(one.head for one in server.requests if one.method == "PUT") == DATA
    assert told == [(1000, 2560), (2000, 2560), (2560, 2560)]
    assert waits == [0.5]


def test_a_part_that_fails_twice_is_sent_again_by_itself(client, server, script, archive, waits):
    script(view("UPLOADING"), page(1, 2, 3), b"", 503, 502, b"", b"", view("CHECKING"), view("READY"))
    told: list[int] = []
    client.upload_dataset(archive, num_parallel=1, on_progress=lambda done, _: told.append(done))
    assert [one for one in sent(server) if one.startswith("PUT")] == [
        f"PUT /ds1/parts/{number}" for number in (1, 2, 2, 2, 3)
    ]
    assert waits == [0.25, 0.5]
    assert told == sorted(set(told))
    assert told[-1] == len(DATA)


def test_a_signed_address_gets_no_headers_of_the_service(connect, server, script, archive):
    script(
        view("UPLOADING"), page(1, 2, 3, root=server.url, query="?X-Amz-Signature=01%2F23"), b"", b"", b"",
        view("READY"), view("READY"),
    )  # fmt: skip
    with connect(server.url, api_key="ap-1234") as client:
        client.upload_dataset(archive, num_parallel=1)
    asked = {one.method: one for one in server.requests}
    assert asked["PUT"].path == "/v1/datasets/ds1/parts/3?X-Amz-Signature=01%2F23"
    assert "Authorization" not in asked["PUT"].headers
    assert asked["PUT"].headers["Content-Length"] == "560"
    assert "Transfer-Encoding" not in asked["PUT"].headers
    assert asked["GET"].headers["Authorization"] == "Bearer ap-1234"


@pytest.mark.parametrize("status", [400, 403])
def test_an_address_whose_time_is_over_is_replaced(client, server, script, archive, status):
    old = page(1, 2, 3, root=server.url, query="?old")
    new = page(2, root=server.url, query="?new")
    script(view("UPLOADING"), old, b"", status, new, b"", b"", view("CHECKING"), view("READY"))
    client.upload_dataset(archive, num_parallel=1)
    assert sent(server)[2:7] == [
        "PUT /ds1/parts/1?old", "PUT /ds1/parts/2?old", "GET /ds1/parts?after=1&limit=1", "PUT /ds1/parts/2?new",
        "PUT /ds1/parts/3?old",
    ]  # fmt: skip


def test_a_store_that_goes_on_refusing_is_told_with_the_way_to_go_on(client, server, script, archive):
    signed = partial(page, root=server.url, query="?sig")
    script(view("UPLOADING"), signed(1, 2, 3), *[403, signed(1)] * NUM_ADDRESSES)
    with pytest.raises(ServiceError, match="the store") as caught:
        client.upload_dataset(archive, num_parallel=1)
    assert caught.value.problem.status == 403
    assert "resume='ds1'" in caught.value.__notes__[0]
    assert len([one for one in sent(server) if one.startswith("PUT")]) == NUM_ADDRESSES


def test_a_service_that_refuses_a_part_is_not_asked_for_another_address(client, server, script, archive):
    script(view("UPLOADING"), page(1, 2, 3), 403)
    with pytest.raises(ServiceError):
        client.upload_dataset(archive, num_parallel=1)
    assert len(server.requests) == 3


def test_what_was_begun_goes_on_with_what_is_missing(client, server, script, archive):
    script(view("UPLOADING"), page(1, 2, 3, arrived=(1, 3)), b"", view("CHECKING"), view("READY"))
    told: list[int] = []
    client.upload_dataset(archive, resume="ds1", num_parallel=1, on_progress=lambda done, _: told.append(done))
    assert sent(server)[:4] == ["GET /ds1", "GET /ds1/parts?after=0", "PUT /ds1/parts/2", "POST /ds1/complete"]
    assert server.requests[2].head == DATA[1000:2000]
    assert told == [1000, 1560, 2560]


@pytest.mark.parametrize("state", ["CHECKING", "READY"])
def test_what_has_arrived_is_only_waited_for(client, server, script, archive, state):
    script(view(state), view("READY"))
    assert client.upload_dataset(archive, resume="ds1").state == "READY"
    assert sent(server) == ["GET /ds1", "GET /ds1"]


def test_another_file_is_not_resumed(client, server, script, archive):
    script(view("UPLOADING", num_bytes=7))
    with pytest.raises(InvalidOptionError, match="not the file of dataset ds1"):
        client.upload_dataset(archive, resume="ds1")
    assert len(server.requests) == 1


def test_an_empty_file_is_refused_at_once(client, server, tmp_path):
    (tmp_path / "empty.zip").touch()
    with pytest.raises(InvalidOptionError, match="empty"):
        client.upload_dataset(tmp_path / "empty.zip")
    assert server.requests == []


def test_why_a_dataset_was_rejected_is_raised(client, script, archive):
    script(view("UPLOADING"), page(1), b"", view("CHECKING"), view("REJECTED", error=REFUSED))
    with pytest.raises(ServiceError, match="one class only") as caught:
        client.upload_dataset(archive, num_parallel=1)
    assert caught.value.problem == REFUSED
    script(view("REJECTED"))
    with pytest.raises(ServiceError, match="dataset ds1 was rejected"):
        client.wait_dataset("ds1")


def test_a_part_is_never_in_memory_as_a_whole(client, server, script, tmp_path):
    size = 64 << 20
    big = tmp_path / "big.zip"
    with big.open("wb") as file:
        file.truncate(size)
    upload = json.loads(view("UPLOADING", num_bytes=size))
    upload["upload"]["part_bytes"] = size
    one = UploadPart(number=1, num_bytes=size, href="/v1/datasets/ds1/parts/1", arrived=False)
    script(json.dumps(upload).encode(), UploadPartPage(items=(one,)).model_dump_json().encode(), b"", view("READY"),
           view("READY"))  # fmt: skip
    tracemalloc.start()
    try:
        client.upload_dataset(big)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert server.requests[2].num_bytes == size
    assert peak_bytes < size / 8


def test_a_file_that_becomes_shorter_is_told(client, script, archive):
    begun = json.loads(view("UPLOADING"))
    one = UploadPart(number=3, num_bytes=PART_BYTES, href="/v1/datasets/ds1/parts/3", arrived=False)
    script(json.dumps(begun).encode(), UploadPartPage(items=(one,)).model_dump_json().encode(), b"")
    with pytest.raises(InvalidOptionError, match="has become shorter"):
        client.upload_dataset(archive)


@pytest.fixture(params=["blocking", "awaited"])
def for_each(request, portal):
    """Returns a function that does something with each of several items, by each kind of client."""

    def do(*args: object, **kwargs: object) -> None:
        if request.param == "blocking":
            run(BlockingTransport().for_each(*args, **kwargs))
        else:
            portal.call(partial(AsyncTransport().for_each, *args, **kwargs))

    return do


def test_several_things_are_done_at_a_time_and_the_first_failure_ends_them(for_each):
    done: list[int] = []
    abandoned = threading.Event()

    async def note(item: int) -> None:
        done.append(item)

    for_each(range(7), note, num_parallel=3, abandon=abandoned.set)
    assert (sorted(done), abandoned.is_set()) == (list(range(7)), False)

    async def fail(item: int) -> None:
        done.append(item)
        raise ServiceUnreachableError("gone", got=item)

    done.clear()
    with pytest.raises(ServiceUnreachableError, match="gone"):
        for_each(range(100), fail, num_parallel=2, abandon=abandoned.set)
    assert abandoned.is_set()
    assert len(done) < 100
