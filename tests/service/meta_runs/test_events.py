import asyncio
import json
import logging

import pytest

from service.events.hub import Hub
from service.http.auth import LOCAL
from service.meta_runs.events import EventStream, Position, event_page
from service.records.events import EventRecords
from service.records.keys import KeyRecords
from service.records.transitions import MetaChange
from workers.contracts.errors import StoreError

OWNER = {"owner": "local"}
TIMEOUT_S = 20.0


@pytest.fixture
def running(add_meta_run, meta_runs):
    meta_run = add_meta_run()
    meta_runs.change(meta_run, MetaChange(state="RUNNING"))
    return meta_runs.get(meta_run.id, **OWNER)


@pytest.fixture
def hub(database):
    return Hub(EventRecords(database), KeyRecords(database), interval_s=0.001)


@pytest.fixture
def stream(store, hub):
    return EventStream(store=store, hub=hub, keepalive_s=3600.0)


@pytest.fixture
def end(meta_runs):
    """Returns a function that settles a meta-run."""
    return lambda meta_run: meta_runs.change(meta_runs.get(meta_run.id, **OWNER), MetaChange(state="SUCCEEDED"))


def followed(stream, meta_run, position=None, *, on_event=None):
    """The lines that a stream sends until it ends; `on_event` is called with the number of each."""

    async def collect():
        lines = []
        async with asyncio.timeout(TIMEOUT_S):
            with stream.follow(meta_run, position, LOCAL) as told:
                async for line in told:
                    lines.append(line.decode())
                    if on_event is not None:
                        on_event(len(lines))
        return lines

    return asyncio.run(collect())


def ids(lines):
    return [part.removeprefix("id: ") for line in lines for part in line.splitlines() if part.startswith("id: ")]


def test_a_page_holds_what_follows(store, running, meta_job_of):
    meta_job_of(running.id).events(3, 4, 5, 6)
    page = event_page(store, running, after=3, limit=2)
    assert ([event.sequence for event in page.items], page.next_after, page.attempt) == ([4, 5], 5, 1)
    assert event_page(store, running, after=6, limit=2).next_after == 6


def test_a_job_that_has_told_nothing_has_no_events(store, running):
    assert event_page(store, running, after=0, limit=2).items == ()


def test_a_stream_tells_each_event_once_as_it_comes_and_ends_with_the_run(stream, running, meta_job_of, end):
    job = meta_job_of(running.id)
    job.events(1, 2)
    more = {2: lambda: job.events(1, 2, 3), 3: lambda: end(running)}
    lines = followed(stream, running, on_event=lambda number: more.get(number, str)())
    assert ids(lines) == ["1-1", "1-2", "1-3"]
    data = json.loads(lines[2].splitlines()[0].removeprefix("data: "))
    assert (data["sequence"], data["message"]) == (3, "event 3")
    assert all(line.endswith("\n\n") for line in lines)


def test_a_stream_is_taken_up_where_it_was_left(stream, running, meta_job_of, end):
    meta_job_of(running.id).events(1, 2, 3)
    end(running)
    assert ids(followed(stream, running, Position(1, 2))) == ["1-3"]


def test_with_a_new_attempt_numbers_begin_anew_and_nothing_is_left_out(stream, running, meta_runs, meta_job_of, end):
    meta_job_of(running.id, 1).events(1, 2, 3)
    meta_job_of(running.id, 2).events(1, 2)

    def go_on(number):
        if number == 3:
            meta_runs.change(running, MetaChange(state="QUEUED"))
            meta_runs.change(meta_runs.get(running.id, **OWNER), MetaChange(state="RUNNING"))
        if number == 5:
            end(running)

    assert ids(followed(stream, running, on_event=go_on)) == ["1-1", "1-2", "1-3", "2-1", "2-2"]


def test_a_silent_stream_is_kept_alive(hub, store, running, end):
    stream = EventStream(store=store, hub=hub, keepalive_s=0.003)
    lines = followed(stream, running, on_event=lambda number: end(running) if number == 2 else None)
    assert lines[:2] == [": ping\n\n", ": ping\n\n"]


def test_a_store_that_is_away_for_a_moment_breaks_no_stream(
    stream, store, running, meta_job_of, end, monkeypatch, caplog
):
    meta_job_of(running.id).events(1)
    read, failures = store.get_bytes, iter([True, True])

    def failing(key):
        if next(failures, False):
            raise StoreError("the store does not answer")
        return read(key)

    monkeypatch.setattr(store, "get_bytes", failing)
    with caplog.at_level(logging.WARNING, logger="service"):
        lines = followed(stream, running, on_event=lambda _: end(running))
    assert ids(lines) == ["1-1"]
    assert len(caplog.records) == 2


def test_who_has_everything_of_what_has_settled_has_nothing_to_follow(stream, running, meta_runs, meta_job_of, end):
    meta_job_of(running.id).events(1, 2)
    assert not stream.ended(running, Position(1, 2))
    end(running)
    settled = meta_runs.get(running.id, **OWNER)
    assert stream.ended(settled, Position(1, 2))
    assert not stream.ended(settled, Position(1, 1))
    assert not stream.ended(settled, None)


@pytest.mark.parametrize(("text", "position"), [("1-2", Position(1, 2)), ("12-0", Position(12, 0))])
def test_an_events_id_is_a_position(text, position):
    assert Position.parse(text) == position
    assert str(position) == text


@pytest.mark.parametrize("text", ["", "7", "-", "1-", "-1", "a-b", "1-2-3", "1-²", "1-9999999999"])
def test_an_id_that_is_none_of_ours_is_no_position(text):
    assert Position.parse(text) is None
