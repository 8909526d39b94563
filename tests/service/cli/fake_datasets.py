"""The datasets of the fake service: kept as views, the parts of those that arrive as bytes."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from service.schemas import (
    DatasetChange,
    DatasetPage,
    DatasetState,
    DatasetView,
    Problem,
    UploadPart,
    UploadPartPage,
    UploadView,
)
from workers.contracts.datasets import DatasetFindings, DatasetReport, Thumbnails

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PART_BYTES = 10
PICTURE = b"\xff\xd8 the picture"
NO_ZIP = Problem(title="the dataset is no zip", status=422, code="invalid_dataset", todo="Zip it.")
REPORT = DatasetReport(classes=("a", "b"), num_images=(3, 4), median_size=8, min_size=8, max_size=8, modes={"L": 7})
FINDINGS = DatasetFindings(
    num_duplicates=2, duplicates=(("a/1.png", "b/7.png"),), across_classes=1, near_empty={"a": 3},
    suggested_split={"train": 4, "val": 1, "test": 2}, thumbnails=Thumbnails(side=8, columns=4, classes=("a", "b")),
)  # fmt: skip


class Datasets:
    """What was sent, and what became of it."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note
        self.views: dict[str, DatasetView] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.declared: dict[str, str] = {}

    def checked(self, view: DatasetView, data: bytes) -> DatasetView:
        """Return a dataset as it is after its check."""
        sha256 = hashlib.sha256(data).hexdigest()
        if data[:2] != b"PK" or self.declared.get(view.id, sha256) != sha256:
            return view.model_copy(update={"state": "REJECTED", "upload": None, "error": NO_ZIP})
        found = {"state": "READY", "upload": None, "sha256": sha256, "report": REPORT, "findings": FINDINGS}
        return view.model_copy(update={**found, "thumbnails": f"/v1/datasets/{view.id}/thumbnails"})


def add_datasets(app: FastAPI, note: Callable[[str], None]) -> None:
    """Add `/v1/datasets`."""
    held = Datasets(note)

    def unknown(dataset_id: str) -> Response:
        problem = Problem(title="no such dataset", status=404, code="not_found", detail=dataset_id)
        return problem_answer(problem)

    def answer(view: DatasetView, status: int = 200) -> Response:
        return Response(view.model_dump_json(), status_code=status, media_type="application/json")

    @app.post("/v1/datasets")
    async def create_dataset(request: Request) -> Response:
        if request.headers["Content-Type"] == "application/json":
            return announced(await request.json())
        form = await request.form()
        file = form["dataset"]
        data, stem = await file.read(), Path(file.filename or "").stem
        note(f"dataset {form.get('name') or stem} {len(data)} {data[:2]!r}")
        view = DatasetView(id="ds1", name=stem, num_bytes=len(data), created_at=NOW)
        view = held.checked(view, data)
        if view.state == "REJECTED":
            return problem_answer(NO_ZIP)
        changes = {field: form[field] for field in ("name", "meta_use", "terms") if field in form}
        if "meta_use" in changes:
            changes["meta_use"] = changes["meta_use"] == "true"
        known = held.views.get(view.id, view)
        held.views[view.id] = (known if known.sha256 == view.sha256 else view).model_copy(update=changes)
        return answer(held.views[view.id], 201)

    def announced(asked: dict[str, object]) -> Response:
        note(f"announced {asked.get('name')} {asked.get('source', '')}".rstrip())
        dataset_id = f"part{len(held.views) + 1}"
        view = DatasetView.model_validate(
            {"id": dataset_id, "name": "copied", "created_at": NOW, "num_bytes": 7, "state": "CHECKING"}
            | {name: value for name, value in asked.items() if name != "sha256"}
        )
        if "source" not in asked:
            held.declared[dataset_id], held.parts[dataset_id] = str(asked["sha256"]), {}
            view = view.model_copy(update={"state": "UPLOADING"})
        held.views[dataset_id] = view
        return show_dataset(dataset_id)

    @app.get("/v1/datasets")
    async def datasets(state: DatasetState | None = None) -> DatasetPage:
        return DatasetPage(items=tuple(view for view in held.views.values() if state in (None, view.state)))

    def show_dataset(dataset_id: str) -> Response:
        view = held.views[dataset_id]
        if view.state == "UPLOADING":
            arrived = held.parts[dataset_id]
            own = f"/v1/datasets/{dataset_id}"
            upload = UploadView(
                part_bytes=PART_BYTES, num_parts=-(-view.num_bytes // PART_BYTES), num_arrived=len(arrived),
                parts=f"{own}/parts", complete=f"{own}/complete", expires_at=NOW + timedelta(days=1),
            )  # fmt: skip
            view = view.model_copy(update={"upload": upload})
        return answer(view, 201)

    @app.get("/v1/datasets/{dataset_id}")
    async def dataset(dataset_id: str) -> Response:
        if dataset_id not in held.views:
            return unknown(dataset_id)
        shown = show_dataset(dataset_id)
        view = held.views[dataset_id]
        if view.state == "CHECKING":  # by the next time it is over
            data = b"PK copied" if view.source else b"".join(dict(sorted(held.parts[dataset_id].items())).values())
            held.views[dataset_id] = held.checked(view, data)
        return shown

    @app.get("/v1/datasets/{dataset_id}/parts")
    async def parts(dataset_id: str, after: int = 0) -> UploadPartPage:
        view = held.views[dataset_id]
        items = tuple(
            UploadPart(
                number=number,
                num_bytes=min(PART_BYTES, view.num_bytes - (number - 1) * PART_BYTES),
                href=f"/v1/datasets/{dataset_id}/parts/{number}",
                arrived=number in held.parts[dataset_id],
            )
            for number in range(after + 1, -(-view.num_bytes // PART_BYTES) + 1)
        )
        return UploadPartPage(items=items)

    @app.put("/v1/datasets/{dataset_id}/parts/{number}", status_code=204)
    async def put_part(dataset_id: str, number: int, request: Request) -> None:
        held.parts[dataset_id][number] = await request.body()
        note(f"part {dataset_id} {number}")

    @app.post("/v1/datasets/{dataset_id}/complete")
    async def complete(dataset_id: str) -> Response:
        held.views[dataset_id] = held.views[dataset_id].model_copy(update={"state": "CHECKING"})
        return answer(held.views[dataset_id], 202)

    @app.get("/v1/datasets/{dataset_id}/thumbnails")
    async def thumbnails(dataset_id: str) -> Response:
        return Response(PICTURE, media_type="image/jpeg")

    @app.patch("/v1/datasets/{dataset_id}")
    async def change_dataset(dataset_id: str, change: DatasetChange) -> Response:
        if dataset_id not in held.views:
            return unknown(dataset_id)
        note(f"change {dataset_id} {change.model_dump_json(exclude_none=True)}")
        held.views[dataset_id] = held.views[dataset_id].model_copy(update=change.model_dump(exclude_none=True))
        return answer(held.views[dataset_id])

    @app.delete("/v1/datasets/{dataset_id}")
    async def delete_dataset(dataset_id: str) -> Response:
        if held.views.pop(dataset_id, None) is None:
            return unknown(dataset_id)
        return Response(status_code=204)


def problem_answer(problem: Problem) -> Response:
    return JSONResponse(problem.model_dump(), status_code=problem.status, media_type="application/problem+json")
