"""What the client sends on meta-runs, priors and datasets, and what it makes of the answers."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.client import BadDownloadError, Client, ServiceError
from service.schemas import (
    ArtifactView,
    Comparison,
    DatasetChange,
    DatasetView,
    MetaEventPage,
    MetaRunLinks,
    MetaRunPage,
    MetaRunView,
    PriorPage,
    PriorView,
    PromotionPage,
    PromotionView,
)
from workers.contracts.datasets import DatasetReport
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import DatasetChoice, MetaEvent, MetaRunRequest
from workers.contracts.priors import MacroSpec, PriorCard

NOW = datetime(2026, 1, 2, tzinfo=UTC)
REQUEST = MetaRunRequest(datasets=(DatasetChoice(dataset_id="ds1"),))
COMPARISON = Comparison(priors=("a", "b"), datasets=REQUEST.datasets)
REPORT = DatasetReport(classes=("a", "b"), num_images=(3, 4), median_size=8, min_size=8, max_size=8, modes={"L": 7})
DATASET = DatasetView(id="ds1", name="pets", sha256="0" * 64, num_bytes=7, report=REPORT, created_at=NOW, meta_use=True)
CARD = PriorCard(
    id="mine", search_space="nas_bench_201", macro=MacroSpec(num_channels=16, num_cells=1), sha256="0" * 64,
    num_bytes=7, mode="", resolutions=(32,), num_steps=1, inherits="", command="", config={}, data=(), curves={},
    created_at="", versions={},
)  # fmt: skip
PRIOR = PriorView(card=CARD, bundled=False, default=True)


def run(state: str = "RUNNING") -> MetaRunView:
    links = MetaRunLinks(self="/v1/meta-runs/mr1", events="", artifacts="")
    return MetaRunView.model_validate(
        {
            "id": "mr1",
            "state": state,
            "attempt": 1,
            "request": REQUEST,
            "prior_id": "p",
            "created_at": NOW,
            "links": links,
        }
    )


def file_view(data: bytes, name: str = "report.md") -> ArtifactView:
    sha256 = hashlib.sha256(data).hexdigest()
    return ArtifactView(name=name, num_bytes=len(data), sha256=sha256, media_type="x/y", href=f"/elsewhere/{name}")


def body_of(*views: object) -> bytes:
    return b"[" + b",".join(view.model_dump_json().encode() for view in views) + b"]"


@pytest.mark.parametrize(
    ("call", "method", "path"),
    [
        (lambda client: client.meta_run("mr/1"), "GET", "/v1/meta-runs/mr%2F1"),
        (lambda client: client.stop_meta_run("mr1"), "POST", "/v1/meta-runs/mr1/stop"),
        (lambda client: client.cancel_meta_run("mr1"), "POST", "/v1/meta-runs/mr1/cancel"),
    ],
)
def test_a_call_that_may_be_made_twice_is_retried(client: Client, server, answer, call, method, path):
    server.answer(answer(status=503), answer(body=run().model_dump_json().encode()))
    assert call(client) == run()
    assert [(one.method, one.path) for one in server.requests] == [(method, path)] * 2


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda client, **key: client.create_meta_run(REQUEST, **key), "/v1/meta-runs"),
        (
            lambda client, **key: client.compare_priors(COMPARISON, **key),
            "/v1/priors/compare",
        ),
    ],
)
def test_what_starts_work_is_retried_with_its_key(client: Client, server, answer, call, path):
    for _ in range(2):
        server.answer(answer(status=503), answer(status=202, body=run("QUEUED").model_dump_json().encode()))
        call(client)
    server.answer(answer(status=202, body=run("QUEUED").model_dump_json().encode()))
    call(client, key="mine")
    assert [one.path for one in server.requests] == [path] * 5
    first, again, second, second_again, own = (one.headers["Idempotency-Key"] for one in server.requests)
    assert (first, second, own) == (again, second_again, "mine")
    assert first != second


def test_a_resume_is_never_retried(client: Client, server, answer, waits):
    server.answer(answer(status=503))
    with pytest.raises(ServiceError):
        client.resume_meta_run("mr1")
    assert ([one.path for one in server.requests], waits) == (["/v1/meta-runs/mr1/resume"], [])


def test_a_request_arrives_as_it_was_made(client: Client, server, answer):
    config = MetaConfig.model_validate({"num_steps": 40, "resolutions": [8, 16], "resolution_weights": [1, 2]})
    asked = REQUEST.model_copy(update={"config": config, "budget_s": 30.0})
    server.answer(answer(status=202, body=run("QUEUED").model_dump_json().encode()))
    client.create_meta_run(asked)
    assert MetaRunRequest.model_validate_json(server.requests[0].head) == asked


def test_pages_and_events_are_asked_for_with_what_was_given_only(client: Client, server, answer):
    server.answer(answer(body=MetaRunPage(items=(run(),), next_cursor="c2").model_dump_json().encode()))
    assert client.meta_runs(state="RUNNING", limit=5).next_cursor == "c2"
    event = MetaEvent(sequence=4, at=0, kind="judged", step=3, message="", data={"0": 0.5})
    page = MetaEventPage(attempt=2, items=(event,), next_after=4)
    server.answer(answer(body=page.model_dump_json().encode()))
    assert client.events("mr1", after=3) == page
    assert [one.path for one in server.requests] == [
        "/v1/meta-runs?state=RUNNING&limit=5",
        "/v1/meta-runs/mr1/events?after=3",
    ]


@pytest.mark.parametrize("last", ["SUCCEEDED", "STOPPED", "FAILED", "CANCELLED"])
def test_waiting_ends_when_no_job_runs_any_more(client: Client, server, answer, waits, last):
    states = ["QUEUED", "RUNNING", "STOPPING", "CANCELLING", last]
    server.answer(*(answer(body=run(state).model_dump_json().encode()) for state in states))
    seen: list[str] = []
    final = client.wait_meta_run("mr1", on_progress=lambda one: seen.append(one.state), poll_s=0.75)
    assert (final.state, seen, waits) == (last, states, [0.75] * 4)


def test_files_of_runs_and_priors_are_checked_on_their_way(client: Client, server, answer, tmp_path: Path):
    server.answer(answer(body=b"data", cut=1), answer(body=b"data"))
    assert client.download_meta_run("mr1", file_view(b"data"), tmp_path / "run").read_bytes() == b"data"
    assert client.download_prior("mine", file_view(b"data"), tmp_path / "prior").read_bytes() == b"data"
    for download in (client.download_meta_run, client.download_prior):
        with pytest.raises(BadDownloadError, match="does not match"):
            download("x", file_view(b"other"), tmp_path / "bad")
        with pytest.raises(BadDownloadError, match="not a plain file name"):
            download("x", file_view(b"data", name="../x"), tmp_path)
    assert list((tmp_path / "bad").iterdir()) == []
    paths = [one.path for one in server.requests]
    assert paths[1:3] == ["/v1/meta-runs/mr1/artifacts/report.md", "/v1/priors/mine/files/report.md"]


def test_the_files_of_a_run_are_listed(client: Client, server, answer):
    server.answer(answer(body=body_of(file_view(b"data"))))
    assert client.meta_run_artifacts("mr1") == (file_view(b"data"),)


def test_priors_are_listed_got_and_promoted(client: Client, server, answer):
    page = PriorPage(items=(PRIOR,), next_cursor="mine")
    server.answer(*(answer(body=one.model_dump_json().encode()) for one in (page, PriorPage(items=(PRIOR,)))))
    assert client.all_priors() == (PRIOR, PRIOR)
    server.answer(answer(body=PRIOR.model_dump_json().encode()))
    assert client.prior("mine") == client.promote_prior("mine") == PRIOR
    promotion = PromotionView(search_space="darts", prior_id="mine", promoted_at=NOW, promoted_by="local")
    promotions = PromotionPage(items=(promotion,), next_cursor="7")
    server.answer(answer(body=promotions.model_dump_json().encode()))
    assert client.promotions(search_space="darts") == client.promotions(limit=1, cursor="8") == promotions
    assert [(one.method, one.path) for one in server.requests] == [
        ("GET", "/v1/priors?limit=100"),
        ("GET", "/v1/priors?limit=100&cursor=mine"),
        ("GET", "/v1/priors/mine"),
        ("POST", "/v1/priors/mine/promote"),
        ("GET", "/v1/priors/promotions?search_space=darts"),
        ("GET", "/v1/priors/promotions?limit=1&cursor=8"),
    ]


def test_a_comparison_arrives_as_it_was_made(client: Client, server, answer):
    comparison = Comparison(priors=("a", "b"), datasets=REQUEST.datasets, num_tasks=7, seed=3)
    server.answer(answer(status=202, body=run("QUEUED").model_dump_json().encode()))
    assert client.compare_priors(comparison).state == "QUEUED"
    assert Comparison.model_validate_json(server.requests[0].head) == comparison


def test_a_deleted_prior_is_answered_with_nothing(client: Client, server, answer):
    server.answer(answer(status=204))
    client.delete_prior("mine")
    assert [(one.method, one.path) for one in server.requests] == [("DELETE", "/v1/priors/mine")]


def test_a_deletion_is_never_retried(client: Client, server, answer, waits):
    server.answer(answer(status=503), answer(status=404))
    with pytest.raises(ServiceError) as caught:
        client.delete_prior("mine")
    assert (caught.value.problem.status, len(server.requests), waits) == (503, 1, [])


def test_a_prior_in_use_is_not_deleted(client: Client, server, answer):
    server.answer(answer(status=409, body=json.dumps({"title": "in use", "code": "prior_in_use"}).encode()))
    with pytest.raises(ServiceError, match="in use") as caught:
        client.delete_prior("mine")
    assert caught.value.problem.code == "prior_in_use"


@pytest.mark.parametrize("prior_id", [None, "renamed"])
def test_an_import_is_one_multipart_and_is_retried(client: Client, server, answer, tmp_path: Path, prior_id):
    (tmp_path / "card.json").write_text("the card")
    (tmp_path / "prior.safetensors").write_bytes(b"the tensors")
    server.answer(answer(status=503), answer(status=201, body=PRIOR.model_dump_json().encode()))
    assert client.import_prior(tmp_path / "card.json", tmp_path / "prior.safetensors", prior_id=prior_id) == PRIOR
    first, second = server.requests
    assert (first.method, first.path, first.num_bytes) == ("POST", "/v1/priors", second.num_bytes)
    for part in (b'name="card"; filename="card.json"', b"the card", b'name="tensors"', b"the tensors"):
        assert part in second.head
    assert (b'name="id"\r\n\r\nrenamed' in second.head) == (prior_id is not None)


def test_a_dataset_comes_with_leave_and_terms_only_where_they_are_given(client: Client, server, answer, tmp_path: Path):
    (tmp_path / "pets.zip").write_bytes(b"PK")
    server.answer(answer(status=201, body=DATASET.model_dump_json().encode()))
    client.create_dataset(tmp_path / "pets.zip", meta_use=True, terms="CC0")
    client.create_dataset(tmp_path / "pets.zip", meta_use=False)
    client.create_dataset(tmp_path / "pets.zip")
    given, forbidden, silent = (one.head for one in server.requests)
    assert b'name="meta_use"\r\n\r\ntrue' in given
    assert b'name="terms"\r\n\r\nCC0' in given
    assert b'name="meta_use"\r\n\r\nfalse' in forbidden
    assert b"meta_use" not in silent
    assert b"terms" not in silent


def test_a_change_of_a_dataset_sends_what_changes(client: Client, server, answer):
    server.answer(answer(status=502), answer(body=DATASET.model_dump_json().encode()))
    assert client.change_dataset("ds1", DatasetChange(meta_use=False)) == DATASET
    assert [(one.method, one.path) for one in server.requests] == [("PATCH", "/v1/datasets/ds1")] * 2
    assert json.loads(server.requests[1].head) == {"meta_use": False}
