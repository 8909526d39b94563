"""The client's calls on meta-runs, priors and datasets against the real application; only the cluster is a fake."""

import hashlib
import io
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from service.client import Client, ServiceError
from service.schemas import Comparison, DatasetChange, PromotionPage
from workers.contracts.artifacts import Artifact
from workers.contracts.meta_runs import (
    Counters,
    DatasetChoice,
    MetaEvent,
    MetaEvents,
    MetaManifest,
    MetaMetrics,
    MetaProgress,
    MetaRunRequest,
)
from workers.priors.registry import DEFAULTS, bundled_cards
from workers.store import layout

REPORT = b"# Report\n"
BUNDLED = DEFAULTS["nas_bench_201"]


@pytest.fixture
def real(service) -> Iterator[Client]:
    with Client(str(service.client.base_url)) as client:
        yield client


@pytest.fixture(scope="module")
def pets(tmp_path_factory) -> Path:
    """A dataset of twelve classes."""
    path = tmp_path_factory.mktemp("pets") / "pets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for label in range(12):
            for number in range(8):
                png = io.BytesIO()
                Image.new("L", (12, 12), 20 * label + number).save(png, "PNG")
                archive.writestr(f"class_{label:02d}/{number}.png", png.getvalue())
    return path


@pytest.fixture
def choice(real, pets) -> DatasetChoice:
    return DatasetChoice(dataset_id=real.create_dataset(pets, meta_use=True, terms="CC0").id)


@pytest.fixture
def own_prior(own_card, tensors, tmp_path) -> tuple[Path, Path]:
    (tmp_path / "card.json").write_text(own_card.model_dump_json())
    shutil.copy(tensors, tmp_path / "prior.safetensors")
    return tmp_path / "card.json", tmp_path / "prior.safetensors"


def refusal(call) -> int:
    """Return the status with which the service refuses a call."""
    with pytest.raises(ServiceError) as caught:
        call()
    return caught.value.problem.status


def tell(service, meta_run_id, *, step, num_events) -> None:
    """Write what the job of the first attempt says of itself."""
    prefix = layout.meta_attempt(meta_run_id, 1)
    progress = MetaProgress(phase="learning", step=step, num_steps=100, updated_at=time.time())
    told = (
        MetaEvent(sequence=n, at=0, kind="checkpoint", step=n, message=f"event {n}") for n in range(1, num_events + 1)
    )
    service.parts.store.put_bytes(f"{prefix}/progress.json", progress.model_dump_json().encode())
    service.parts.store.put_bytes(f"{prefix}/events.json", MetaEvents(events=tuple(told)).model_dump_json().encode())


def finish(service, request, meta_run_id) -> None:
    """Write what the job of the first attempt of a comparison leaves."""
    prefix, store = layout.meta_attempt(meta_run_id, 1), service.parts.store
    metrics = MetaMetrics(
        meta_run_id=meta_run_id, attempt=1, request=request, prior_id=None, complete=True, num_steps=0,
        counters=Counters(), data_wait=0.1, datasets=(), versions={},
    )  # fmt: skip
    files = {"metrics.json": metrics.model_dump_json().encode(), "report.md": REPORT}
    for name, data in files.items():
        store.put_bytes(f"{prefix}/{name}", data)
    artifacts = tuple(
        Artifact(name=name, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), media_type="text/plain")
        for name, data in files.items()
    )
    manifest = MetaManifest(
        meta_run_id=meta_run_id, attempt=1, prior_id=None, step=0, complete=True, artifacts=artifacts
    )
    store.put_bytes(f"{prefix}/manifest.json", manifest.model_dump_json().encode())


def test_leave_and_terms_of_a_dataset_are_given_and_taken_back(real, pets):
    view = real.create_dataset(pets, meta_use=True, terms="CC0")
    assert (view.meta_use, view.terms) == (True, "CC0")
    changed = real.change_dataset(view.id, DatasetChange(meta_use=False))
    assert (changed.meta_use, changed.terms) == (False, "CC0")
    assert real.dataset(view.id) == changed
    refused = MetaRunRequest(datasets=(DatasetChoice(dataset_id=view.id),))
    assert 400 <= refusal(lambda: real.create_meta_run(refused)) < 500
    assert real.meta_runs().items == ()


