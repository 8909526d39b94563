"""How fast a large dataset arrives, how long its check takes, and how much memory both need.

A zip of distinct JPEGs of noise, stored as they are, is made once under `build/`. It is sent to a service whose Ray is
a fake, as a form and in parts, with objects in a folder and in `rclone serve s3`: through the service, and `signed`,
straight to the store. The client is on the same machine. `--size-mb` makes it smaller, `--ways` picks some.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from PIL import Image

from benchmarks.machine import ROOT, describe, write
from benchmarks.processes import descendants
from benchmarks.recovery.servers import s3_server
from benchmarks.service.fakes import FakeCluster, serving
from service.app import create_app
from service.settings import Settings

BUILD: Final = ROOT / "build"
MB: Final = 10**6
SIDE: Final = 300
NUM_CLASSES: Final = 10
CHUNK_BYTES: Final = 1 << 20
NUM_SENDERS: Final = 4
TIMEOUT_S: Final = 1200.0
BOUNDARY: Final = "archprior-bench"
SAMPLED_S: Final = 0.05

Sent = tuple[float, str]
"""When the last byte had been taken, by the performance counter; and the dataset's path."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=2000)
    parser.add_argument("--ways", nargs="+", default=tuple(WAYS), choices=tuple(WAYS))
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        _serve(options.serve)
        return
    machine = describe()
    archive, num_images = _archive(options.size_mb)
    results: dict[str, object] = {"bytes": archive.stat().st_size, "images": num_images}
    for name in options.ways:
        results[name] = _tried(WAYS[name], archive)
        print(name, json.dumps(results[name]), flush=True)
    write("upload", results, {"senders_of_parts": NUM_SENDERS, "ray": "a fake", **machine})


def _archive(size_mb: int) -> tuple[Path, int]:
    """Return a zip of at least that size, and how many images it holds; made where it is not there yet."""
    path = BUILD / f"upload-{size_mb}.zip"
    if not path.exists():
        BUILD.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive, partial.open("rb") as written:
            number = 0
            while os.fstat(written.fileno()).st_size < size_mb * MB:
                noise = Image.frombytes("RGB", (SIDE, SIDE), os.urandom(3 * SIDE * SIDE))
                data = io.BytesIO()
                noise.save(data, "JPEG", quality=95)
                archive.writestr(f"class-{number % NUM_CLASSES}/{number:06}.jpg", data.getvalue())
                number += 1
        partial.rename(path)
    with zipfile.ZipFile(path) as archive:
        return path, len(archive.namelist())


def _tried(way: "Way", archive: Path) -> dict[str, float]:
    """Return what a way takes, with a service and a store of its own."""
    environment: dict[str, str] = {}
    with s3_server() if way.is_s3 else nullcontext() as server:
        if server is not None:
            environment = {**server.environment, "ARCHPRIOR_STORE_URL": "s3://upload"}
            if way.is_signed:
                environment["ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL"] = environment["ARCHPRIOR_S3_ENDPOINT_URL"]
        with tempfile.TemporaryDirectory(dir=BUILD) as folder, _service(Path(folder), environment) as (url, pid):
            return _measured(url, pid, archive, way.send)


def _serve(data_dir: Path) -> None:
    """Serve until standard input ends; the address is the first line of what is printed."""
    app = create_app(Settings(data_dir=data_dir, log_level="ERROR"), cluster=lambda _: FakeCluster())
    with serving(app) as url:
        print(url, flush=True)
        sys.stdin.read()


