import json
import logging
import re
from datetime import timedelta

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from search_spaces.errors import InvalidOptionError
from service.cli.main import app
from service.client import Client, ServiceError
from service.errors import NotFoundError, UnauthorizedError
from service.http.auth import LOCAL, principal
from service.records.keys import KeyRecords, has_keys
from service.settings import Settings


@pytest.fixture
def keys(database):
    return KeyRecords(database)


@pytest.fixture
def cli(tmp_path):
    def run(*arguments):
        return CliRunner(env={"NO_COLOR": "1"}).invoke(app, [*arguments, "--data-dir", str(tmp_path / "data")])

    return run


def test_a_key_is_found_by_its_token_and_only_its_hash_is_kept(keys, database):
    key, token = keys.create(owner="ann", role="user", name="laptop")
    assert re.fullmatch(r"ap_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", token)
    assert (key.owner, key.role, key.name) == ("ann", "user", "laptop")
    assert keys.find(token) == key
    secret = token.split("_", 2)[2]
    with database.connection() as connection:
        rows = str(connection.execute(text("SELECT * FROM api_keys")).all())
    assert key.id in rows
    assert secret not in rows


@pytest.mark.parametrize(
    "change",
    [lambda token: token[:-1], lambda token: token + "A", lambda token: token.upper(), lambda token: " " + token],
)
def test_another_token_is_no_key(keys, change):
    _, token = keys.create(owner="ann", role="user")
    assert keys.find(change(token)) is None


def test_the_secret_of_another_key_is_not_that_of_this_one(keys):
    (one, first), (_, second) = (keys.create(owner=owner, role="user") for owner in ("ann", "bob"))
    assert keys.find(f"ap_{one.id}_{second.split('_', 2)[2]}") is None
    assert keys.find(first) is not None


def test_a_key_ends_when_it_is_revoked_or_has_run_out(keys):
    key, token = keys.create(owner="ann", role="user")
    revoked = keys.revoke(key.id)
    assert revoked.revoked_at is not None
    assert keys.revoke(key.id) == revoked
    assert keys.find(token) is None
    assert not keys.exist()
    spent, old = keys.create(owner="ann", role="user", expires_days=0)
    later, good = keys.create(owner="ann", role="user", expires_days=2)
    assert spent.expires_at == spent.created_at
    assert abs(later.expires_at - later.created_at - timedelta(days=2)) < timedelta(seconds=1)
    assert (keys.find(old), keys.find(good)) == (None, later)
    with pytest.raises(NotFoundError):
        keys.revoke("0" * 12)


def test_a_service_does_not_open_because_its_keys_have_run_out(keys):
    keys.create(owner="ann", role="user", expires_days=0)
    with pytest.raises(UnauthorizedError):
        principal("", keys, may_be_open=True)


def test_a_service_does_not_open_for_whoever_held_its_last_key(keys):
    key, token = keys.create(owner="ann", role="user")
    keys.revoke(key.id)
    for header in ("", f"Bearer {token}"):
        with pytest.raises(UnauthorizedError):
            principal(header, keys, may_be_open=True)
    _, new = keys.create(owner="ann", role="user")
    assert principal(f"Bearer {new}", keys, may_be_open=True).owner == "ann"


@pytest.mark.parametrize("days", [-1, 36_501, float("nan"), float("inf")])
def test_a_key_ends_within_a_hundred_years(keys, days):
    with pytest.raises(InvalidOptionError):
        keys.create(owner="ann", role="user", expires_days=days)


def test_the_last_use_of_a_key_is_noted_once_a_minute(keys):
    _, token = keys.create(owner="ann", role="user")
    keys.find(token)
    (noted,) = keys.all()
    assert noted.last_used_at is not None
    keys.find(token)
    assert keys.all() == (noted,)


@pytest.mark.parametrize("owner", ["", "a b", "../x", "ä", "-x", "x" * 65, "a\0b"])
def test_names_of_owners_are_plain(keys, owner):
    with pytest.raises(InvalidOptionError):
        keys.create(owner=owner, role="user")


def test_without_keys_everyone_who_may_reach_the_service_is_its_local_operator(keys):
    assert principal("", keys, may_be_open=True) == LOCAL
    assert principal("Bearer of-another-service", keys, may_be_open=True) == LOCAL
    with pytest.raises(UnauthorizedError):  # its last key was revoked while it listens beyond this machine
        principal("", keys, may_be_open=False)


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER  {}"])
def test_the_scheme_is_read_as_http_says(keys, header):
    _, token = keys.create(owner="ann", role="operator")
    found = principal(header.format(token), keys, may_be_open=True)
    assert (found.owner, found.role) == ("ann", "operator")
    for other in (token, f"Basic {token}", f"Bearer {token} x"):
        with pytest.raises(UnauthorizedError):
            principal(other, keys, may_be_open=True)


def test_records_of_an_earlier_version_have_no_keys(database, keys):
    assert not has_keys(database)
    keys.create(owner="ann", role="user")
    assert has_keys(database)
    with database.connection() as connection:
        connection.execute(text("DROP TABLE api_keys"))
    assert not has_keys(database)