def test_a_meta_run_is_asked_for_watched_and_cancelled(real, service, choice):
    view = real.create_meta_run(MetaRunRequest(datasets=(choice,), name="night", prior_id="mine"))
    assert (view.state, view.prior_id) == ("QUEUED", "mine")
    assert service.await_submission().startswith(view.id)
    tell(service, view.id, step=40, num_events=3)
    seen = real.meta_run(view.id)
    assert (seen.state, seen.progress.step) == ("RUNNING", 40)
    first = real.events(view.id, limit=2)
    rest = real.events(view.id, after=first.next_after)
    assert [event.sequence for event in (*first.items, *rest.items)] == [1, 2, 3]
    assert [one.id for one in real.meta_runs(state="RUNNING", limit=5).items] == [view.id]
    assert real.stop_meta_run(view.id).state == "STOPPING"
    assert real.cancel_meta_run(view.id).state == real.cancel_meta_run(view.id).state == "CANCELLING"
    assert refusal(lambda: real.resume_meta_run(view.id)) == 409


def test_a_comparison_is_waited_for_and_its_files_are_fetched(real, service, choice, own_prior, tmp_path):
    real.import_prior(*own_prior)
    comparison = Comparison(priors=(BUNDLED, "own-v1"), datasets=(choice,), num_tasks=7)
    view = real.compare_priors(comparison)
    assert (view.request.kind, view.request.priors, view.request.num_tasks) == ("compare", (BUNDLED, "own-v1"), 7)
    service.await_submission()
    finish(service, view.request, view.id)
    service.parts.loop.wake()

    def wake(_) -> None:
        service.parts.loop.wake()

    final = real.wait_meta_run(view.id, on_progress=wake, poll_s=0.02)
    assert (final.state, final.result.prior_id) == ("SUCCEEDED", None)
    fetched = {
        one.name: real.download_meta_run(view.id, one, tmp_path / "out") for one in real.meta_run_artifacts(view.id)
    }
    assert fetched["report.md"].read_bytes() == REPORT


def test_a_prior_is_imported_promoted_downloaded_and_deleted(real, own_prior, tmp_path):
    card, tensors = own_prior
    imported = real.import_prior(card, tensors)
    assert (imported.card.id, imported.bundled, imported.default) == ("own-v1", False, False)
    assert real.import_prior(card, tensors) == imported  # the same again is no conflict
    defaults = {name: name in DEFAULTS.values() for name in bundled_cards()}
    assert {view.card.id: view.default for view in real.all_priors()} == {**defaults, "own-v1": False}

    assert real.promote_prior("own-v1").default
    assert not real.prior(BUNDLED).default
    assert [one.prior_id for one in real.promotions(search_space="nas_bench_201").items] == ["own-v1"]
    assert real.promotions(search_space="darts") == PromotionPage(items=())
    assert refusal(lambda: real.delete_prior("own-v1")) == 409

    copies = {one.name: real.download_prior("own-v1", one, tmp_path / "copy") for one in real.prior("own-v1").files}
    assert copies["prior.safetensors"].read_bytes() == tensors.read_bytes()
    renamed = real.import_prior(copies["card.json"], copies["prior.safetensors"], prior_id="renamed")
    assert renamed.card.id == "renamed"
    assert renamed.card.sha256 == imported.card.sha256

    real.delete_prior("renamed")
    assert refusal(lambda: real.prior("renamed")) == 404


def test_an_adaptation_is_followed_by_the_stream_of_its_events(connect, service, small_zip):
    view = service.adapt(dataset_id=service.add_dataset(small_zip)["id"], prior="none")
    service.await_submission()
    service.job(view["id"]).succeed()
    service.await_state(view["id"], "SUCCEEDED")
    with connect(str(service.client.base_url)) as client:
        told = list(client.follow(view["id"]))
        assert tuple(told) == client.adaptation_events(view["id"]).items
        assert list(client.follow(view["id"], after=1)) == told[1:]
        assert list(client.follow(view["id"], after=len(told))) == []
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    assert told[-1].kind == "adaptation.succeeded"


def test_webhooks_and_garbage_are_seen_to(real):
    made = real.create_webhook("https://hooks.example.org/archprior", kinds=("adaptation.succeeded",))
    assert made.secret is not None
    assert real.webhook(made.id) == real.webhooks().items[0] == made.model_copy(update={"secret": None})
    assert real.webhook_deliveries(made.id).items == ()
    real.delete_webhook(made.id)
    assert real.webhooks().items == ()
    report = real.gc()
    assert (report.applied, report.num_items) == (False, 0)
