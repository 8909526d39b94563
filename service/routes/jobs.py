"""What the jobs of adaptations and meta-runs print, and their actors: `/v1/adaptations/{id}/log`, `.../actors`."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse

from service.adaptations.attempts import AttemptFiles
from service.adaptations.views import ADAPTATIONS
from service.attempt_files import JobFiles
from service.http.auth import CallerDependency, Principal
from service.http.problems import responses
from service.meta_runs.attempts import MetaAttemptFiles
from service.meta_runs.views import META_RUNS
from service.parts import Parts, PartsDependency
from service.ray.looks import job_actors, job_log
from service.records.model import Adaptation, MetaRun
from service.schemas import ActorPage

adaptations = APIRouter(prefix=ADAPTATIONS, tags=["adaptations"])
meta_runs = APIRouter(prefix=META_RUNS, tags=["meta-runs"])

MAX_LOG_BYTES: Final = 1 << 20
REFUSED: Final = responses(HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
LOG: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The end of the log, from the beginning of a line on", "content": {"text/plain": {}}},
    **REFUSED,
}
Attempt = Annotated[int | None, Query(ge=1, le=1_000_000, description="Which attempt. Absent: the current one.")]
NumBytes = Annotated[int, Query(ge=1, le=MAX_LOG_BYTES, description="Most bytes of it.")]
DEFAULT_BYTES: Final = 65_536
Job = tuple[Adaptation | MetaRun, JobFiles]
"""Whose job it is, and the files of its current attempt."""
Seen = TypeVar("Seen")


@adaptations.get(
    "/{adaptation_id}/log",
    summary="Read the log of an adaptation's job",
    response_class=PlainTextResponse,
    responses=LOG,
)
async def get_adaptation_log(
    adaptation_id: str,
    parts: PartsDependency,
    caller: CallerDependency,
    attempt: Attempt = None,
    max_bytes: NumBytes = DEFAULT_BYTES,
) -> Response:
    """The end of what the job has printed, as Ray keeps it: for as long as its head runs."""
    return await _log(parts, caller, lambda: _adaptation(parts, adaptation_id, caller), attempt, max_bytes)


@adaptations.get("/{adaptation_id}/actors", summary="List the actors of an adaptation's job", responses=REFUSED)
async def list_adaptation_actors(
    adaptation_id: str, parts: PartsDependency, caller: CallerDependency, attempt: Attempt = None
) -> ActorPage:
    """The actors of the job as Ray knows them, with their pages in its dashboard."""
    return await _actors(parts, caller, lambda: _adaptation(parts, adaptation_id, caller), attempt)


@meta_runs.get(
    "/{meta_run_id}/log", summary="Read the log of a meta-run's job", response_class=PlainTextResponse, responses=LOG
)
async def get_meta_run_log(
    meta_run_id: str,
    parts: PartsDependency,
    caller: CallerDependency,
    attempt: Attempt = None,
    max_bytes: NumBytes = DEFAULT_BYTES,
) -> Response:
    """The end of what the job has printed, as Ray keeps it: for as long as its head runs."""
    return await _log(parts, caller, lambda: _meta_run(parts, meta_run_id, caller), attempt, max_bytes)


@meta_runs.get("/{meta_run_id}/actors", summary="List the actors of a meta-run's job", responses=REFUSED)
async def list_meta_run_actors(
    meta_run_id: str, parts: PartsDependency, caller: CallerDependency, attempt: Attempt = None
) -> ActorPage:
    """The actors of the job as Ray knows them, with their pages in its dashboard."""
    return await _actors(parts, caller, lambda: _meta_run(parts, meta_run_id, caller), attempt)


def _adaptation(parts: Parts, adaptation_id: str, caller: Principal) -> Job:
    adaptation = parts.adaptations.get(adaptation_id, owner=caller.owner)
    return adaptation, AttemptFiles(parts.store, adaptation)


def _meta_run(parts: Parts, meta_run_id: str, caller: Principal) -> Job:
    meta_run = parts.meta_runs.get(meta_run_id, owner=caller.owner)
    return meta_run, MetaAttemptFiles(parts.store, meta_run)


async def _log(
    parts: Parts, caller: Principal, job: Callable[[], Job], attempt: int | None, num_bytes: int
) -> Response:
    def read() -> str:
        work, files = job()
        return job_log(parts.cluster, work, files, attempt=attempt, num_bytes=num_bytes)

    log = await _in_turn(parts, caller, read)
    # A job prints names of other people's making: no browser shall take them for a page.
    return PlainTextResponse(log, headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"})


async def _actors(parts: Parts, caller: Principal, job: Callable[[], Job], attempt: int | None) -> ActorPage:
    def read() -> ActorPage:
        work, files = job()
        return job_actors(parts.cluster, work, files, attempt=attempt)

    return await _in_turn(parts, caller, read)


async def _in_turn(parts: Parts, caller: Principal, read: Callable[[], Seen]) -> Seen:
    """Return what a job's log or actors are; an owner has few turns. Raises `QuotaExceededError` beyond them."""
    async with parts.job_looks.one_of(caller.owner):
        return await to_thread.run_sync(read, limiter=parts.job_look_threads)
