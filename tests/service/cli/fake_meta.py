"""The meta-runs and priors of the fake service: prepared stories, told a part with each look."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import FastAPI, File, Form, Request, Response
from fastapi.responses import JSONResponse

from service.schemas import (
    ArtifactView,
    Comparison,
    MetaEventPage,
    MetaResult,
    MetaRunLinks,
    MetaRunPage,
    MetaRunState,
    MetaRunView,
    PriorPage,
    PriorView,
    Problem,
    PromotionPage,
    PromotionView,
)
from workers.contracts.meta_runs import (
    Adjustment,
    Counters,
    EventKind,
    MetaEvent,
    MetaPhase,
    MetaProgress,
    MetaRunRequest,
    PriorScore,
    WorkerView,
)
from workers.contracts.priors import MacroSpec, PriorCard

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STORY: tuple[tuple[MetaRunState, MetaPhase, int], ...] = (
    ("QUEUED", "starting", 0),
    ("RUNNING", "loading", 0),
    ("RUNNING", "learning", 10),
    ("RUNNING", "learning", 60),
    ("SUCCEEDED", "done", 100),
)
BAD_ENDS: dict[str, MetaRunState] = {"fails": "FAILED", "is cancelled": "CANCELLED"}
EVENTS: tuple[tuple[EventKind, int, str], ...] = (
    ("phase", 0, "loading"),
    ("worker_joined", 0, "worker-1 on node-a"),
    ("worker_lost", 10, "worker-1 died: [red] its slot goes to another"),
    ("judged", 60, "52.0 % after 4 steps"),
    ("checkpoint", 100, "of step 100"),
)
COUNTERS = Counters(slots=100, not_finite=3, stale=1, lost_workers=1)
FILES = {"metrics.json": b'{"prior_id": "made"}', "report.md": b"# Report\n"}


class Meta:
    """The runs and priors so far."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note
        self.requests: dict[str, MetaRunRequest] = {}
        self.num_looks: dict[str, int] = {}
        self.asked: dict[str, MetaRunState] = {}
        self.default = "base-v1"
        self.priors: dict[str, dict[str, bytes]] = {}
        for prior_id in ("base-v1", "made"):
            self.keep(prior_id, card_of(prior_id).model_dump_json().encode(), b"tensors")

    def start(self, request: MetaRunRequest) -> MetaRunView:
        self.note(f"meta-run {request.model_dump_json(exclude_defaults=True)}")
        run_id = f"mr{len(self.requests) + 1}"
        self.requests[run_id], self.num_looks[run_id] = request, 0
        return self.view(run_id)

    def look(self, run_id: str) -> MetaRunView:
        self.num_looks[run_id] += 1
        return self.view(run_id)

    def told(self, run_id: str) -> int:
        last = 3 if self.requests[run_id].name == "endless" else len(STORY) - 1
        return min(self.num_looks[run_id], last)

    def view(self, run_id: str) -> MetaRunView:
        request, told = self.requests[run_id], self.told(run_id)
        state, phase, step = STORY[told]
        if state == "SUCCEEDED":
            state = BAD_ENDS.get(request.name or "", state)
        state = self.asked.get(run_id, state)
        root = f"/v1/meta-runs/{run_id}"
        prior_id = None if request.kind == "compare" else request.prior_id or "made"
        problem = Problem(title="the run diverged", status=500, code="diverged", todo="Lower --set lr.")
        return MetaRunView(
            id=run_id,
            state=state,
            attempt=1,
            request=request,
            prior_id=prior_id or run_id,
            created_at=NOW,
            progress=None if state == "QUEUED" else progress(phase, step),
            result=result(request, prior_id) if state in ("SUCCEEDED", "STOPPED") else None,
            error=problem if state == "FAILED" else None,
            artifacts=artifacts(f"{root}/artifacts", FILES) if state == "SUCCEEDED" else (),
            links=MetaRunLinks(self=root, events=f"{root}/events", artifacts=f"{root}/artifacts"),
        )

    def events(self, run_id: str, after: int) -> MetaEventPage:
        seen = EVENTS[: self.told(run_id) + 1]
        found = tuple(
            MetaEvent(sequence=number, at=NOW.timestamp(), kind=kind, step=step, message=message)
            for number, (kind, step, message) in enumerate(seen, start=1)
            if number > after
        )[:2]  # a page is small
        return MetaEventPage(attempt=1, items=found, next_after=found[-1].sequence if found else after)

    def keep(self, prior_id: str, card: bytes, tensors: bytes) -> None:
        self.priors[prior_id] = {"card.json": card, "prior.safetensors": tensors}

    def prior(self, prior_id: str) -> PriorView:
        files = self.priors[prior_id]
        return PriorView(
            card=PriorCard.model_validate_json(files["card.json"]),
            bundled=prior_id == "base-v1",
            default=prior_id == self.default,
            files=artifacts(f"/v1/priors/{prior_id}/files", files),
        )


