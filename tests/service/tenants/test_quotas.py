from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.errors import QuotaExceededError
from service.quotas import UNLIMITED, Quotas, Usage, check
from service.records.adaptations import AdaptationRecords
from service.records.database import Database
from service.records.datasets import DatasetRecords, new_dataset_id
from service.records.meta_runs import MetaRunRecords
from service.records.model import Arrival
from service.records.owners import OwnerRecords
from service.records.transitions import Change, MetaChange
from service.schemas import Problem
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.datasets import DatasetReport
from workers.contracts.meta_runs import DatasetChoice, MetaRunRequest

REPORT = DatasetReport(
    classes=("cat", "dog"), num_images=(6, 6), median_size=12, min_size=12, max_size=12, modes={"L": 12}
)
NUM_AT_ONCE = 50


@pytest.mark.parametrize(
    ("quotas", "usage", "more", "fits"),
    [
        (Quotas(), Usage(num_bytes=9, num_unfinished=9), Usage(num_bytes=9, num_unfinished=9), True),
        (Quotas(max_bytes=10), Usage(num_bytes=4), Usage(num_bytes=6), True),
        (Quotas(max_bytes=10), Usage(num_bytes=4), Usage(num_bytes=7), False),
        (Quotas(max_bytes=0), Usage(), Usage(num_bytes=1), False),
        (Quotas(max_bytes=10), Usage(num_bytes=40), Usage(num_unfinished=1), True),
        (Quotas(max_unfinished=2), Usage(num_unfinished=1), Usage(num_unfinished=1), True),
        (Quotas(max_unfinished=2), Usage(num_unfinished=2), Usage(num_unfinished=1), False),
        (Quotas(max_unfinished=2), Usage(num_unfinished=3), Usage(num_bytes=1), True),
        (Quotas(max_arriving=2), Usage(num_arriving=1), Usage(num_arriving=1), True),
        (Quotas(max_arriving=2), Usage(num_arriving=2), Usage(num_arriving=1, num_bytes=1), False),
        (Quotas(max_arriving=2), Usage(num_arriving=2), Usage(num_bytes=1), True),
    ],
)
def test_a_quota_bounds_what_is_there_and_what_is_asked_for(quotas, usage, more, fits):
    if fits:
        check(quotas, usage, more)
    else:
        with pytest.raises(QuotaExceededError) as caught:
            check(quotas, usage, more)
        assert caught.value.retry_after_s > 0


@pytest.fixture(params=["sqlite", "postgresql"])
def records(request, tmp_path):
    """Records of either kind, migrated from nothing."""
    url = f"sqlite:///{tmp_path / 'records.sqlite3'}"
    database = Database(url if request.param == "sqlite" else request.getfixturevalue("postgresql").new_database())
    database.migrate()
    yield database
    database.close()


def dataset_of(database, owner, *, quotas=UNLIMITED, number=0, num_bytes=10):
    sha256 = f"{number:064x}"
    return DatasetRecords(database, quotas).add(
        name="pets", sha256=sha256, num_bytes=num_bytes, report=REPORT, owner=owner
    )[0]


def at_once(one):
    def attempt(number):
        try:
            one(number)
        except QuotaExceededError:
            return "refused"
        return "made"

    with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
        return Counter(pool.map(attempt, range(NUM_AT_ONCE)))


def test_bytes_that_come_at_once_never_exceed_the_quota(records):
    quotas = Quotas(max_bytes=70)
    found = at_once(lambda number: dataset_of(records, "ann", quotas=quotas, number=number))
    assert found == {"made": 7, "refused": NUM_AT_ONCE - 7}
    # The same bytes once more take no room, and another owner has a quota of its own.
    kept, _ = DatasetRecords(records).page(owner="ann", limit=10)
    dataset_of(records, "ann", quotas=quotas, number=int(kept[0].sha256, 16))
    dataset_of(records, "bob", quotas=quotas)


def test_datasets_that_begin_to_arrive_at_once_never_exceed_the_quota(records):
    datasets = DatasetRecords(records, Quotas(max_arriving=5))

    def begin(owner="ann"):
        arrival = Arrival(upload_id="u", part_bytes=5)
        return datasets.expect(new_dataset_id(), name="pets", num_bytes=10, arrival=arrival, owner=owner)

    assert at_once(lambda _: begin()) == {"made": 5, "refused": NUM_AT_ONCE - 5}
    # What comes at once as a form is none of them, and another owner has as many of its own.
    dataset_of(records, "ann", quotas=Quotas(max_arriving=5))
    begin(owner="bob")
    # What was completed counts until it is settled.
    first, *_ = datasets.page(owner="ann", limit=10, state="UPLOADING")[0]
    assert datasets.completed(first)
    with pytest.raises(QuotaExceededError, match="UPLOADING or CHECKING"):
        begin()
    seen = datasets.entry(first.id, owner="ann")
    assert datasets.rejected(seen, Problem(title="No zip", status=422, code="invalid_dataset"))
    begin()


