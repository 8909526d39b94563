import pytest

from service.records.audit import AuditRecords, Deed


def deeds(tenants, **query):
    response = tenants.ask("GET", "/v1/audit", token=tenants.operator, params={"limit": 100, **query})
    assert response.status_code == 200, response.text
    return response.json()["items"]


def test_each_request_for_a_change_is_one_line(new_tenants):
    with new_tenants() as tenants:
        before = len(deeds(tenants))
        asked = {"token": tenants.bob, "headers": {"X-Request-Id": "mine-1"}}
        tenants.ask("POST", "/v1/adaptations/ad-000000000000/cancel", **asked)
        tenants.ask("GET", "/v1/datasets", token=tenants.bob)
        tenants.ask("DELETE", "/v1/nowhere/" + "x" * 600, token=tenants.bob)
        tenants.ask("POST", "/v1/adaptations", json={"nonsense": 1}, token=tenants.ann)
        tenants.ask("POST", "/v1/adaptations")
        tenants.ask("POST", "/healthz")
        refused, nowhere, cancelled = deeds(tenants)[: -before or None]
    assert (refused["owner"], refused["action"], refused["status"]) == ("ann", "create_adaptation", 422)
    assert (nowhere["action"], nowhere["status"], len(nowhere["path"])) == ("none", 404, 512)
    assert cancelled.pop("at").endswith("Z")
    assert cancelled == {
        "owner": "bob",
        "key_id": tenants.bob.split("_")[1],
        "request_id": "mine-1",
        "action": "cancel_adaptation",
        "path": "/v1/adaptations/ad-000000000000/cancel",
        "status": 404,
    }


def test_what_was_done_without_keys_is_in_it_too(service, small_zip):
    service.add_dataset(small_zip)
    (deed,) = service.client.get("/v1/audit").json()["items"]
    assert (deed["owner"], deed["key_id"], deed["action"], deed["status"]) == ("local", None, "create_dataset", 201)


def test_an_upload_is_answered_although_the_log_cannot_be_written(service, small_zip, monkeypatch, caplog):
    from sqlalchemy import text

    with service.parts.database.connection() as connection:
        connection.execute(text("ALTER TABLE audit RENAME TO elsewhere"))
    service.add_dataset(small_zip)
    assert "is missing in the audit log" in caplog.text


def test_a_failure_is_in_it(tenants, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(type(tenants.service.parts.adaptations), "request_cancel", fail)
    path = f"/v1/adaptations/{tenants.ids['adaptation_id']}/cancel"
    assert tenants.ask("POST", path, token=tenants.ann).status_code == 500
    newest = deeds(tenants)[0]
    assert (newest["action"], newest["status"]) == ("cancel_adaptation", 500)


def test_it_is_for_operators(tenants):
    response = tenants.ask("GET", "/v1/audit", token=tenants.ann)
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert tenants.ask("GET", "/metrics", token=tenants.ann).status_code == 403
    assert tenants.ask("GET", "/metrics", token=tenants.operator).status_code == 200


def test_it_comes_in_parts_and_by_owner(database):
    records = AuditRecords(database)
    for number in range(7):
        owner = "ann" if number % 2 else "bob"
        records.add(Deed(owner=owner, key_id=None, request_id=str(number), action="x", path="/", status=200))
    seen, cursor = [], None
    while True:
        items, cursor = records.page(owner=None, limit=3, cursor=cursor)
        seen += [item.request_id for item in items]
        if cursor is None:
            break
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]
    items, _ = records.page(owner="ann", limit=10)
    assert [item.request_id for item in items] == ["5", "3", "1"]


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "٣", "9" * 30])
def test_a_cursor_of_another_kind_is_refused(tenants, cursor):
    response = tenants.ask("GET", "/v1/audit", token=tenants.operator, params={"cursor": cursor})
    assert response.status_code == 422