def card_of(prior_id: str) -> PriorCard:
    return PriorCard(
        id=prior_id, search_space="nas_bench_201", macro=MacroSpec(num_channels=16, num_cells=1),
        sha256=hashlib.sha256(b"tensors").hexdigest(), num_bytes=7, mode="|the mode|", resolutions=(16, 32),
        num_steps=1234, inherits="", command="archprior meta-train", config={}, data=(), created_at="2026-01-02",
        curves={"held-out accuracy after 4 steps": ((10, 0.3), (100, 0.52))}, versions={},
    )  # fmt: skip


def progress(phase: MetaPhase, step: int) -> MetaProgress:
    worker = WorkerView(
        id="worker-2", state="busy", node="node-b", pid=4321, device="cpu", doing="slot 1 of step 60", num_done=31
    )
    judged = {
        "held-out accuracy after 0 steps": ((50, 9.0, 0.48),),
        "held-out accuracy after 4 steps": ((50, 9.0, 0.52),),
    }
    return MetaProgress(
        phase=phase, step=step, num_steps=100, fraction=step / 100, elapsed_s=step, eta_s=100.0 - step,
        loss=2.345 if step else None, gradient_norms={"loc": 1.25, "arch_logits": 0.5} if step else {},
        entropies=(1.0, 1.5) if step else (), slots_per_s=3.5, staleness=0.25, data_wait=0.012,
        workers=(worker,) if step else (), max_workers=1 if step == 60 else None, counters=COUNTERS,
        checkpoint_step=50 if step >= 60 else None, series=judged if step >= 60 else {}, updated_at=NOW.timestamp(),
    )  # fmt: skip


def result(request: MetaRunRequest, prior_id: str | None) -> MetaResult:
    scores = tuple(
        PriorScore(
            prior_id=judged,
            accuracy={0: 0.4 + 0.05 * place, 4: 0.5 + 0.05 * place},
            interval={0: 0.031, 4: 0.029},
            tasks={0: (0.4, 0.4), 4: (0.4 + 0.07 * place, 0.6 + 0.03 * place)},
        )
        for place, judged in enumerate(request.priors or (prior_id or "",))
    )
    change = Adjustment(step=7, what="batch_divisor", value=2, why="worker-1 ran out of memory")
    return MetaResult(
        prior_id=prior_id, step=100, complete=False, scores=scores, counters=COUNTERS, adjustments=(change,),
        data_wait=0.012,
    )  # fmt: skip


def artifacts(root: str, files: dict[str, bytes]) -> tuple[ArtifactView, ...]:
    return tuple(
        ArtifactView(
            name=name,
            num_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            media_type="application/octet-stream",
            href=f"{root}/{name}",
        )
        for name, data in files.items()
    )


def refused(status: int, code: str, title: str) -> Response:
    problem = Problem(title=title, status=status, code=code)
    return JSONResponse(problem.model_dump(), status_code=status, media_type="application/problem+json")


def as_json(view: MetaRunView | PriorView | MetaEventPage, status: int = 200) -> Response:
    return Response(view.model_dump_json(), status_code=status, media_type="application/json")