def test_the_command_line_makes_lists_and_revokes_keys(cli):
    made = json.loads(cli("keys", "create", "--owner", "ann", "--role", "operator", "--json").stdout)
    plain = cli("keys", "create", "--owner", "bob", "--name", "robot", "--expires-days", "30")
    token = plain.stdout.strip()
    assert re.fullmatch(r"ap_\w{12}_\S{43}", token)
    listed = cli("keys", "list")
    assert all(word in listed.stdout for word in ("ann", "bob", "robot", "operator", made["id"]))
    assert token.split("_", 2)[2] not in listed.stdout
    assert json.loads(cli("keys", "revoke", made["id"], "--json").stdout)["revoked_at"] is not None
    unknown = cli("keys", "revoke", "nothing", "--json")
    assert unknown.exit_code == 1
    assert json.loads(unknown.stdout)["error"]["code"] == "not_found"
    assert cli("keys", "create", "--owner", "a b").exit_code == 2
    assert cli("keys", "create", "--owner", "ann", "--role", "king").exit_code == 2


@pytest.mark.parametrize("command", [("keys", "list"), ("owners", "list"), ("serve",)])
def test_records_that_cannot_be_read_are_told_without_a_traceback(cli, tmp_path, monkeypatch, command):
    monkeypatch.setattr("service.cli.serve.exit_on_signals", lambda: None)  # these are the whole process's
    (tmp_path / "data" / "records.sqlite3").mkdir(parents=True)
    failed = cli(*command)
    assert failed.exit_code == 1
    assert "the records cannot be used" in failed.stderr


def test_the_command_line_sets_quotas(cli):
    cli("keys", "create", "--owner", "ann")
    found = json.loads(cli("owners", "quota", "ann", "--max-bytes", "1000", "--json").stdout)
    assert (found["max_bytes"], found["max_unfinished"], found["num_bytes"]) == (1000, None, 0)
    found = json.loads(cli("owners", "quota", "ann", "--max-unfinished", "0", "--json").stdout)
    assert (found["max_bytes"], found["max_unfinished"]) == (1000, 0)
    assert "1,000" in cli("owners", "list").stdout
    found = json.loads(cli("owners", "quota", "ann", "--defaults", "--json").stdout)
    assert (found["max_bytes"], found["max_unfinished"]) == (None, None)
    assert cli("owners", "quota", "eve", "--max-bytes", "1").exit_code == 1
    assert cli("owners", "quota", "ann", "--max-bytes", "1", "--defaults").exit_code == 2


def test_keys_made_while_the_service_runs_count_at_once_and_revoked_ones_no_more(service, monkeypatch):
    data_dir = str(service.parts.settings.data_dir)
    assert service.client.get("/v1/datasets").status_code == 200
    made = json.loads(
        CliRunner().invoke(app, ["keys", "create", "--owner", "ann", "--data-dir", data_dir, "--json"]).stdout
    )
    KeyRecords(service.parts.database).create(owner="bob", role="user")
    assert service.client.get("/v1/datasets").status_code == 401
    url = str(service.client.base_url)
    monkeypatch.setenv("ARCHPRIOR_API_KEY", made["key"])
    with Client(url) as by_variable:
        assert by_variable.datasets().items == ()
        CliRunner().invoke(app, ["keys", "revoke", made["id"], "--data-dir", data_dir])
        with pytest.raises(ServiceError, match="revoked") as caught:
            by_variable.datasets()
    assert caught.value.problem.status == 401
    with Client(url, api_key="nothing") as by_argument, pytest.raises(ServiceError, match="not known"):
        by_argument.datasets()


@pytest.mark.parametrize("bad", ["two words", "a\nb", "schlüssel"])
def test_what_is_no_key_is_not_sent_and_not_told(bad):
    with pytest.raises(InvalidOptionError) as caught:
        Client("http://127.0.0.1:1", api_key=bad)
    assert bad not in str(caught.value)


def test_secrets_are_in_no_log_no_answer_and_no_repr(new_tenants, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with new_tenants() as tenants:
        answers = [tenants.ask("GET", "/v1/datasets", token=token) for token in (tenants.ann, tenants.revoked, "ap_x")]
        answers.append(tenants.ask("POST", "/v1/meta-runs", token=tenants.ann, json={}))
        answers.append(tenants.ask("GET", "/v1/audit", token=tenants.operator))
        found = principal(f"Bearer {tenants.ann}", tenants.keys, may_be_open=False)
        with Client(str(tenants.service.client.base_url), api_key=tenants.ann) as client:
            client.datasets()
            told = [repr(client), repr(client._connection), repr(client._calls), repr(found)]
        told += [repr(tenants.keys.all()), caplog.text, *capfd.readouterr(), *(one.text for one in answers)]
        assert "no good key" in caplog.text
        for token in (tenants.ann, tenants.bob, tenants.operator, tenants.revoked):
            secret = token.split("_", 2)[2]
            assert all(secret not in text for text in told)


@pytest.mark.parametrize("origins", ["*", "lab.example", "https://lab.example/", "ftp://lab.example", "null"])
def test_origins_are_origins(origins, monkeypatch, tmp_path):
    monkeypatch.setenv("ARCHPRIOR_CORS_ORIGINS", origins)
    with pytest.raises(ValueError, match="no origin"):
        Settings(data_dir=tmp_path)
