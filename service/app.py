"""The application factory. Nothing is built, opened or started before the application starts."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from service import logs
from service.http import problems
from service.http.audit import AuditedRequests
from service.http.auth import Authentication
from service.http.limits import RequestLimits
from service.http.request_ids import RequestIds
from service.metrics import MeasuredRequests, RequestMetrics
from service.openapi import DocumentedApp
from service.parts import running
from service.ray.cluster import Cluster, open_cluster
from service.routes import (
    adaptations,
    artifacts,
    audit,
    datasets,
    events,
    health,
    housekeeping,
    jobs,
    meta_runs,
    overview,
    priors,
    search_spaces,
    webhooks,
)
from service.settings import Settings, is_loopback

DESCRIPTION: Final = """Post a dataset, get a network that fits it: an architecture, its weights, its cost.

Every refusal has the one body of RFC 9457 (`application/problem+json`), with a stable `code` and what to do about it.
"""
ROUTERS: Final = (
    datasets.router,
    adaptations.router,
    artifacts.router,
    jobs.adaptations,
    meta_runs.router,
    jobs.meta_runs,
    meta_runs.comparisons,
    events.router,
    webhooks.router,
    priors.router,
    search_spaces.router,
    health.router,
    overview.router,
    audit.router,
    housekeeping.router,
)
TAGS: Final = [
    {"name": "datasets", "description": "Zips of class folders, checked and kept."},
    {"name": "adaptations", "description": "One dataset, one network."},
    {"name": "meta-runs", "description": "Learning a new version of a prior from many datasets."},
    {"name": "webhooks", "description": "Where events are sent, signed."},
    {"name": "priors", "description": "What earlier datasets have taught."},
    {"name": "search spaces", "description": "What can be built."},
    {"name": "housekeeping", "description": "Removing what nobody needs any more."},
    {"name": "audit", "description": "Who asked for which change."},
    {"name": "health", "description": "For whoever watches the service."},
]
EXPOSED_HEADERS: Final = ("ETag", "Location", "Content-Range", "Retry-After", "X-Request-Id")

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
        try:
            where = f"http://{settings.host}:{settings.port}" if settings.port else f"a free port of {settings.host}"
            has_keys = await run_in_threadpool(app.state.parts.keys.ever_existed)
            reach = "whoever has a key" if has_keys else "this machine, without a key"
            if not (has_keys or is_loopback(settings.host)):
                reach = "everyone who reaches that address, without a key"
                logger.warning(
                    "there are no keys, and ARCHPRIOR_ALLOW_OPEN lets everyone in: `archprior keys create` ends it"
                )
            logger.info("API at %s for %s, data in %s", where, reach, settings.data_dir)
            yield
        finally:
            await run_in_threadpool(parts.__exit__, None, None, None)

    app = DocumentedApp(
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
    app.state.metrics = RequestMetrics()
    # From the routes outwards.
    app.add_middleware(AuditedRequests)
    app.add_middleware(Authentication)
    app.add_middleware(
        RequestLimits, max_header_bytes=settings.max_header_bytes, max_body_bytes=settings.max_body_bytes
    )
    app.add_middleware(MeasuredRequests, metrics=app.state.metrics)
    app.add_middleware(RequestIds)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    for router in ROUTERS:
        refused = {} if router is health.router else problems.responses(HTTPStatus.UNAUTHORIZED)
        app.include_router(router, responses=refused)
    return app


def _operation_id(route: APIRoute) -> str:
    """Return the route function's name, so that generated clients have readable and stable methods."""
    return route.name
