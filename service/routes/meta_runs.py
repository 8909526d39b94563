"""`/v1/meta-runs`, and the comparison of priors, which is one."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from service.events.streams import EVENT_STREAM, EventStreamResponse, wants_stream
from service.http.auth import CallerDependency
from service.http.conditional import NOT_MODIFIED, IfNoneMatch, conditional
from service.http.downloads import DOWNLOAD_RESPONSES, WishDependency, download, named
from service.http.idempotency import KeyHeader
from service.http.problems import responses
from service.meta_runs.attempts import MetaAttemptFiles
from service.meta_runs.events import MAX_EVENTS, EventStream, Position, event_page
from service.meta_runs.views import META_RUNS, meta_artifacts, meta_run_path
from service.parts import Parts, PartsDependency
from service.priors.catalog import PRIORS
from service.records.model import MetaRun
from service.routes.queries import MAX_SEQUENCE, Cursor, Limit
from service.schemas import ArtifactView, Comparison, MetaEventPage, MetaRunForm, MetaRunPage, MetaRunState, MetaRunView

router = APIRouter(prefix=META_RUNS, tags=["meta-runs"])
comparisons = APIRouter(prefix=PRIORS, tags=["priors"])
REFUSED = responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)
NOT_CREATED = {**REFUSED, **responses(HTTPStatus.TOO_MANY_REQUESTS)}


@router.post("", status_code=HTTPStatus.ACCEPTED, summary="Learn a new version of a prior", responses=NOT_CREATED)
def create_meta_run(
    request: MetaRunForm,
    response: Response,
    parts: PartsDependency,
    caller: CallerDependency,
    key: KeyHeader = None,
) -> MetaRunView:
    """Queue a meta-run over datasets of this service. What cannot end well is refused at once.

    The same request with the same `Idempotency-Key` is answered with the meta-run that the first one made.
    """
    return _accepted(
        parts, parts.meta_intake.add(request.told(), priority=request.priority, owner=caller.owner, key=key), response
    )


@router.get("", summary="List meta-runs", responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY))
def list_meta_runs(
    parts: PartsDependency,
    caller: CallerDependency,
    state: MetaRunState | None = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> MetaRunPage:
    """Meta-runs, newest first, in parts."""
    found, following = parts.meta_runs.page(owner=caller.owner, limit=limit, state=state, cursor=cursor)
    return MetaRunPage(items=parts.meta_views.listed(found), next_cursor=following)


@router.get(
    "/{meta_run_id}",
    summary="Get a meta-run",
    response_model=MetaRunView,
    responses={**NOT_MODIFIED, **responses(HTTPStatus.NOT_FOUND)},
)
def get_meta_run(
    meta_run_id: str, parts: PartsDependency, caller: CallerDependency, if_none_match: IfNoneMatch = None
) -> Response:
    """One meta-run as it stands now, with its progress."""
    return conditional(parts.meta_views.view(parts.meta_runs.get(meta_run_id, owner=caller.owner)), if_none_match)


@router.get(
    "/{meta_run_id}/events",
    summary="Read or follow a meta-run's events",
    response_model=MetaEventPage,
    responses={
        200: EVENT_STREAM,
        204: {"description": "A stream that is taken up again, but has ended"},
        **responses(HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS),
    },
)
def list_meta_run_events(
    meta_run_id: str,
    parts: PartsDependency,
    caller: CallerDependency,
    after: Annotated[int, Query(ge=0, le=MAX_SEQUENCE)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 100,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[str, Header()] = "",
) -> MetaEventPage | Response:
    """Events of the current attempt, oldest first.

    With `Accept: text/event-stream` they come as they happen, those of later attempts too, until the meta-run has
    settled; `Last-Event-ID` takes a stream up again.
    """
    meta_run = parts.meta_runs.get(meta_run_id, owner=caller.owner)
    if not wants_stream(accept):
        return event_page(parts.store, meta_run, after=after, limit=limit)
    stream = EventStream(store=parts.store, hub=parts.hub)
    position = Position.parse(last_event_id)
    if stream.ended(meta_run, position):
        return Response(status_code=HTTPStatus.NO_CONTENT)  # which tells a browser not to ask again
    return EventStreamResponse(stream.follow(meta_run, position or Position(meta_run.attempt, after), caller))


@router.post("/{meta_run_id}/stop", status_code=HTTPStatus.ACCEPTED, summary="Stop a meta-run", responses=REFUSED)
def stop_meta_run(meta_run_id: str, parts: PartsDependency, caller: CallerDependency) -> MetaRunView:
    """Ask a meta-run to end early and publish the prior that it has by then. It can be resumed.

    One that waits publishes nothing: its checkpoints stay, and a resume goes on from them. A comparison is cancelled.
    """
    return _accepted(parts, parts.meta_runs.request_stop(meta_run_id, owner=caller.owner))


@router.post("/{meta_run_id}/resume", status_code=HTTPStatus.ACCEPTED, summary="Resume a meta-run", responses=REFUSED)
def resume_meta_run(meta_run_id: str, parts: PartsDependency, caller: CallerDependency) -> MetaRunView:
    """Have a meta-run that was stopped or has failed go on from its last checkpoint."""
    return _accepted(parts, parts.meta_intake.resume(meta_run_id, owner=caller.owner))


@router.post("/{meta_run_id}/cancel", status_code=HTTPStatus.ACCEPTED, summary="Cancel a meta-run", responses=REFUSED)
def cancel_meta_run(meta_run_id: str, parts: PartsDependency, caller: CallerDependency) -> MetaRunView:
    """Ask a meta-run to end and publish nothing. One that finishes in the same moment has succeeded all the same."""
    return _accepted(parts, parts.meta_runs.request_cancel(meta_run_id, owner=caller.owner))


@router.get("/{meta_run_id}/artifacts", summary="List a meta-run's files", responses=responses(HTTPStatus.NOT_FOUND))
def list_meta_run_artifacts(
    meta_run_id: str, parts: PartsDependency, caller: CallerDependency
) -> tuple[ArtifactView, ...]:
    """The files that a meta-run's last job left; none until it has finished."""
    return meta_artifacts(parts.meta_runs.get(meta_run_id, owner=caller.owner))


