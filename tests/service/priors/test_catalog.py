import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import OperationalError

from search_spaces.errors import UnknownNameError
from service.errors import ConflictError, NotFoundError
from service.priors.catalog import PriorCatalog
from service.records.priors import PriorRecords
from workers.contracts.errors import InvalidPriorError, StoreError
from workers.priors.registry import DEFAULTS, PriorRegistry, bundled_cards

BUNDLED = DEFAULTS["nas_bench_201"]
OWNER = {"owner": "local"}


@pytest.fixture
def priors(database):
    return PriorRecords(database)


@pytest.fixture
def catalog(priors, store):
    return PriorCatalog(priors, store)


@pytest.fixture
def own(catalog, own_card, tensors):
    """The card of a prior that lies in the store."""
    assert catalog.add(own_card, tensors, **OWNER)
    return own_card


def keys(store):
    return {item.key for item in store.list("")}


def listed(catalog, *, owner):
    """All that an owner sees, which is one page here."""
    views, following = catalog.page(None, owner=owner, limit=100)
    assert following is None
    return views


def fail_at(monkeypatch, store, method, key_end):
    """Have a method of the store fail for the keys that end so."""
    whole = getattr(store, method)

    def failing(key, *arguments, **options):
        if key.endswith(key_end):
            raise StoreError("the store does not answer", got=key)
        return whole(key, *arguments, **options)

    monkeypatch.setattr(store, method, failing)


def test_the_bundled_priors_come_first_and_the_bundled_default_holds_until_another_is_promoted(catalog, own):
    assert [view.card.id for view in listed(catalog, **OWNER)] == [*bundled_cards(), own.id]
    defaults = set(DEFAULTS.values())
    assert {view.card.id for view in listed(catalog, **OWNER) if view.default} == defaults
    assert catalog.promote(own.id, **OWNER).default
    assert {view.card.id for view in listed(catalog, **OWNER) if view.default} == defaults - {BUNDLED} | {own.id}
    assert catalog.default_for("nas_bench_201", **OWNER) == own.id
    assert catalog.default_for("nas_bench_201", owner="you") == BUNDLED
    assert catalog.default_for("darts", **OWNER) == DEFAULTS["darts"]


def test_each_owner_sees_the_own_priors_only(catalog, own):
    assert [view.card.id for view in listed(catalog, owner="you")] == [*bundled_cards()]
    for call in (catalog.get, catalog.view, catalog.promote, catalog.delete):
        with pytest.raises(NotFoundError):
            call(own.id, owner="you")
    with pytest.raises(UnknownNameError, match=BUNDLED):
        catalog.card(own.id, owner="you")


@pytest.mark.parametrize("prior_id", ["never", "none", "", "../../etc/passwd", "a/b"])
def test_a_prior_that_is_not_there_is_answered_with_those_that_are(catalog, own, prior_id):
    with pytest.raises(UnknownNameError, match=own.id):
        catalog.card(prior_id, **OWNER)
    with pytest.raises(NotFoundError):
        catalog.view(prior_id, **OWNER)
    with pytest.raises(NotFoundError):
        catalog.delete(prior_id, **OWNER)


@pytest.mark.parametrize("prior_id", [BUNDLED, "own-v1"])
def test_files_are_told_with_sizes_and_hashes(catalog, own, store, prior_id):
    store.put_bytes("priors/own-v1/curves.svg", b"<svg/>")
    prior = catalog.get(prior_id, **OWNER)
    names = ["prior.safetensors", "card.json", *(["curves.svg"] if prior_id == own.id else [])]
    assert [file.name for file in prior.files] == names
    for file in prior.files:
        data = prior.store.get_bytes(prior.key(file.name))
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.num_bytes, file.sha256)
    assert catalog.view(prior_id, **OWNER).files[0].href == f"/v1/priors/{prior_id}/files/prior.safetensors"


def test_a_list_reads_each_prior_once(catalog, own, store, monkeypatch):
    first = listed(catalog, **OWNER)
    fail_at(monkeypatch, store, "get_bytes", "")
    assert listed(catalog, **OWNER) == first


@pytest.mark.parametrize("data", [b"{}", None])
def test_a_prior_that_cannot_be_read_is_left_out_of_the_list_with_a_warning(catalog, priors, store, caplog, data):
    priors.add("odd", search_space="nas_bench_201", **OWNER)
    if data is not None:
        store.put_bytes("priors/odd/card.json", data)
    with caplog.at_level(logging.WARNING, logger="service"):
        assert [view.card.id for view in listed(catalog, **OWNER)] == [*bundled_cards()]
    assert "odd" in caplog.text


def test_a_prior_of_which_the_card_cannot_be_read_says_so(catalog, priors, store):
    priors.add("odd", search_space="nas_bench_201", **OWNER)
    store.put_bytes("priors/odd/card.json", b"{}")
    with pytest.raises(InvalidPriorError, match="odd"):
        catalog.view("odd", **OWNER)


def test_a_store_that_is_down_hides_no_prior_it_fails_the_list(catalog, priors, store, monkeypatch):
    priors.add("odd", search_space="nas_bench_201", **OWNER)
    fail_at(monkeypatch, store, "get_bytes", "card.json")
    with pytest.raises(StoreError):
        listed(catalog, **OWNER)


