"""What only a client for event loops has to show: many calls at once in bounded memory, and cancelled ones."""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from service.client import AsyncClient
from service.schemas import DatasetView, UploadPart, UploadPartPage, UploadView

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NUM_UPLOADS = 20
NUM_BYTES = 2 << 20

Handle = Callable[[str, asyncio.StreamReader, int], Awaitable[bytes]]


@asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[str]:
    """Yield the address of a server: `handle` gets a request's first line, its open body and that one's length."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().splitlines()
                headers = dict(line.lower().split(": ", 1) for line in lines if line)
                body = await handle(first, reader, int(headers.get("content-length", 0)))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        except asyncio.IncompleteReadError:
            pass  # the client has closed the connection
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def view(dataset_id: str, state: str) -> bytes:
    upload = UploadView(
        part_bytes=NUM_BYTES, num_parts=1, num_arrived=0, parts="", complete="", expires_at=NOW + timedelta(days=1)
    )
    made = DatasetView(id=dataset_id, name="", state=state, num_bytes=NUM_BYTES, created_at=NOW, upload=upload)
    return made.model_dump_json().encode()


async def take_datasets(first: str, body: asyncio.StreamReader, num_bytes: int) -> bytes:
    """Answer as the service does, with datasets that are called as they were named."""
    method, path, _ = first.split()
    dataset_id = path.split("?")[0].split("/")[3] if path != "/v1/datasets" else ""
    if method == "PUT":
        while num_bytes:
            num_bytes -= len(await body.read(min(num_bytes, 1 << 16)))
        return b""
    sent = await body.readexactly(num_bytes)
    if not dataset_id:
        return view(json.loads(sent)["name"], "UPLOADING")
    if "/parts" in path:
        part = UploadPart(number=1, num_bytes=NUM_BYTES, href=f"/v1/datasets/{dataset_id}/parts/1", arrived=False)
        return UploadPartPage(items=(part,)).model_dump_json().encode()
    return view(dataset_id, "CHECKING" if method == "POST" else "READY")


def test_many_uploads_at_once_stay_in_bounded_memory(tmp_path):
    archives = [tmp_path / f"{number}.zip" for number in range(NUM_UPLOADS)]
    for archive in archives:
        with archive.open("wb") as file:
            file.truncate(NUM_BYTES)

    async def main() -> list[DatasetView]:
        async with serving(take_datasets) as url, AsyncClient(url) as client:
            await client.upload_dataset(archives[0])  # so that what is made once is not measured
            tracemalloc.start()
            return await asyncio.gather(*map(client.upload_dataset, archives))

    try:
        views = asyncio.run(main())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [one.id for one in views] == [archive.stem for archive in archives]
    assert peak_bytes < NUM_UPLOADS * NUM_BYTES / 2


@pytest.mark.parametrize("stage", ["answer", "upload"])
def test_a_call_that_is_cancelled_closes_its_connection(tmp_path, stage):
    archive = tmp_path / "big.zip"
    with archive.open("wb") as file:
        file.truncate(NUM_BYTES)

    async def main() -> None:
        arrived, closed = asyncio.Event(), asyncio.Event()

        async def never(first: str, body: asyncio.StreamReader, num_bytes: int) -> bytes:
            if stage == "upload" and not first.startswith("PUT"):
                return await take_datasets(first, body, num_bytes)
            arrived.set()
            try:
                while await body.read(1 if stage == "answer" else 100):
                    if stage == "upload":
                        await asyncio.sleep(0.001)
            finally:
                closed.set()
            raise asyncio.IncompleteReadError(b"", None)

        async with serving(never) as url, AsyncClient(url) as client:
            work = client.health() if stage == "answer" else client.upload_dataset(archive)
            task = asyncio.create_task(work)
            async with asyncio.timeout(20):
                await arrived.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await closed.wait()

    asyncio.run(main())