@router.get(
    "/{meta_run_id}/artifacts/{name}",
    summary="Download a meta-run's file",
    response_class=StreamingResponse,
    responses=DOWNLOAD_RESPONSES,
)
def get_meta_run_artifact(
    meta_run_id: str, name: str, parts: PartsDependency, caller: CallerDependency, wish: WishDependency
) -> Response:
    """One file, or a part of it, streamed. Its ETag is its hash."""
    meta_run = parts.meta_runs.get(meta_run_id, owner=caller.owner)
    artifact = named(meta_run.artifacts, name)
    return download(parts.store, MetaAttemptFiles(parts.store, meta_run).key(name), artifact, wish)


@comparisons.post("/compare", status_code=HTTPStatus.ACCEPTED, summary="Compare priors", responses=NOT_CREATED)
def compare_priors(
    comparison: Comparison,
    response: Response,
    parts: PartsDependency,
    caller: CallerDependency,
    key: KeyHeader = None,
) -> MetaRunView:
    """Judge priors on the same held-out tasks, by a meta-run that learns nothing; its result holds their scores.

    The same request with the same `Idempotency-Key` is answered with the meta-run that the first one made.
    """
    return _accepted(parts, parts.meta_intake.compare(comparison, owner=caller.owner, key=key), response)


def _accepted(parts: Parts, meta_run: MetaRun, response: Response | None = None) -> MetaRunView:
    """Have the reconciler look at once, and return the meta-run; a new one's answer says where it is."""
    parts.loop.wake()
    if response is not None:
        response.headers["Location"] = meta_run_path(meta_run.id)
    return parts.meta_views.view(meta_run)
