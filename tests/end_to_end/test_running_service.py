"""One service that runs for all tests of this module."""

import io
import json
import re
import zipfile

import httpx
import pytest
from PIL import Image

from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.artifacts import MEDIA_TYPES

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

# A search: more of the job's ways than a training alone.
SHORT = AdaptationRequest(prior="none", search="supernet", budget_s=10, num_workers=0)


def test_a_posted_zip_becomes_a_network_that_can_be_fetched(served, digits_zip, tmp_path):
    answer = httpx.post(
        f"{served.url}/v1/adaptations",
        files={"dataset": ("digits.zip", digits_zip.read_bytes(), "application/zip")},
        data={"prior": "none", "budget_s": "12", "seed": "3"},
        timeout=120.0,
        trust_env=False,
    )
    assert answer.status_code == 202, answer.text
    posted = answer.json()
    assert answer.headers["Location"] == f"/v1/adaptations/{posted['id']}"
    view = served.wait(posted["id"])
    assert view.state == "SUCCEEDED", view.error
    assert view.attempt == 1
    assert view.request.seed == 3
    # Chance would be 1 / 4; the network has seen 168 images for seconds only.
    assert view.result.accuracy > 0.4

    job_id = view.links.job_id
    job = served.ended_job(job_id)
    assert job["status"] == "SUCCEEDED"
    assert job["metadata"].pop("service")  # whose records it is in
    assert job["metadata"] == {
        "kind": "adaptation",
        "id": view.id,
        "attempt": "1",
        "owner": "local",
        "name": view.id,
        "job_name": f"adaptation {view.id} of local",
    }
    assert view.links.dashboard == f"{served.ray().dashboard_url}/#/jobs/{job_id}"
    run = served.train_run(job_id)
    assert run["status"] == "FINISHED"
    assert [len(attempt["workers"]) for attempt in run["attempts"]] == [1]
    log = httpx.get(f"{served.url}{view.links.log}", trust_env=False)
    assert "1 workers with" in log.text
    assert {actor.kind for actor in served.client.adaptation_actors(view.id).items} >= {"TrainController"}

    assert {artifact.name for artifact in view.artifacts} == set(MEDIA_TYPES)
    paths = {one.name: served.client.download(view.id, one, tmp_path) for one in view.artifacts}
    metrics = json.loads(paths["metrics.json"].read_text())
    assert metrics["accuracy"] == view.result.accuracy
    assert metrics["plan"]["seed"] == 3

    weights = paths["weights.safetensors"].read_bytes()
    url = f"{served.url}/v1/adaptations/{view.id}/artifacts/weights.safetensors"
    part = httpx.get(url, headers={"Range": "bytes=100-299"}, trust_env=False)
    assert part.status_code == 206
    assert part.content == weights[100:300]
    assert part.headers["Content-Range"] == f"bytes 100-299/{len(weights)}"
    assert httpx.get(url, headers={"Range": "bytes=-8"}, trust_env=False).content == weights[-8:]
    assert httpx.get(url, headers={"Range": f"bytes={len(weights)}-"}, trust_env=False).status_code == 416


def test_two_workers_of_ray_train_share_one_adaptation(served, digits_zip):
    view = served.client.create_adaptation(SHORT.model_copy(update={"num_workers": 2}), archive=digits_zip)
    view = served.wait(view.id)
    assert view.state == "SUCCEEDED", view.error
    assert served.ended_job(view.links.job_id)["status"] == "SUCCEEDED"
    run = served.train_run(view.links.job_id)
    assert run["status"] == "FINISHED"
    (attempt,) = run["attempts"]
    assert {worker["world_rank"] for worker in attempt["workers"]} == {0, 1}
    assert len({worker["pid"] for worker in attempt["workers"]}) == 2
    metrics = httpx.get(f"{served.url}/v1/adaptations/{view.id}/artifacts/metrics.json", trust_env=False).json()
    assert metrics["plan"]["num_workers"] == 2


