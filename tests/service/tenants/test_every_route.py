"""Found by walking the app's routes, so that a new one is asked, too."""

import json
import re

import pytest
from fastapi.routing import iter_route_contexts

from service.app import create_app
from service.http.auth import OPEN_PATHS
from service.settings import Settings

ROUTES = sorted(
    (method, context.path)
    for context in iter_route_contexts(create_app(Settings()).routes)
    for method in context.methods
)
CLOSED = [(method, path) for method, path in ROUTES if path not in OPEN_PATHS]
# What a path names that has an owner. A new name has to be listed here, or among those that belong to everyone.
OWNED = {"dataset_id", "adaptation_id", "meta_run_id", "prior_id", "webhook_id"}
EVERYONES = {"/v1/search-spaces/{name}"}
OF_SOMEBODY = [(method, path) for method, path in CLOSED if "{" in path and path not in EVERYONES]


def names(path):
    return re.findall(r"{(\w+)}", path)


def filled(path, ids):
    return re.sub(r"{(\w+)}", lambda found: {"number": "1", **ids}.get(found[1], "metrics.json"), path)


def told(response, ids):
    """What a refusal says, but for what it was asked for."""
    text = response.text
    for name in {*ids.values(), "no-such-thing"}:
        text = text.replace(name, "it")
    return {name: value for name, value in json.loads(text).items() if name != "request_id"}


def refused(response, status):
    assert response.status_code == status, response.text
    if response.request.method != "HEAD":
        assert response.json()["status"] == status
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.fixture(scope="module")
def ids(tenants, own_card, tensors):
    """What of Ann's the paths name; a meta-run and a prior are recorded as their routes would."""
    from service.records.meta_runs import MetaRunRecords
    from workers.contracts.meta_runs import MetaRunRequest

    database = tenants.service.parts.database
    request = MetaRunRequest.model_validate(tenants.meta_run)
    meta_run = MetaRunRecords(database).add(request, (), owner="ann")
    card = own_card.model_copy(update={"id": "ann-v0"})
    assert tenants.service.parts.prior_catalog.add(card, tensors, owner="ann")
    nowhere = {"url": "https://lab.example", "kinds": ["dataset.rejected"]}  # which none of these is
    webhook = tenants.ask("POST", "/v1/webhooks", token=tenants.ann, json=nowhere).json()
    return {**tenants.ids, "meta_run_id": meta_run.id, "prior_id": "ann-v0", "webhook_id": webhook["id"]}


def test_the_walk_has_found_them():
    assert ("POST", "/v1/adaptations") in CLOSED
    assert len(CLOSED) > 25
    assert {path for _, path in ROUTES} >= OPEN_PATHS
    for _, path in OF_SOMEBODY:
        assert names(path)[0] in OWNED, f"whose is what {path} names?"


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_no_route_answers_without_a_good_key(tenants, ids, method, path):
    wrong = tenants.ann[:-4] + ("AAAA" if not tenants.ann.endswith("AAAA") else "BBBB")
    for token in (None, "nonsense", wrong, tenants.revoked):
        response = tenants.ask(method, filled(path, ids), token=token, json={})
        refused(response, 401)
        assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), OF_SOMEBODY)
def test_no_route_tells_of_what_another_owner_has(tenants, ids, method, path):
    nothing = dict.fromkeys(ids, "no-such-thing")
    for token in (tenants.bob, tenants.operator):
        of_ann, of_nobody = (tenants.ask(method, filled(path, named), token=token, json={}) for named in (ids, nothing))
        refused(of_ann, 404)
        assert told(of_ann, ids) == told(of_nobody, ids)


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_whoever_watches_the_service_needs_no_key(tenants, path):
    assert tenants.ask("GET", path).status_code == 200


def test_no_list_shows_what_another_owner_has(tenants, ids):
    for path in ("/v1/datasets", "/v1/adaptations", "/v1/meta-runs"):
        assert tenants.ask("GET", path, token=tenants.bob).json()["items"] == []
        assert len(tenants.ask("GET", path, token=tenants.ann).json()["items"]) == 1
    # Whoever sees to the service reads in its audit log what everybody has asked for.
    lists = [path for method, path in CLOSED if method == "GET" and "{" not in path and path != "/v1/audit"]
    for token, listed in ((tenants.bob, False), (tenants.operator, False), (tenants.ann, True)):
        text = "".join(tenants.ask("GET", path, token=token).text for path in lists)
        assert {name: name in text for name in ids.values()} == dict.fromkeys(ids.values(), listed)


def test_no_body_reaches_what_another_owner_has(tenants, ids):
    for path, body, status in (
        ("/v1/adaptations", {"dataset_id": ids["dataset_id"], "prior": "none"}, 404),
        ("/v1/adaptations", {"dataset_id": ids["dataset_id"], "prior": "ann-v0"}, 422),  # as any name that is unknown
        ("/v1/meta-runs", {"datasets": [{"dataset_id": ids["dataset_id"]}]}, 404),
    ):
        refused(tenants.ask("POST", path, token=tenants.bob, json=body), status)


def test_a_body_is_not_read_before_the_key(tenants):
    response = tenants.ask("POST", "/v1/meta-runs", content=b"{", headers={"Content-Type": "application/json"})
    refused(response, 401)


def test_every_answer_is_documented(tenants):
    paths = tenants.ask("GET", "/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert ("security" in operation) == (path not in OPEN_PATHS), (method, path)
            assert ("401" in operation["responses"]) == (path not in OPEN_PATHS), (method, path)
    for path in ("/v1/adaptations", "/v1/datasets", "/v1/meta-runs", "/v1/priors/compare"):
        assert "429" in paths[path]["post"]["responses"], path
