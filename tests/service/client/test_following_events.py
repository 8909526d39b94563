"""Events as they happen: streams that break are taken up again, and where there are none, the rest is asked for."""

from contextlib import closing
from datetime import UTC, datetime

import pytest

from service.client import ServiceError
from service.schemas import AdaptationView, EventPage, EventView, Links
from workers.contracts.adaptations import AdaptationRequest

NOW = datetime(2026, 1, 2, tzinfo=UTC)
KINDS = ("adaptation.queued", "adaptation.running", "adaptation.succeeded")


def event(sequence: int) -> EventView:
    return EventView(work_id="ad1", sequence=sequence, kind=KINDS[sequence - 1], at=NOW)


@pytest.fixture
def stream(answer):
    """Makes the answer that streams events; `cut` breaks it off so many bytes before its end."""

    def make(*sequences: int, cut: int | None = None, between: bytes = b""):
        told = b"".join(
            b"id: %d\ndata: %s\n\n%s" % (one, event(one).model_dump_json().encode(), between) for one in sequences
        )
        return answer(body=told, headers={"Content-Type": "text/event-stream; charset=utf-8"}, cut=cut)

    return make


@pytest.fixture
def page(answer):
    def make(*sequences: int, after: int = 0):
        found = EventPage(items=tuple(map(event, sequences)), next_after=max(sequences, default=after))
        return answer(body=found.model_dump_json().encode())

    return make


@pytest.fixture
def state(answer):
    def make(name: str):
        links = Links(self="", artifacts="")
        view = AdaptationView(id="ad1", state=name, attempt=1, request=AdaptationRequest(), created_at=NOW, links=links)
        return answer(body=view.model_dump_json().encode())

    return make


def asked(server) -> list[tuple[str, str | None]]:
    """What was asked for below the adaptation, streams with the id of the last event that was known."""
    return [
        (one.path.removeprefix("/v1/adaptations/ad1"), one.headers.get("Last-Event-ID", "none"))
        if one.headers.get("Accept") == "text/event-stream"
        else (one.path.removeprefix("/v1/adaptations/ad1"), None)
        for one in server.requests
    ]


def test_a_stream_is_followed_to_its_end(client, server, stream, state, page):
    server.answer(stream(1, 2, 3), state("SUCCEEDED"), page(after=3))
    assert list(client.follow("ad1")) == [event(1), event(2), event(3)]
    assert asked(server) == [("/events", "none"), ("", None), ("/events?after=3", None)]


def test_a_stream_that_ends_early_is_taken_up_after_the_last_event(client, server, stream, state, page, waits):
    server.answer(stream(1), state("RUNNING"), page(after=1), stream(2, 3), state("SUCCEEDED"), page(after=3))
    assert [one.sequence for one in client.follow("ad1", poll_s=0.75)] == [1, 2, 3]
    assert asked(server)[:4] == [("/events", "none"), ("", None), ("/events?after=1", None), ("/events", "1")]
    assert waits == [0.75]


def test_an_event_in_which_a_stream_breaks_off_is_told_once(client, server, stream, state, page, waits):
    server.answer(stream(1, 2, cut=1), state("RUNNING"), page(2), stream(2, 3), state("SUCCEEDED"), page(after=3))
    assert [one.sequence for one in client.follow("ad1")] == [1, 2, 3]
    assert asked(server)[2:4] == [("/events?after=1", None), ("/events", "2")]
    assert waits == []


def test_who_knows_the_first_events_is_told_the_rest(client, server, stream, state, page):
    server.answer(stream(2, 3), state("SUCCEEDED"), page(after=3))
    assert [one.sequence for one in client.follow("ad1", after=2)] == [3]
    assert asked(server)[0] == ("/events", "2")


def test_progress_and_comments_between_events_are_no_events(client, server, stream, state, page):
    between = b": still here\n\nevent: progress\ndata: {}\n\nid: 7\nevent: later\ndata: {}\n\n"
    server.answer(
        stream(1, 2, between=between), state("SUCCEEDED"), page(3), stream(), state("SUCCEEDED"), page(after=3)
    )
    assert [one.sequence for one in client.follow("ad1")] == [1, 2, 3]


@pytest.mark.parametrize("status", [404, 405, 406, 501])
def test_where_no_streams_are_given_the_events_are_asked_for(client, server, answer, state, page, waits, status):
    server.answer(
        answer(status=status), state("QUEUED"), page(1), state("RUNNING"), page(after=1),
        state("SUCCEEDED"), page(2, 3), state("SUCCEEDED"), page(after=3),
    )  # fmt: skip
    assert [one.sequence for one in client.follow("ad1", poll_s=0.75)] == [1, 2, 3]
    assert [accepted for _, accepted in asked(server)].count("none") == 1
    assert waits == [0.75]


def test_an_answer_that_is_no_stream_is_like_none(client, server, state, page):
    server.answer(page(1), state("SUCCEEDED"), page(1, 2, 3), state("SUCCEEDED"), page(after=3))
    assert [one.sequence for one in client.follow("ad1")] == [1, 2, 3]


def test_one_that_does_not_exist_is_an_error(client, server, answer):
    server.answer(answer(status=404))
    with pytest.raises(ServiceError) as caught:
        next(iter(client.follow("nobody")))
    assert caught.value.problem.status == 404


def test_whoever_has_seen_enough_leaves(client, server, stream):
    server.answer(stream(1, 2, 3))
    with closing(client.follow("ad1")) as events:
        assert next(events) == event(1)
    assert len(server.requests) == 1
