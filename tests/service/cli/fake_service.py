"""A service that tells prepared stories in place of adapting; run as a process of its own.

The story is the name of the adaptation. What happens is written to the journal, a line each.
"""

import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from fake_datasets import add_datasets
from fake_meta import Meta, add_meta_runs, add_priors
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from service.cli.interrupts import exit_on_signals, terminate_at_end_of_stdin
from service.cli.listening import run
from service.schemas import (
    AdaptationPage,
    AdaptationState,
    AdaptationView,
    ArtifactView,
    Health,
    Links,
    Problem,
    Result,
)
from workers.contracts.adaptations import AdaptationRequest, Candidate, Phase, Progress
from workers.contracts.artifacts import CostReport, Interval

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ARCH = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
ARCHITECTURE: dict[str, object] = {"space": "nas_bench_201", "arch": ARCH}
FILES = {
    "architecture.json": json.dumps(ARCHITECTURE).encode(),
    "metrics.json": json.dumps({"accuracy": 0.975, "num_test": 360, "seed": 3}).encode(),
    "weights.safetensors": bytes(range(256)),
}
BAD_ENDS: dict[str, AdaptationState] = {"fails": "FAILED", "is cancelled": "CANCELLED"}
RUNNING: tuple[tuple[Phase, float], ...] = (("staging", 0.1), ("searching", 0.5), ("training", 0.9))


class Told:
    """The adaptations so far: what was asked, and how far its story has been told."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.requests: dict[str, AdaptationRequest] = {}
        self.num_polls: dict[str, int] = {}
        self.cancelled: set[str] = set()
        self.num_ready_calls = 0

    def note(self, what: str) -> None:
        with self.journal.open("a") as file:
            file.write(f"{what}\n")

    def view(self, adaptation_id: str) -> AdaptationView:
        request = self.requests[adaptation_id]
        polls = self.num_polls[adaptation_id] = self.num_polls[adaptation_id] + 1
        state = self._state(adaptation_id, request, polls)
        phase, fraction = RUNNING[min(polls - 2, len(RUNNING) - 1)] if polls > 1 else ("starting", 0.0)
        best = Candidate(architecture=ARCH, query_accuracy=0.876) if fraction >= 0.5 else None
        progress = Progress(
            phase=phase, fraction=fraction, elapsed_s=polls, eta_s=42.0, best=best, updated_at=NOW.timestamp()
        )
        problem = Problem(
            title="no architecture is within the limits",
            status=422,
            detail="no architecture is within the limits: got 5 parameters; expected at least 4,321",
            code="limit_unreachable",
            todo="Raise --max-params.",
        )
        root = f"/v1/adaptations/{adaptation_id}"
        return AdaptationView(
            id=adaptation_id,
            state=state,
            attempt=1,
            request=request,
            created_at=NOW,
            progress=None if state == "QUEUED" else progress,
            result=_result() if state == "SUCCEEDED" else None,
            error=problem if state == "FAILED" else None,
            artifacts=_artifacts(root, request.name == "damaged") if state == "SUCCEEDED" else (),
            links=Links(self=root, artifacts=f"{root}/artifacts"),
        )

    def _state(self, adaptation_id: str, request: AdaptationRequest, polls: int) -> AdaptationState:
        if adaptation_id in self.cancelled:
            return "CANCELLED"
        if polls == 1:
            return "QUEUED"
        if polls <= 1 + len(RUNNING) or request.name == "endless":
            return "RUNNING"
        return BAD_ENDS.get(request.name or "", "SUCCEEDED")


def _result() -> Result:
    return Result(
        architecture=ARCHITECTURE,
        accuracy=0.975,
        accuracy_interval=Interval(low=0.953, high=0.987),
        num_test=360,
        cost=CostReport(params=802_426, macs=113_951_360),
        timings_s={"staging": 1.25, "searching": 30.0, "total": 31.25},
        verdict="Searching beat the prior's mode by 2.0 points.",
        budget_note="The budget ended the search early.",
    )


def _artifacts(root: str, damaged: bool) -> tuple[ArtifactView, ...]:
    return tuple(
        ArtifactView(
            name=name,
            num_bytes=len(data),
            sha256=hashlib.sha256(b"other" if damaged else data).hexdigest(),
            media_type="application/octet-stream",
            href=f"{root}/artifacts/{name}",
        )
        for name, data in FILES.items()
    )


def unknown(adaptation_id: str) -> Response:
    problem = Problem(title="no such adaptation", status=404, code="not_found", detail=adaptation_id)
    return JSONResponse(problem.model_dump(), status_code=404, media_type="application/problem+json")


def make_app(told: Told) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        told.note(f"started {os.getpid()}")
        yield
        told.note("stopped")

    app = FastAPI(lifespan=lifespan)

    @app.get("/readyz")
    async def ready() -> Response:
        told.num_ready_calls += 1
        if told.num_ready_calls > 2:
            return JSONResponse(Health(ok=True).model_dump())
        return JSONResponse(Health(ok=False, parts={"ray": "starting"}).model_dump(), status_code=503)

    @app.get("/healthz")
    async def health() -> Health:
        return Health(ok=True)

    meta = Meta(told.note)
    add_meta_runs(app, meta)
    add_priors(app, meta)
    add_datasets(app, told.note)

    @app.post("/v1/adaptations", status_code=202)
    async def create(request: Request) -> AdaptationView:
        asked = AdaptationRequest.model_validate_json(await request.body())
        told.note(f"adaptation {asked.model_dump_json(exclude_defaults=True)}")
        if asked.name == "dies":
            sys.stderr.write("the last words of the service\n")
            sys.stderr.flush()
            os._exit(7)
        adaptation_id = f"ad{len(told.requests) + 1}"
        told.requests[adaptation_id], told.num_polls[adaptation_id] = asked, 0
        return told.view(adaptation_id)

    @app.get("/v1/adaptations")
    async def listed(state: AdaptationState | None = None) -> AdaptationPage:
        views = [told.view(adaptation_id) for adaptation_id in told.requests]
        return AdaptationPage(items=tuple(view for view in views if state in (None, view.state)))

    @app.get("/v1/adaptations/{adaptation_id}")
    async def show(adaptation_id: str) -> Response:
        if adaptation_id not in told.requests:
            return unknown(adaptation_id)
        return Response(told.view(adaptation_id).model_dump_json(), media_type="application/json")

    @app.post("/v1/adaptations/{adaptation_id}/cancel")
    async def cancel(adaptation_id: str) -> Response:
        if adaptation_id not in told.requests:
            return unknown(adaptation_id)
        told.note(f"cancel {adaptation_id}")
        told.cancelled.add(adaptation_id)
        return Response(told.view(adaptation_id).model_dump_json(), media_type="application/json")

    @app.get("/v1/adaptations/{adaptation_id}/artifacts/{name}")
    async def download(adaptation_id: str, name: str) -> Response:
        return Response(FILES[name], media_type="application/octet-stream")

    return app


if __name__ == "__main__":
    exit_on_signals()
    data_dir, journal, start = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    if start == "attached":
        terminate_at_end_of_stdin()
    if start == "broken":
        sys.exit("the service cannot start: no Ray here")
    run(make_app(Told(journal)), "127.0.0.1", 0, data_dir)