def add_meta_runs(app: FastAPI, meta: Meta) -> None:
    @app.post("/v1/meta-runs")
    async def create(request: Request) -> Response:
        asked = MetaRunRequest.model_validate_json(await request.body())
        if asked.datasets[0].dataset_id == "private":
            return refused(409, "meta_use", "meta-runs may not learn from dataset private")
        return as_json(meta.start(asked), 202)

    @app.get("/v1/meta-runs")
    async def listed(state: MetaRunState | None = None, limit: int = 20) -> MetaRunPage:
        views = [meta.view(run_id) for run_id in reversed(meta.requests)]
        return MetaRunPage(items=tuple([view for view in views if state in (None, view.state)][:limit]))

    @app.get("/v1/meta-runs/{run_id}")
    async def show(run_id: str) -> Response:
        if run_id not in meta.requests:
            return refused(404, "not_found", f"no such meta-run: {run_id}")
        return as_json(meta.look(run_id))

    @app.get("/v1/meta-runs/{run_id}/events")
    async def events(run_id: str, after: int = 0) -> Response:
        return as_json(meta.events(run_id, after))

    @app.post("/v1/meta-runs/{run_id}/{wish}")
    async def wish(run_id: str, wish: str) -> Response:
        if run_id not in meta.requests:
            return refused(404, "not_found", f"no such meta-run: {run_id}")
        meta.note(f"{wish} {run_id}")
        states: dict[str, MetaRunState] = {"stop": "STOPPED", "cancel": "CANCELLED", "resume": "QUEUED"}
        meta.asked[run_id] = states[wish]
        return as_json(meta.view(run_id), 202)

    @app.get("/v1/meta-runs/{run_id}/artifacts")
    async def artifacts_of(run_id: str) -> tuple[ArtifactView, ...]:
        return meta.view(run_id).artifacts

    @app.get("/v1/meta-runs/{run_id}/artifacts/{name}")
    async def artifact(run_id: str, name: str) -> Response:
        return Response(FILES[name], media_type="application/octet-stream")


def add_priors(app: FastAPI, meta: Meta) -> None:
    @app.get("/v1/priors")
    async def listed() -> PriorPage:
        return PriorPage(items=tuple(map(meta.prior, meta.priors)))

    @app.get("/v1/priors/promotions")
    async def promotions(limit: int = 20, cursor: str = "9") -> PromotionPage:
        space = "nas_bench_201"
        view = PromotionView(search_space=space, prior_id=meta.default, promoted_at=NOW, promoted_by="local")
        return PromotionPage(items=(view,) * limit, next_cursor=f"{int(cursor) - limit}")

    @app.post("/v1/priors/compare")
    async def compare(comparison: Comparison) -> Response:
        return as_json(
            meta.start(MetaRunRequest(kind="compare", **json.loads(comparison.model_dump_json(exclude={"seed"})))), 202
        )

    @app.post("/v1/priors")
    async def hand_in(
        card: Annotated[bytes, File()], tensors: Annotated[bytes, File()], id: Annotated[str | None, Form()] = None
    ) -> Response:
        found = PriorCard.model_validate_json(card)
        prior_id = id or found.id
        meta.note(f"prior {prior_id} {len(tensors)}")
        meta.keep(prior_id, found.model_copy(update={"id": prior_id}).model_dump_json().encode(), tensors)
        return as_json(meta.prior(prior_id), 201)

    @app.get("/v1/priors/{prior_id}")
    async def show(prior_id: str) -> Response:
        if prior_id not in meta.priors:
            return refused(404, "not_found", f"unknown prior: {prior_id}")
        return as_json(meta.prior(prior_id))

    @app.post("/v1/priors/{prior_id}/promote")
    async def promote(prior_id: str) -> Response:
        meta.note(f"promote {prior_id}")
        meta.default = prior_id
        return as_json(meta.prior(prior_id))

    @app.delete("/v1/priors/{prior_id}")
    async def delete(prior_id: str) -> Response:
        if prior_id == meta.default:
            return refused(409, "prior_in_use", f"prior {prior_id} is the default")
        del meta.priors[prior_id]
        return Response(status_code=204)

    @app.get("/v1/priors/{prior_id}/files/{name}")
    async def file(prior_id: str, name: str) -> Response:
        return Response(meta.priors[prior_id][name], media_type="application/octet-stream")
