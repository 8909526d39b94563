"""`/healthz` and `/readyz`."""

from http import HTTPStatus

from fastapi import APIRouter, Response

from service.parts import PartsDependency
from service.schemas import Health

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Does the service answer?")
async def get_health() -> Health:
    """Says yes; asks nothing else."""
    return Health(ok=True)


@router.get(
    "/readyz",
    summary="Can the service take work?",
    responses={503: {"description": "A part does not work; says which and why", "model": Health}},
)
def get_readiness(response: Response, parts: PartsDependency) -> Health:
    """Asks records, store and Ray."""
    health = parts.readiness()
    if not health.ok:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return health