def test_a_prior_that_was_added_is_found_by_jobs(catalog, own, store, tensors, tmp_path):
    assert PriorRegistry(store).card(own.id) == own
    assert PriorRegistry(store).fetch(own.id, tmp_path).read_bytes() == tensors.read_bytes()


def test_the_same_prior_again_is_no_conflict_and_another_one_is(catalog, own, tensors):
    assert not catalog.add(own, tensors, **OWNER)
    assert not catalog.add(bundled_cards()[BUNDLED], tensors, **OWNER)
    with pytest.raises(ConflictError, match=own.id):
        catalog.add(own.model_copy(update={"num_steps": 1}), tensors, **OWNER)
    with pytest.raises(ConflictError, match=own.id):
        catalog.add(own, tensors, owner="you")
    assert catalog.card(own.id, **OWNER) == own


def test_an_id_does_not_come_back(catalog, own, tensors, store):
    catalog.delete(own.id, **OWNER)
    before = keys(store)
    assert [view.card.id for view in listed(catalog, **OWNER)] == [*bundled_cards()]
    with pytest.raises(ConflictError):
        catalog.add(own, tensors, **OWNER)
    assert keys(store) == before, "housekeeping removes its bytes"


def test_of_two_priors_that_come_with_the_same_id_one_is_kept_whole(catalog, own_card, tensors, store, tmp_path):
    (tmp_path / "other").write_bytes(b"other tensors")
    sha256 = hashlib.sha256(b"other tensors").hexdigest()
    other = own_card.model_copy(update={"sha256": sha256, "num_bytes": 13})

    def add(pair):
        try:
            return catalog.add(*pair, **OWNER)
        except ConflictError:
            return "conflict"

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(add, [(own_card, tensors), (other, tmp_path / "other")]))
    assert sorted(map(str, outcomes)) == ["True", "conflict"]
    kept = PriorRegistry(store).fetch("own-v1", tmp_path).read_bytes()
    assert hashlib.sha256(kept).hexdigest() == catalog.card("own-v1", **OWNER).sha256


@pytest.mark.parametrize(("method", "key"), [("put_file", "prior.safetensors"), ("put_bytes", "card.json")])
def test_an_addition_that_fails_leaves_nothing_and_can_be_tried_again(
    catalog, own_card, tensors, store, monkeypatch, method, key
):
    with monkeypatch.context() as patch:
        fail_at(patch, store, method, key)
        with pytest.raises(StoreError):
            catalog.add(own_card, tensors, **OWNER)
    assert keys(store) == set()
    with pytest.raises(NotFoundError):
        catalog.get(own_card.id, **OWNER)
    assert catalog.add(own_card, tensors, **OWNER)


def test_an_addition_whose_record_fails_leaves_nothing(catalog, priors, own_card, tensors, store, monkeypatch):
    def failing(*_, **__):
        raise ConflictError("a meta-run has taken the id meanwhile")

    monkeypatch.setattr(priors, "add", failing)
    with pytest.raises(ConflictError):
        catalog.add(own_card, tensors, **OWNER)
    assert keys(store) == set()


@pytest.mark.parametrize("went_through", [True, False])
def test_where_nobody_knows_whether_it_was_recorded_the_bytes_stay(
    catalog, priors, own_card, tensors, monkeypatch, went_through
):
    add = priors.add

    def broken_off(*ids, **about):
        if went_through:
            add(*ids, **about)
        raise OperationalError("COMMIT", {}, OSError("the server closed the connection"))

    with monkeypatch.context() as patch:
        patch.setattr(priors, "add", broken_off)
        with pytest.raises(OperationalError):
            catalog.add(own_card, tensors, **OWNER)
    assert catalog.add(own_card, tensors, **OWNER) is not went_through, "the same prior again finds out"
    prior = catalog.get(own_card.id, **OWNER)
    assert prior.store.get_bytes(prior.key("prior.safetensors")) == tensors.read_bytes()


def test_what_cannot_be_removed_after_a_failure_is_told_and_harms_no_second_try(
    catalog, own_card, tensors, store, monkeypatch, caplog
):
    with monkeypatch.context() as patch:
        fail_at(patch, store, "put_bytes", "card.json")
        fail_at(patch, store, "delete", "prior.safetensors")
        with pytest.raises(StoreError), caplog.at_level(logging.WARNING, logger="service"):
            catalog.add(own_card, tensors, **OWNER)
    assert "own-v1" in caplog.text
    assert catalog.add(own_card, tensors, **OWNER)


def test_bytes_that_were_left_under_an_id_do_not_become_part_of_its_prior(catalog, own_card, tensors, store):
    store.put_bytes("priors/own-v1/curves.svg", b"<svg/>")
    assert catalog.add(own_card, tensors, **OWNER)
    assert [file.name for file in catalog.get("own-v1", **OWNER).files] == ["prior.safetensors", "card.json"]


def test_a_prior_that_was_deleted_is_gone_before_its_bytes_are(catalog, own):
    catalog.delete(own.id, **OWNER)
    for call in (catalog.get, catalog.view, catalog.delete):
        with pytest.raises(NotFoundError):
            call(own.id, **OWNER)


def test_a_refused_deletion_removes_no_byte(catalog, own, store):
    catalog.promote(own.id, **OWNER)
    with pytest.raises(ConflictError):
        catalog.delete(own.id, **OWNER)
    assert keys(store) == {"priors/own-v1/card.json", "priors/own-v1/prior.safetensors"}
    assert catalog.card(own.id, **OWNER) == own
