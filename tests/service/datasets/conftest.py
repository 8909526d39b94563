"""Datasets that arrive in parts, as a client sends them."""

import threading
import time
from collections.abc import Callable

import httpx
import pytest

from workers.store import layout

TIMEOUT_S = 60.0
PART_BYTES = 400


class Sender:
    """Sends datasets to a running service, in parts."""

    def __init__(self, service) -> None:
        self.service, self.client = service, service.client

    def begin(self, data: bytes, **fields: object) -> dict[str, object]:
        response = self.client.post("/v1/datasets", json={"num_bytes": len(data), **fields})
        assert response.status_code == 201, response.text
        return response.json()

    def parts(self, view: dict[str, object], **query: int) -> list[dict[str, object]]:
        response = self.client.get(view["upload"]["parts"], params=query)
        assert response.status_code == 200, response.text
        return response.json()["items"]

    def put(self, view: dict[str, object], data: bytes, *, leave_out: frozenset[int] = frozenset()) -> None:
        """Send the parts, the last one first."""
        at = view["upload"]["part_bytes"]
        for part in reversed(self.parts(view, limit=1000)):
            if part["number"] not in leave_out:
                start = (part["number"] - 1) * at
                target = self.client.base_url.join(part["href"])
                # A signed address is the store's: it gets no key.
                send = self.client.put if part["href"].startswith("/") else httpx.put
                send(target, content=data[start : start + part["num_bytes"]]).raise_for_status()

    def complete(self, view: dict[str, object]) -> httpx.Response:
        return self.client.post(view["upload"]["complete"])

    def send(self, data: bytes, **fields: object) -> dict[str, object]:
        """Return what became of a dataset that was sent whole."""
        view = self.begin(data, **fields)
        self.put(view, data)
        completed = self.complete(view)
        assert completed.status_code == 202, completed.text
        return self.settled(view["id"])

    def settled(self, dataset_id: str) -> dict[str, object]:
        """Return the dataset once it is settled and what had arrived is removed, which comes after the verdict."""
        deadline, tick = time.monotonic() + TIMEOUT_S, threading.Event()
        while True:
            view, left = self.client.get(f"/v1/datasets/{dataset_id}").json(), self.service.keys()
            if view["state"] in {"READY", "REJECTED"} and layout.upload(dataset_id) not in left:
                return view
            assert time.monotonic() < deadline, f"still {view['state']}"
            self.service.parts.check_loop.wake()
            tick.wait(0.05)


@pytest.fixture
def small_parts(monkeypatch) -> None:
    """Parts of a few bytes, so that a small dataset has several."""
    monkeypatch.setattr("workers.store.multipart.PART_BYTES", PART_BYTES)


@pytest.fixture
def sender_to() -> Callable[..., Sender]:
    return Sender


@pytest.fixture
def sender(service, small_parts) -> Sender:
    return Sender(service)
