"""Lists in parts: whole, in order, and with a bounded number of questions to the database."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from service.adaptations.views import Views
from service.records.counts import unfinished_by_state
from workers.priors.registry import DEFAULTS, bundled_cards

# Those that come with the package, of one space.
BUNDLED = [name for name, card in bundled_cards().items() if card.search_space == "nas_bench_201"]


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is asked of the database meanwhile."""
    asked: list[str] = []

    def note(_connection, _cursor, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def all_of(service, path: str, **query: object) -> list[dict[str, object]]:
    found, cursor = [], None
    while True:
        page = service.client.get(path, params=query | ({} if cursor is None else {"cursor": cursor})).json()
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


@pytest.fixture
def priors(service, own_card, tensors) -> list[str]:
    """Four own priors, oldest first."""
    names = [f"own-v{number}" for number in range(4)]
    for name in names:
        assert service.parts.prior_catalog.add(own_card.model_copy(update={"id": name}), tensors, owner="local")
    return names


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_priors_come_in_parts_the_bundled_first(service, priors, limit):
    assert [one["card"]["id"] for one in all_of(service, "/v1/priors", limit=limit)] == [*bundled_cards(), *priors]
    of_space = all_of(service, "/v1/priors", limit=limit, search_space="nas_bench_201")
    assert [one["card"]["id"] for one in of_space] == [*BUNDLED, *priors]
    of_darts = [one for one in all_of(service, "/v1/priors", limit=limit) if one["card"]["search_space"] == "darts"]
    assert [one["card"]["id"] for one in of_darts] == [DEFAULTS["darts"]]
    assert all_of(service, "/v1/priors", limit=limit, search_space="darts") == of_darts


def test_a_list_of_priors_goes_on_after_one_that_was_deleted(service, priors):
    asked = {"limit": len(BUNDLED) + 2, "search_space": "nas_bench_201"}
    page = service.client.get("/v1/priors", params=asked).json()
    assert page["items"][-1]["card"]["id"] == priors[1]
    for gone in priors[1:3]:
        assert service.client.delete(f"/v1/priors/{gone}").status_code == 204
    following = service.client.get("/v1/priors", params={**asked, "cursor": page["next_cursor"]}).json()
    assert [one["card"]["id"] for one in following["items"]] == [priors[3]]


@pytest.mark.parametrize("path", ["/v1/priors", "/v1/adaptations", "/v1/meta-runs", "/v1/datasets"])
def test_what_is_no_cursor_is_refused(shared_service, path):
    for cursor in ("nonsense", "", "1.0:ad-zz", "9" * 200):
        refused = shared_service.client.get(path, params={"cursor": cursor})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


def test_a_list_asks_as_much_for_many_as_for_one(records, add_adaptation, store, cluster):
    views = Views(adaptations=records, store=store, cluster=cluster)
    for number in range(12):
        add_adaptation(seed=number)
        with statements() as asked:
            found, _ = records.page(owner="local", limit=100, state="QUEUED")
            listed = views.listed(found)
        assert len(listed) == number + 1
        assert len([one for one in asked if "adaptations" in one]) == 2


def test_no_list_reads_the_whole_table(records, database, add_adaptation):
    first = add_adaptation()
    with statements() as asked:
        records.page(owner="local", limit=10)
        records.page(owner="local", limit=10, state="FAILED", cursor="1.5:ad-00")
        records.get(first.id, owner="local")
        records.positions([first])
        records.waiting(3)
        records.active()
        records.is_current(first.id, 1)
        records.require_room(owner="local")
        unfinished_by_state(database)
    reads = [statement for statement in asked if re.search("FROM (adaptations|meta_runs)", statement)]
    assert len(reads) >= 9
    with database.connection() as connection:
        for statement in reads:
            parameters = tuple(0 for _ in range(statement.count("?")))
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            steps = [step for *_, step in plan]
            assert any(re.match("SEARCH (adaptations|meta_runs)", step) for step in steps), (statement, steps)
            # A walk along an index reads the whole table too.
            assert not any(re.match("SCAN (adaptations|meta_runs)", step) for step in steps), (statement, steps)


def test_those_that_wait_say_how_many_are_before_them(new_service, tmp_path, small_zip):
    with new_service(tmp_path / "data", max_submitted_jobs=1) as service:
        dataset = service.add_dataset(small_zip)
        first = service.adapt(dataset_id=dataset["id"])
        service.await_state(first["id"], "RUNNING")
        for number in range(3):
            service.adapt(dataset_id=dataset["id"], seed=number)
        waiting = service.client.get("/v1/adaptations", params={"state": "QUEUED"}).json()["items"]
    told = [one["progress"]["message"] for one in waiting]
    assert told == ["2 ahead in the queue", "1 ahead in the queue", "next in the queue"]


@pytest.mark.parametrize("number", [2**31, 2**63, 2**64, 10**400])
@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_beyond_every_database_are_refused(shared_service, number, sign):
    for path in ("/v1/adaptations", "/v1/meta-runs", "/v1/datasets", "/v1/priors", "/v1/priors/promotions"):
        assert shared_service.client.get(path, params={"limit": sign * number}).status_code == 422
    events = shared_service.client.get("/v1/meta-runs/mr-0/events", params={"after": sign * number})
    assert events.status_code in {404, 422}