def test_more_workers_than_the_cluster_has_cpus_are_refused_and_not_waited_for(served, digits_zip):
    view = served.client.create_adaptation(SHORT.model_copy(update={"num_workers": 3}), archive=digits_zip)
    view = served.wait(view.id)
    assert view.state == "FAILED"
    assert "more workers than the cluster has CPUs" in view.error.detail
    assert "at most 2" in view.error.detail


def test_adaptations_posted_at_once_end_well_and_a_third_can_be_cancelled_in_the_queue(served, digits_zip):
    dataset = served.client.create_dataset(digits_zip)
    first, second, third = (
        served.client.create_adaptation(SHORT.model_copy(update={"dataset_id": dataset.id, "seed": seed}))
        for seed in range(3)
    )
    served.client.cancel(third.id)
    third = served.wait(third.id)
    assert third.state == "CANCELLED"
    assert third.started_at is None
    ended = [served.wait(one.id) for one in (first, second)]
    assert [view.state for view in ended] == ["SUCCEEDED", "SUCCEEDED"]
    # Two CPUs: one job at a time.
    assert ended[1].started_at >= ended[0].finished_at


def test_a_running_adaptation_can_be_cancelled(served, digits_zip):
    view = served.client.create_adaptation(SHORT.model_copy(update={"budget_s": 600.0}), archive=digits_zip)
    served.wait_until_it_works(view.id)
    assert served.client.cancel(view.id).state == "CANCELLING"
    view = served.wait(view.id)
    assert view.state == "CANCELLED"
    assert view.artifacts == ()
    assert served.ended_job(view.links.job_id)["status"] in {"SUCCEEDED", "STOPPED"}


def png(shade: int) -> bytes:
    data = io.BytesIO()
    Image.new("L", (8, 8), shade).save(data, "PNG")
    return data.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def classes(*names: str) -> dict[str, bytes]:
    return {f"{name}/{number}.png": png(20 * number) for name in names for number in range(10)}


GOOD = zipped(classes("cat", "dog"))


@pytest.mark.parametrize(
    ("archive", "fields", "code", "said"),
    [
        (b"GIF89a no zip at all", {}, "invalid_dataset", "zip"),
        (zipped({}), {}, "invalid_dataset", "empty|no images|no file"),
        (zipped(classes("cat")), {}, "invalid_dataset", "class"),
        (zipped(classes("cat", "dog") | {"../../outside.png": png(0)}), {}, "invalid_dataset", "outside"),
        (zipped(classes("cat", "dog") | {"cat/bomb.png": bytes(50 << 20)}), {}, "invalid_dataset", "bomb.png"),
        (GOOD, {"flavour": "vanilla"}, "invalid_request", "flavour"),
        (GOOD, {"budget_s": "soon"}, "invalid_request", "budget_s"),
        (GOOD, {"search_space": "mars"}, "unknown_name", "nas_bench_201"),
        (GOOD, {"prior": "wisdom"}, "unknown_name", "wisdom"),
        (GOOD, {"prior": "none", "max_params": "10"}, "limit_unreachable", r"at least \d{4,}"),
        (GOOD, {"prior": "none", "search": "prior_mode"}, "invalid_option", "prior_mode"),
        (None, {"prior": "none"}, "invalid_request", "dataset_id"),
    ],
    ids=[
        "no zip", "empty zip", "one class", "zip slip", "bomb", "unknown field", "wrong value", "unknown space",
        "unknown prior", "limit nothing meets", "the mode of no prior", "no dataset",
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_advice_and_nothing_is_kept(served, archive, fields, code, said):
    before = served.kept()
    # A form, whether a file comes along or not.
    parts = {name: (None, value) for name, value in fields.items()}
    if archive is not None:
        parts["dataset"] = ("pets.zip", archive, "application/zip")
    answer = httpx.post(f"{served.url}/v1/adaptations", files=parts, timeout=120.0, trust_env=False)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    assert problem["code"] == code
    assert problem["title"]
    assert problem["todo"] or "xpected" in problem["detail"]
    assert re.search(said, answer.text)
    assert served.kept() == before
