"""Datasets in parts against the real application, whose parts are made small."""

import asyncio
import hashlib
import uuid
from pathlib import Path

import pytest

from service.client import AsyncClient, Client, ServiceError

PART_BYTES = 400


@pytest.fixture
def url(service, monkeypatch) -> str:
    monkeypatch.setattr("workers.store.multipart.PART_BYTES", PART_BYTES)
    return str(service.client.base_url)


@pytest.fixture
def archive(tmp_path, small_zip) -> Path:
    path = tmp_path / "pets.zip"
    path.write_bytes(small_zip)
    assert len(small_zip) > 4 * PART_BYTES
    return path


def kill_at(num_bytes: int):
    def on_progress(sent: int, _: int) -> None:
        if sent >= num_bytes:
            raise KeyboardInterrupt

    return on_progress


def test_a_dataset_is_sent_in_parts_and_can_be_used(url, archive):
    told: list[tuple[int, int]] = []
    with Client(url) as client:
        view = client.upload_dataset(
            archive, meta_use=True, terms="CC0", on_progress=lambda *one: told.append(one), poll_s=0.02
        )
        assert (view.state, view.name, view.meta_use, view.terms) == ("READY", "pets", True, "CC0")
        assert view.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
        assert view.report.classes == ("cat", "dog")
        assert [event.kind for event in client.dataset_events(view.id).items][-1] == "dataset.ready"
        assert client.datasets(state="READY").items[0].id == view.id
        assert told == sorted(set(told))
        assert told[-1] == (archive.stat().st_size,) * 2
        assert client.thumbnails(view.id).startswith(b"\xff\xd8")
        # The same bytes, sent again, are the same dataset.
        assert client.upload_dataset(archive, poll_s=0.02).id == view.id


def test_an_upload_that_was_killed_at_its_third_part_goes_on_there(connect, url, archive, monkeypatch):
    # In pieces: a part that was handed over as a whole may arrive although its sender is killed.
    monkeypatch.setattr("service.client.requests.CHUNK_BYTES", PART_BYTES // 4)
    with Client(url) as killed:
        begun = killed.begin_upload(archive)
        with pytest.raises(KeyboardInterrupt):
            killed.upload_dataset(archive, resume=begun.id, num_parallel=1, on_progress=kill_at(2 * PART_BYTES + 1))
        assert killed.dataset(begun.id).upload.num_arrived == 2
    told: list[int] = []
    with connect(url) as client:
        page = client.dataset_parts(begun.id)
        assert [part.number for part in page.items if part.arrived] == [1, 2]
        view = client.upload_dataset(archive, resume=begun.id, on_progress=lambda sent, _: told.append(sent))
    assert (view.id, view.state) == (begun.id, "READY")
    assert view.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert told[0] == PART_BYTES
    assert told[-1] == archive.stat().st_size


def test_one_that_was_resumed_with_another_file_of_that_size_is_refused(url, archive):
    with Client(url) as client:
        begun = client.begin_upload(archive)
        with pytest.raises(KeyboardInterrupt):
            client.upload_dataset(archive, resume=begun.id, num_parallel=1, on_progress=kill_at(3 * PART_BYTES))
        data = archive.read_bytes()
        archive.write_bytes(data[: -2 * PART_BYTES] + bytes(2 * PART_BYTES))
        with pytest.raises(ServiceError):
            client.upload_dataset(archive, resume=begun.id, poll_s=0.02)
        rejected = client.dataset(begun.id)
        assert (rejected.state, rejected.upload) == ("REJECTED", None)


def test_several_are_sent_at_once(url, make_zip, tmp_path):
    archives = [tmp_path / f"{number}.zip" for number in range(3)]
    for number, archive in enumerate(archives):
        archive.write_bytes(make_zip({"cat": 6, "dog": 6}, shade=number))

    async def main() -> list[str]:
        async with AsyncClient(url) as client:
            views = await asyncio.gather(*(client.upload_dataset(one, poll_s=0.05) for one in archives))
            await client.delete_dataset(views[0].id)
            assert views[0].id not in {one.id for one in (await client.datasets(limit=100)).items}
            return [one.sha256 for one in views]

    assert asyncio.run(main()) == [hashlib.sha256(one.read_bytes()).hexdigest() for one in archives]


def test_parts_go_to_the_store_itself_where_people_reach_it(
    s3_environment, new_service, monkeypatch, tmp_path, archive
):
    monkeypatch.setattr("workers.store.multipart.PART_BYTES", PART_BYTES)
    monkeypatch.setenv("ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL", s3_environment)
    with (
        new_service(tmp_path / "data", store_url=f"s3://signed-{uuid.uuid4().hex[:12]}") as service,
        Client(str(service.client.base_url)) as client,
    ):
        begun = client.begin_upload(archive)
        assert client.dataset_parts(begun.id).items[0].href.startswith(s3_environment)
        view = client.upload_dataset(archive, resume=begun.id, poll_s=0.05)
        assert (view.id, view.state) == (begun.id, "READY")
        assert view.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
