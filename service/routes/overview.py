"""`/v1/overview`."""

from anyio import to_thread
from fastapi import APIRouter

from service.http.auth import CallerDependency
from service.parts import PartsDependency
from service.schemas import Overview

router = APIRouter(prefix="/v1/overview", tags=["health"])


@router.get("", summary="See everything at a glance")
async def get_overview(parts: PartsDependency, caller: CallerDependency) -> Overview:
    """The cluster, and of the caller's own work what waits, runs, was checked and has failed; the lists are short.

    It answers while Ray cannot be reached, and says so. Ray is asked at most once in five seconds.
    """
    return await to_thread.run_sync(parts.overviews.of, caller.owner, limiter=parts.overview_threads)
