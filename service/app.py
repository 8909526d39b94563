"""The application factory. Nothing is built, opened or started before the application starts."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from service import logs, problems
from service.cluster import Cluster, open_cluster
from service.parts import running
from service.request_ids import RequestIds
from service.routes import adaptations, artifacts, datasets, health, meta_runs, priors, search_spaces
from service.settings import Settings, is_loopback

DESCRIPTION: Final = """Post a dataset, get a network that fits it: an architecture, its weights, its cost.

Every refusal has the one body of RFC 9457 (`application/problem+json`), with a stable `code` and what to do about it.
"""
ROUTERS: Final = (
    datasets.router,
    adaptations.router,
    artifacts.router,
    meta_runs.router,
    meta_runs.comparisons,
    priors.router,
    search_spaces.router,
    health.router,
)
TAGS: Final = [
    {"name": "datasets", "description": "Zips of class folders, checked and kept."},
    {"name": "adaptations", "description": "One dataset, one network."},
    {"name": "meta-runs", "description": "Learning a new version of a prior from many datasets."},
    {"name": "priors", "description": "What earlier datasets have taught."},
    {"name": "search spaces", "description": "What can be built."},
    {"name": "health", "description": "For whoever watches the service."},
]

logger = logging.getLogger(__name__)


def create_app(settings: Settings, *, cluster: Callable[[Settings], Cluster] = open_cluster) -> FastAPI:
    """Return the service.

    Args:
        settings: How it is set up.
        cluster: Opens the cluster that jobs run on.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.configure(settings.log_level)
        parts = running(settings, cluster)
        app.state.parts = await run_in_threadpool(parts.__enter__)
        where = f"http://{settings.host}:{settings.port}" if settings.port else f"a free port of {settings.host}"
        reach = "this machine only" if is_loopback(settings.host) else "whoever reaches that address, without a key"
        logger.info("API at %s for %s, data in %s", where, reach, settings.data_dir)
        try:
            yield
        finally:
            await run_in_threadpool(parts.__exit__, None, None, None)

    app = FastAPI(
        title="ArchPrior",
        summary="A meta-search service on Ray.",
        description=DESCRIPTION,
        version=version("archprior"),
        openapi_tags=TAGS,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        responses={"default": problems.response("Any other refusal or failure")},
    )
    problems.install(app)
    app.add_middleware(RequestIds)
    for router in ROUTERS:
        app.include_router(router)
    return app


def _operation_id(route: APIRoute) -> str:
    """Return the route function's name, so that generated clients have readable and stable methods."""
    return route.name
