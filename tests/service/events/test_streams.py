"""The answer that streams, without a server."""

import asyncio

import pytest

from service.events import streams
from service.events.hub import Hub
from service.events.streams import EventStreamResponse, StateTeller, datasets, position, stream, wants_stream
from service.http.auth import LOCAL
from service.records.events import EventRecords
from service.records.keys import KeyRecords

SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}


@pytest.fixture
def hub(database):
    return Hub(EventRecords(database), KeyRecords(database), interval_s=0.01)


def answer(hub, send, receive=None):
    async def never():
        await asyncio.Event().wait()

    async def main():
        following = hub.follow(datasets(), "ds-none", LOCAL)
        response = EventStreamResponse(stream(following, StateTeller(0), keepalive_s=0.01))
        async with asyncio.timeout(20.0):
            await response(SCOPE, receive or never, send)

    asyncio.run(main())


def test_a_reader_who_takes_nothing_is_cut_off(hub, monkeypatch, caplog):
    monkeypatch.setattr(streams, "SEND_TIMEOUT_S", 0.05)

    async def send(message):
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    with caplog.at_level("INFO", logger="service"):
        answer(hub, send)
    assert "took nothing" in caplog.text
    assert hub.num_streams == 0


def test_a_reader_who_leaves_is_forgotten_at_once(hub):
    sent = []

    async def send(message):
        sent.append(message)

    async def gone():
        return {"type": "http.disconnect"}

    answer(hub, send, gone)
    assert hub.num_streams == 0


def test_what_is_not_there_ends_at_once(hub):
    sent = []

    async def send(message):
        sent.append(message)

    answer(hub, send)
    assert dict(sent[0]["headers"])[b"content-type"].startswith(b"text/event-stream")
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize(
    ("last_event_id", "after", "expected"),
    [("", 0, 0), ("", 5, 5), ("7", 5, 7), ("0", 5, 0), ("1-7", 5, 5), ("-1", 5, 5), ("²", 5, 5), ("9" * 30, 5, 5)],
)
def test_a_reader_says_how_far_it_has_come(last_event_id, after, expected):
    assert position(last_event_id, after) == expected


def test_who_accepts_a_stream_gets_one():
    assert wants_stream("text/event-stream")
    assert wants_stream("application/json;q=0.5, text/event-stream")
    assert not wants_stream("*/*")
