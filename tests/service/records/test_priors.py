import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.records.meta_runs import MetaRunRecords
from service.records.priors import RESERVED_IDS, PriorRecords, insert_prior, is_taken, use_prior
from service.records.tables import MetaRunRow, PriorRow
from workers.contracts.meta_runs import DatasetChoice, MetaRunRequest
from workers.priors.registry import DEFAULTS

SPACE = "nas_bench_201"
BUNDLED = DEFAULTS["nas_bench_201"]


@pytest.fixture
def priors(database):
    return PriorRecords(database)


@pytest.fixture
def add_prior(priors):
    def add(prior_id, owner="local"):
        priors.add(prior_id, owner=owner, search_space=SPACE)
        return prior_id

    return add


@pytest.fixture
def add_meta_run(database):
    def add(**fields):
        request = MetaRunRequest(datasets=(DatasetChoice(dataset_id="ds-1"),), **fields)
        return MetaRunRecords(database).add(request, (), owner="local")

    return add


def outcome(call):
    try:
        call()
    except (ConflictError, NotFoundError) as error:
        return error.code
    return "done"


def test_an_owner_sees_the_own_priors_oldest_first(priors, add_prior):
    add_prior("b"), add_prior("a"), add_prior("theirs", owner="you")
    assert priors.ids(owner="local", limit=10) == ("b", "a")
    assert priors.exists("theirs", owner="you")
    assert not priors.exists("theirs", owner="local")


def test_an_id_is_given_once_even_after_its_prior_is_gone(database, priors, add_prior):
    add_prior("a")
    with pytest.raises(ConflictError, match="a"):
        add_prior("a", owner="you")
    priors.delete("a", owner="local")
    assert priors.ids(owner="local", limit=10) == ()
    assert priors.is_taken("a")
    with pytest.raises(ConflictError):
        add_prior("a")


def test_of_many_who_bring_a_prior_of_the_same_id_one_succeeds(add_prior):
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda _: outcome(lambda: add_prior("a")), range(6)))
    assert sorted(outcomes) == ["conflict"] * 5 + ["done"]


def test_what_a_meta_run_has_made_is_recorded_once(database, priors, add_meta_run):
    run, other = add_meta_run(), add_meta_run()
    values = {"prior_id": run.prior_id, "owner": "local", "search_space": SPACE}
    for _ in range(2):
        with database.transaction() as session:
            insert_prior(session, **values, meta_run_id=run.id)
    with pytest.raises(ConflictError), database.transaction() as session:
        insert_prior(session, **values, meta_run_id=other.id)
    assert priors.ids(owner="local", limit=10) == (run.prior_id,)


def test_a_prior_of_a_meta_run_that_does_not_exist_is_no_conflict_of_ids(database):
    with pytest.raises(IntegrityError), database.transaction() as session:
        insert_prior(session, prior_id="a", owner="local", search_space=SPACE, meta_run_id="mr-none")


def test_the_id_that_an_unfinished_meta_run_will_give_is_taken(database, priors, add_prior, add_meta_run):
    run = add_meta_run(prior_id="awaited")
    assert priors.is_taken("awaited")
    with database.transaction() as session:
        assert not is_taken(session, "awaited", besides=run.id)
    with pytest.raises(ConflictError):
        add_prior("awaited")
    assert not priors.exists("awaited", owner="local")
    with database.transaction() as session:
        session.execute(update(MetaRunRow).values(state="FAILED"))
    add_prior("awaited")


@pytest.mark.parametrize("prior_id", [BUNDLED, *sorted(RESERVED_IDS)])
def test_words_with_a_meaning_of_their_own_are_no_ids(priors, prior_id):
    assert priors.is_taken(prior_id)


@pytest.mark.parametrize("prior_id", [BUNDLED, "none"])
def test_what_is_always_there_can_be_used(database, prior_id):
    with database.transaction() as session:
        use_prior(session, prior_id, owner="anyone")


def test_a_use_is_written_to_the_row(database, add_prior):
    add_prior("a")
    with database.transaction() as session:
        use_prior(session, "a", owner="local")
    with database.transaction() as session:
        row = session.scalars(select(PriorRow)).one()
    assert row.used_at >= row.created_at


def test_a_prior_that_is_gone_or_of_another_owner_cannot_be_used(database, priors, add_prior, add_adaptation):
    add_prior("a"), add_prior("theirs", owner="you")
    priors.delete("a", owner="local")
    for prior_id in ("a", "theirs", "never"):
        with pytest.raises(NotFoundError, match=prior_id):
            add_adaptation(prior=prior_id)


def test_the_last_promotion_counts(priors, add_prior):
    assert priors.default_for(SPACE, owner="local") is None
    for prior_id in (add_prior("a"), add_prior("b"), BUNDLED, "a"):
        priors.promote(prior_id, search_space=SPACE, owner="local")
        assert priors.default_for(SPACE, owner="local") == prior_id
    assert priors.default_for("darts", owner="local") is None
    assert priors.default_for(SPACE, owner="you") is None
    listed, following = priors.promotions(SPACE, owner="local", limit=10)
    assert [one.prior_id for one in listed] == ["a", BUNDLED, "b", "a"]
    assert listed[0].promoted_at >= listed[-1].promoted_at
    assert {one.promoted_by for one in listed} == {"local"}
    assert following is None
    assert priors.promotions("darts", owner="local", limit=10) == ((), None)


