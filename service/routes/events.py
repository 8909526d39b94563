"""`/v1/adaptations/{id}/events` and `/v1/datasets/{id}/events`."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Response

from service.events.hub import Source
from service.events.streams import (
    EVENT_STREAM,
    EventStreamResponse,
    StateTeller,
    ToldProgress,
    adaptations,
    datasets,
    position,
    stream,
    wants_stream,
)
from service.http.auth import CallerDependency, Principal
from service.http.problems import responses
from service.parts import Parts, PartsDependency
from service.records.events import Followed
from service.routes.queries import MAX_SEQUENCE, Limit
from service.schemas import EventPage

router = APIRouter()

After = Annotated[int, Query(ge=0, le=MAX_SEQUENCE, description="The last event that is known.")]
Accept = Annotated[str, Header(include_in_schema=False)]
LastEventId = Annotated[str, Header(description="In a stream: the last event that is known; counts before `after`.")]
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: EVENT_STREAM,
    204: {"description": "A stream of what has ended, whose reader has everything"},
    **responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.TOO_MANY_REQUESTS),
}


@router.get(
    "/v1/adaptations/{adaptation_id}/events",
    tags=["adaptations"],
    summary="Read or follow an adaptation's events",
    response_model=EventPage,
    responses=ANSWERS,
)
def list_adaptation_events(
    adaptation_id: str,
    parts: PartsDependency,
    caller: CallerDependency,
    after: After = 0,
    limit: Limit = 100,
    accept: Accept = "",
    last_event_id: LastEventId = "",
) -> EventPage | Response:
    """Each change of an adaptation's state, oldest first.

    With `Accept: text/event-stream` they come as they happen, until the adaptation has ended, with messages of the kind
    `progress` between them, which have no id; `Last-Event-ID` takes a stream up again.
    """
    parts.adaptations.get(adaptation_id, owner=caller.owner)
    if not wants_stream(accept):
        return _page(parts, adaptation_id, after=after, limit=limit)
    return _stream(parts, adaptations(parts.store), adaptation_id, caller, after=position(last_event_id, after))


@router.get(
    "/v1/datasets/{dataset_id}/events",
    tags=["datasets"],
    summary="Read or follow a dataset's events",
    response_model=EventPage,
    responses=ANSWERS,
)
def list_dataset_events(
    dataset_id: str,
    parts: PartsDependency,
    caller: CallerDependency,
    after: After = 0,
    limit: Limit = 100,
    accept: Accept = "",
    last_event_id: LastEventId = "",
) -> EventPage | Response:
    """What became of a dataset, oldest first.

    With `Accept: text/event-stream` it comes as it happens, until the dataset was checked; `Last-Event-ID` takes a
    stream up again.
    """
    parts.datasets.entry(dataset_id, owner=caller.owner)
    if not wants_stream(accept):
        return _page(parts, dataset_id, after=after, limit=limit)
    return _stream(parts, datasets(), dataset_id, caller, after=position(last_event_id, after))


def _page(parts: Parts, work_id: str, *, after: int, limit: int) -> EventPage:
    items = parts.events.page(work_id, after=after, limit=limit)
    return EventPage(items=items, next_after=items[-1].sequence if items else after)


def _stream(parts: Parts, source: Source[ToldProgress], work_id: str, caller: Principal, *, after: int) -> Response:
    one = Followed(source.kind, work_id)
    standing = parts.events.standings({one: after})[one]
    if standing.settled and not standing.events:
        return Response(status_code=HTTPStatus.NO_CONTENT)  # which tells a browser not to ask again
    return EventStreamResponse(stream(parts.hub.follow(source, work_id, caller, after=after), StateTeller(after)))
