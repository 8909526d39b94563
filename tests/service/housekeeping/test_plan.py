"""What is garbage, as a table."""

import pytest

from service.housekeeping import plan
from service.housekeeping.plan import DAY_S, Group, Times
from service.records.facts import DatasetFacts, WorkFacts
from workers.store.protocol import StoredObject

NOW_S = 1_000 * DAY_S
TIMES = Times(now_s=NOW_S, retention_s=30 * DAY_S)
OLD_S, NEW_S = 2 * DAY_S, DAY_S / 2


def group(*keys, age_s=OLD_S):
    objects = tuple(StoredObject(key=key, num_bytes=10, modified_at=NOW_S - age_s) for key in keys)
    room, name, *_ = keys[0].split("/")
    return Group(room=room, name=name, objects=objects)


def found(finds):
    return {find.what: (find.kind, *(one.key.removeprefix(f"{find.what}/") for one in find.objects)) for find in finds}


@pytest.mark.parametrize(
    ("is_named", "age_s", "is_garbage"), [(True, OLD_S, False), (False, NEW_S, False), (False, OLD_S, True)]
)
def test_bytes_of_datasets(is_named, age_s, is_garbage):
    bytes_ = group("datasets/aa/archive.zip", "datasets/aa/report.json", age_s=age_s)
    whole = {"datasets/aa": ("dataset", "archive.zip", "report.json")} if is_garbage else {}
    assert found(plan.of_dataset(bytes_, is_named=is_named, times=TIMES)) == whole


def test_bytes_of_which_one_is_new_are_still_arriving():
    older, newer = group("datasets/aa/archive.zip"), group("datasets/aa/report.json", age_s=0)
    both = Group(room="datasets", name="aa", objects=older.objects + newer.objects)
    assert not found(plan.of_dataset(both, is_named=False, times=TIMES))


@pytest.mark.parametrize(
    ("row", "age_s", "kind"),
    [
        (None, OLD_S, "orphan"),
        (None, NEW_S, None),
        (DatasetFacts(state="UPLOADING", changed_at=0.0), OLD_S, None),
        (DatasetFacts(state="CHECKING", changed_at=0.0), OLD_S, None),
        (DatasetFacts(state="READY", changed_at=NOW_S), 0, "upload"),
        (DatasetFacts(state="DELETED", changed_at=NOW_S), 0, "upload"),
        (DatasetFacts(state="REJECTED", changed_at=NOW_S - 29 * DAY_S), OLD_S, None),
        (DatasetFacts(state="REJECTED", changed_at=NOW_S - 31 * DAY_S), OLD_S, "upload"),
    ],
)
def test_what_arrived(row, age_s, kind):
    arrived = group("uploads/ds-1/archive.zip", age_s=age_s)
    whole = {"uploads/ds-1": (kind, "archive.zip")} if kind else {}
    assert found(plan.of_upload(arrived, row, TIMES)) == whole


def work(state, attempt=3, *, finished_days_ago=1.0):
    ended = state in {"SUCCEEDED", "FAILED", "CANCELLED", "STOPPED"}
    finished_at = NOW_S - finished_days_ago * DAY_S if ended else None
    return WorkFacts(state=state, attempt=attempt, ended=ended, finished_at=finished_at)


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_of_attempts_before_the_last_what_tells_how_they_went_is_kept(state):
    files = ("request.json", "progress.json", "weights.safetensors", "model.onnx")
    attempts = group(*(f"adaptations/ad-1/attempts/{number}/{file}" for number in (1, 2, 3) for file in files))
    large = ("attempt", "weights.safetensors", "model.onnx")
    garbage = {f"adaptations/ad-1/attempts/{number}": large for number in (1, 2)}
    assert found(plan.of_work(attempts, work(state), TIMES)) == garbage


def test_an_attempt_that_was_never_started_makes_the_one_before_none_of_those_that_go():
    attempts = group(*(f"adaptations/ad-1/attempts/{number}/model.onnx" for number in (1, 2)))
    assert set(found(plan.of_work(attempts, work("CANCELLED", attempt=3), TIMES))) == {"adaptations/ad-1/attempts/1"}


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "CANCELLING", "STOPPING"])
def test_nothing_of_what_has_not_ended_is_garbage(state):
    keys = ("attempts/1/model.onnx", "attempts/2/model.onnx", "checkpoints/00000001/manifest.json")
    assert not found(plan.of_work(group(*(f"meta-runs/mr-1/{key}" for key in keys)), work(state, 2), TIMES))


def test_an_attempt_that_a_late_job_may_still_write_waits_a_day():
    attempts = group(*(f"adaptations/ad-1/attempts/{number}/model.onnx" for number in (1, 2)), age_s=NEW_S)
    assert not found(plan.of_work(attempts, work("SUCCEEDED", 2), TIMES))


@pytest.mark.parametrize(
    ("state", "days", "is_garbage"),
    [
        ("SUCCEEDED", 0, True),
        ("CANCELLED", 0, True),
        ("STOPPED", 29, False),
        ("STOPPED", 31, True),
        ("FAILED", 29, False),
        ("FAILED", 31, True),
    ],
)
def test_checkpoints_wait_for_a_resume(state, days, is_garbage):
    keys = ("meta-runs/mr-1/attempts/1/manifest.json", "meta-runs/mr-1/checkpoints/00000005/log.jsonl")
    garbage = {"meta-runs/mr-1/checkpoints": ("checkpoint", "00000005/log.jsonl")} if is_garbage else {}
    row = work(state, 1, finished_days_ago=days)
    assert found(plan.of_work(group(*keys, age_s=0), row, TIMES)) == garbage


@pytest.mark.parametrize(
    ("row", "age_s", "kind"),
    [("kept", OLD_S, None), ("deleted", 0, "prior"), (None, NEW_S, None), (None, OLD_S, "orphan")],
)
def test_priors(row, age_s, kind):
    prior = group("priors/own-v1/card.json", "priors/own-v1/prior.safetensors", age_s=age_s)
    whole = {"priors/own-v1": (kind, "card.json", "prior.safetensors")} if kind else {}
    assert found(plan.of_prior(prior, row, TIMES)) == whole


@pytest.mark.parametrize("prefix", ["adaptations/ad-1", "meta-runs/mr-1"])
def test_what_has_no_row_waits_a_day_for_one(prefix):
    keys = (f"{prefix}/attempts/1/request.json", f"{prefix}/attempts/1/model.onnx")
    assert not found(plan.of_work(group(*keys, age_s=NEW_S), None, TIMES))
    garbage = {prefix: ("orphan", "attempts/1/request.json", "attempts/1/model.onnx")}
    assert found(plan.of_work(group(*keys), None, TIMES)) == garbage


def test_what_makes_the_rest_whole_goes_first():
    (find,) = plan.of_prior(group("priors/a/aaa", "priors/a/card.json", "priors/a/zzz"), "deleted", TIMES)
    assert find.in_order() == ("priors/a/card.json", "priors/a/aaa", "priors/a/zzz")