def test_work_that_comes_at_once_never_exceeds_the_quota_whatever_its_kind(records):
    dataset, quotas = dataset_of(records, "ann"), Quotas(max_unfinished=5)
    adaptations, meta_runs = AdaptationRecords(records, quotas), MetaRunRecords(records, quotas)

    def add(number):
        if number % 2:
            adaptations.add(AdaptationRequest(dataset_id=dataset.id, prior="none"), dataset, owner="ann")
        else:
            meta_runs.add(MetaRunRequest(datasets=(DatasetChoice(dataset_id=dataset.id),)), (), owner="ann")

    assert at_once(add) == {"made": 5, "refused": NUM_AT_ONCE - 5}
    (owner,) = OwnerRecords(records).all()
    assert (owner.id, owner.num_unfinished, owner.num_bytes) == ("ann", 5, 10)


def test_work_that_has_ended_makes_room_and_work_that_is_taken_up_again_takes_it(records):
    dataset, quotas = dataset_of(records, "ann"), Quotas(max_unfinished=1)
    adaptations, meta_runs = AdaptationRecords(records, quotas), MetaRunRecords(records, quotas)
    request = AdaptationRequest(dataset_id=dataset.id, prior="none")
    meta_run = meta_runs.add(MetaRunRequest(datasets=(DatasetChoice(dataset_id=dataset.id),)), (), owner="ann")
    with pytest.raises(QuotaExceededError):
        adaptations.add(request, dataset, owner="ann")
    meta_runs.change(meta_run, MetaChange(state="STOPPED"))
    adaptation = adaptations.add(request, dataset, owner="ann")
    with pytest.raises(QuotaExceededError):
        meta_runs.request_resume(meta_run.id, owner="ann")
    adaptations.change(adaptation, Change(state="CANCELLED"))
    assert meta_runs.request_resume(meta_run.id, owner="ann").state == "QUEUED"


def test_a_quota_of_its_own_counts_in_place_of_the_settings(records):
    dataset_of(records, "ann")
    OwnerRecords(records).set_quotas("ann", Quotas(max_bytes=25))
    dataset_of(records, "ann", quotas=Quotas(max_bytes=10), number=1)
    with pytest.raises(QuotaExceededError):
        dataset_of(records, "ann", number=2)


def test_a_quota_that_is_not_named_stays_until_the_settings_count_again(records):
    dataset_of(records, "ann")
    owners = OwnerRecords(records)
    owners.set_quotas("ann", Quotas(max_bytes=25))
    both = owners.set_quotas("ann", Quotas(max_unfinished=0))
    assert (both.max_bytes, both.max_unfinished) == (25, 0)
    assert owners.set_quotas("ann", Quotas()) == both
    none = owners.clear_quotas("ann")
    assert (none.max_bytes, none.max_unfinished) == (None, None)


def test_posts_that_come_at_once_never_exceed_the_quota(new_tenants):
    with new_tenants(quota_unfinished=6) as tenants:
        body = {"dataset_id": tenants.ids["dataset_id"], "prior": "none"}
        with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
            posts = [
                pool.submit(tenants.ask, "POST", "/v1/adaptations", token=tenants.ann, json=body)
                for _ in range(NUM_AT_ONCE)
            ]
        answers = [post.result() for post in posts]
        # One was there already.
        assert Counter(answer.status_code for answer in answers) == {202: 5, 429: NUM_AT_ONCE - 5}
        refusal = next(answer for answer in answers if answer.status_code == 429)
        assert refusal.json()["code"] == "quota_exceeded"
        assert int(refusal.headers["Retry-After"]) > 0
        assert refusal.headers["Content-Type"] == "application/problem+json"


def test_what_is_over_a_quota_leaves_nothing_behind(new_tenants, make_zip):
    archive = make_zip({"a": 5, "b": 5}, shade=9)
    with new_tenants() as tenants:
        OwnerRecords(tenants.service.parts.database).set_quotas("ann", Quotas(max_bytes=100, max_unfinished=1))
        before = tenants.service.keys()
        files = {"dataset": ("pets.zip", archive, "application/zip")}
        for path in ("/v1/datasets", "/v1/adaptations"):
            assert tenants.ask("POST", path, token=tenants.ann, files=files).status_code == 429
        assert tenants.service.keys() == before
        assert len(tenants.ask("GET", "/v1/datasets", token=tenants.ann).json()["items"]) == 1


def test_the_same_request_with_the_same_key_is_answered_although_the_quota_is_used_up(new_tenants):
    with new_tenants(quota_unfinished=2) as tenants:
        body = {"dataset_id": tenants.ids["dataset_id"], "prior": "none"}
        sent = {"token": tenants.ann, "json": body, "headers": {"Idempotency-Key": "one"}}
        first, again = (tenants.ask("POST", "/v1/adaptations", **sent) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["id"] == again.json()["id"]