@contextmanager
def _service(data_dir: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Yield the address and the process id of a service on a folder."""
    command = [sys.executable, "-m", "benchmarks.service.upload", "--serve", str(data_dir)]
    own = {**os.environ, **environment}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own, cwd=ROOT
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes to the service")
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.stdin.close()


def _measured(url: str, pid: int, archive: Path, send: Callable[[httpx.Client, Path], Sent]) -> dict[str, float]:
    """Return what it takes until a dataset is READY."""
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client, _peaks(pid) as peaks:
        before_mb = _peak_mb(pid)
        began_s = time.perf_counter()
        arrived_s, path = send(client, archive)
        state = _settled(client, path)
        ready_s = time.perf_counter()
    if state != "READY":
        raise RuntimeError(f"the dataset is {state}")
    return {
        "receiving_mb_per_s": round(archive.stat().st_size / MB / (arrived_s - began_s), 1),
        "receiving_s": round(arrived_s - began_s, 1),
        "then_ready_after_s": round(ready_s - arrived_s, 1),
        "service_idle_mb": before_mb,
        "service_peak_mb": peaks["service"],
        "check_peak_mb": peaks["check"],
    }


def _send_form(client: httpx.Client, archive: Path) -> Sent:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="dataset"; filename="noise.zip"\r\n'
        "Content-Type: application/zip\r\n\r\n"
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    sent_s = 0.0

    def body() -> Iterator[bytes]:
        nonlocal sent_s
        yield head
        yield from _chunks(archive, 0, archive.stat().st_size)
        yield tail
        sent_s = time.perf_counter()

    headers = {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Content-Length": str(len(head) + archive.stat().st_size + len(tail)),
    }
    response = client.post("/v1/datasets", content=body(), headers=headers).raise_for_status()
    return sent_s, response.headers["Location"]


def _send_parts(client: httpx.Client, archive: Path) -> Sent:
    body = {"num_bytes": archive.stat().st_size, "name": "noise"}
    begun = client.post("/v1/datasets", json=body).raise_for_status().json()
    upload = begun["upload"]
    page = client.get(upload["parts"], params={"limit": 1000}).raise_for_status().json()

    def put(part: Mapping[str, object]) -> None:
        number, num_bytes, href = int(str(part["number"])), int(str(part["num_bytes"])), str(part["href"])
        start = (number - 1) * int(upload["part_bytes"])
        headers = {"Content-Length": str(num_bytes)}
        client.put(href, content=_chunks(archive, start, num_bytes), headers=headers).raise_for_status()

    with ThreadPoolExecutor(NUM_SENDERS) as pool:
        list(pool.map(put, page["items"]))
    arrived_s = time.perf_counter()
    client.post(upload["complete"]).raise_for_status()
    return arrived_s, f"/v1/datasets/{begun['id']}"


def _settled(client: httpx.Client, path: str) -> str:
    while True:
        state = str(client.get(path).raise_for_status().json()["state"])
        if state in {"READY", "REJECTED"}:
            return state
        time.sleep(0.2)


def _chunks(path: Path, start: int, num_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as source:
        source.seek(start)
        while num_bytes:
            chunk = source.read(min(CHUNK_BYTES, num_bytes))
            num_bytes -= len(chunk)
            yield chunk


@contextmanager
def _peaks(pid: int) -> Iterator[dict[str, float]]:
    """Yield the largest memory, in MB, of a service and of its checks so far; whole once the block has ended."""
    peaks = {"service": 0.0, "check": 0.0}
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLED_S):
            for process in descendants(pid):
                peaks["check"] = max(peaks["check"], _peak_mb(process.pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()
        peaks["service"] = _peak_mb(pid)


def _peak_mb(pid: int) -> float:
    """Return the most resident memory that a process ever had; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    found = (int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return round(next(found, 0) * 1024 / MB, 1)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a dataset is sent.

    Attributes:
        send: Sends it.
        is_s3: Whether objects lie in an S3 server, else in a folder.
        is_signed: Whether parts go straight to that.
    """

    send: Callable[[httpx.Client, Path], Sent]
    is_s3: bool = False
    is_signed: bool = False


WAYS: Final = {
    "folder, form": Way(send=_send_form),
    "folder, parts": Way(send=_send_parts),
    "s3, form": Way(send=_send_form, is_s3=True),
    "s3, parts": Way(send=_send_parts, is_s3=True),
    "s3, signed parts": Way(send=_send_parts, is_s3=True, is_signed=True),
}


if __name__ == "__main__":
    main()
