"""`/healthz`, `/readyz` and `/metrics`."""

from http import HTTPStatus

from anyio import to_thread
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from service.http.auth import OperatorDependency
from service.http.problems import responses
from service.metrics import MetricsDependency, exposition
from service.parts import PartsDependency
from service.records.counts import unfinished_by_state
from service.schemas import Health

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Does the service answer?")
async def get_health() -> Health:
    """Says yes; asks nothing else."""
    return Health(ok=True)


@router.get(
    "/readyz",
    summary="Can the service take work?",
    responses={503: {"description": "A part does not work; says which; the log says why", "model": Health}},
)
async def get_readiness(response: Response, parts: PartsDependency) -> Health:
    """Asks records, store and Ray."""
    health = await to_thread.run_sync(parts.readiness, limiter=parts.readiness_threads)
    if not health.ok:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return health


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses=responses(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
)
def get_metrics(parts: PartsDependency, metrics: MetricsDependency, _: OperatorDependency) -> Response:
    """What was asked, sent and removed, waits and runs, in Prometheus' text format. Ray is not asked."""
    told = exposition(metrics, parts.delivery_metrics, parts.housekeeper.metrics, unfinished_by_state(parts.database))
    return Response(told, media_type=CONTENT_TYPE_LATEST)