def test_promotions_come_in_parts_whatever_is_promoted_meanwhile(priors, add_prior):
    ids = [add_prior(prior_id) for prior_id in ("a", "b", "c", "d", "e")]
    for prior_id in ids:
        priors.promote(prior_id, search_space=SPACE, owner="local")
        priors.promote(BUNDLED, search_space=SPACE, owner="you")
    seen, cursor = [], None
    while True:
        part, cursor = priors.promotions(None, owner="local", limit=2, cursor=cursor)
        seen += [one.prior_id for one in part]
        priors.promote("a", search_space=SPACE, owner="local")
        if cursor is None:
            break
    assert seen == ["e", "d", "c", "b", "a"]
    for cursor in ("", "x", "-1", "1.5", "9" * 10, "9" * 18, "\u0663"):
        with pytest.raises(InvalidRequestError, match="not a cursor"):
            priors.promotions(None, owner="local", limit=2, cursor=cursor)
    assert priors.promotions(None, owner="local", limit=2, cursor="9" * 9)[0]


def test_what_is_gone_cannot_be_promoted(priors, add_prior):
    add_prior("a")
    priors.delete("a", owner="local")
    with pytest.raises(NotFoundError):
        priors.promote("a", search_space=SPACE, owner="local")
    assert priors.promotions(None, owner="local", limit=10) == ((), None)


def test_promotions_at_the_same_time_all_count_and_the_last_one_is_the_default(priors, add_prior):
    ids, together = (add_prior("a"), add_prior("b")), threading.Barrier(2)

    def promote(prior_id):
        together.wait(20)
        for _ in range(10):
            priors.promote(prior_id, search_space=SPACE, owner="local")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(promote, ids))
    listed = [one.prior_id for one in priors.promotions(SPACE, owner="local", limit=100)[0]]
    assert (listed.count("a"), listed.count("b")) == (10, 10)
    assert priors.default_for(SPACE, owner="local") == listed[0]


def test_the_promoted_default_is_not_deleted_but_those_before_it_are(priors, add_prior):
    for prior_id in (add_prior("a"), add_prior("b")):
        priors.promote(prior_id, search_space=SPACE, owner="local")
    with pytest.raises(ConflictError, match="default of nas_bench_201"):
        priors.delete("b", owner="local")
    priors.delete("a", owner="local")
    assert priors.default_for(SPACE, owner="local") == "b"
    priors.promote(BUNDLED, search_space=SPACE, owner="local")
    priors.delete("b", owner="local")
    assert priors.default_for(SPACE, owner="local") == BUNDLED


def test_a_prior_in_use_is_not_deleted_and_the_refusal_names_its_user(
    database, records, priors, add_prior, add_adaptation, add_meta_run
):
    add_prior("a"), add_prior("b")
    adaptation = add_adaptation(prior="a")
    with pytest.raises(ConflictError, match=adaptation.id):
        priors.delete("a", owner="local")
    records.request_cancel(adaptation.id, owner="local")
    child = add_meta_run(parent="a")
    comparison = add_meta_run(kind="compare", priors=(BUNDLED, "b"))
    for prior_id, user in (("a", child.id), ("b", comparison.id)):
        with pytest.raises(ConflictError, match=user):
            priors.delete(prior_id, owner="local")
    MetaRunRecords(database).request_cancel(child.id, owner="local")
    priors.delete("a", owner="local")
    assert priors.ids(owner="local", limit=10) == ("b",)


def test_what_cannot_be_deleted_stays(priors, add_prior):
    add_prior("theirs", owner="you")
    for prior_id, kind in ((BUNDLED, ConflictError), ("never", NotFoundError), ("theirs", NotFoundError)):
        with pytest.raises(kind):
            priors.delete(prior_id, owner="local")
    assert priors.exists("theirs", owner="you")


def test_deleting_again_finds_nothing(priors, add_prior):
    add_prior("a")
    priors.delete("a", owner="local")
    with pytest.raises(NotFoundError):
        priors.delete("a", owner="local")


def test_a_deletion_waits_until_a_use_is_recorded(database, priors, add_prior):
    add_prior("a")
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as session:
            use_prior(session, "a", owner="local")
            deletion = pool.submit(priors.delete, "a", owner="local")
            with pytest.raises(TimeoutError):
                deletion.result(timeout=0.3)
        deletion.result(timeout=20)


def test_of_a_use_and_a_deletion_at_the_same_time_exactly_one_succeeds(priors, add_prior, add_adaptation):
    add_adaptation()  # so that both threads find their dataset there
    seen = set()
    with ThreadPoolExecutor(2) as pool:
        for number in range(15):
            prior_id, together = add_prior(f"p{number}"), threading.Barrier(2)

            def use(prior_id=prior_id, together=together):
                together.wait(20)
                return outcome(lambda: add_adaptation(prior=prior_id))

            def delete(prior_id=prior_id, together=together):
                together.wait(20)
                return outcome(lambda: priors.delete(prior_id, owner="local"))

            used, deleted = pool.submit(use), pool.submit(delete)
            seen.add((used.result(20), deleted.result(20)))
    assert seen <= {("done", "conflict"), ("not_found", "done")}
